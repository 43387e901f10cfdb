"""Builds the client of Cloud Controller from the config."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from controller.capi.client import CloudController, open_capi
from controller.capi.settings import CapiSettings, Clocks
from controller.capi.state import ApiObserver
from controller.capi.uaa import UaaClient
from controller.config import Config, read_secret
from controller.file_values import FileValue
from controller.transport import trusting_tls
from reconcile.errors import ErrorCode, Invalid
from reconcile.lease import always
from reconcile.lrps import Secret
from reconcile.request_budget import BudgetSettings


@asynccontextmanager
async def open_configured(
    config: Config,
    settings: CapiSettings,
    *,
    check_active: Callable[[], None] = always,
    observer: ApiObserver | None = None,
    clocks: Clocks = Clocks(),  # noqa: B008 - a frozen value
) -> AsyncIterator[CloudController]:
    """Open a client with the authorities of the config; see `controller.capi.client.open_capi`.

    Raises:
        Invalid: The file of the authorities cannot be used.
    """
    tls = await asyncio.to_thread(trusting_tls, config.cloud_controller_ca_cert_file)
    async with open_capi(
        settings, tls=tls, check_active=check_active, observer=observer, clocks=clocks
    ) as opened:
        yield opened


def capi_settings(config: Config, *, unacknowledged: float | None = None) -> CapiSettings | None:
    """Read how Cloud Controller is asked; None where the config names none; blocks."""
    url, client_id, file = (
        config.cloud_controller_api_url,
        config.uaa_client_id,
        config.uaa_client_secret_file,
    )
    if url is None or client_id is None or file is None:
        return None
    budget = BudgetSettings(
        config.cloud_controller_requests_per_hour, config.cloud_controller_background_share
    )
    return CapiSettings(
        url,
        UaaClient(client_id, _secret(file)),
        budget,
        updates=config.update_droplets,
        timeout=config.communication_timeout,
        unacknowledged=unacknowledged,
    )


def _secret(file: Path) -> FileValue[Secret]:
    """Follow a secret; an empty file is one that is being written."""

    def read() -> Secret:
        try:
            text = read_secret(file)
        except UnicodeDecodeError:  # whose text has a part of the file in it
            raise _unusable(f"{file}: it holds no text in UTF-8") from None
        except OSError as error:
            raise _unusable(f"{file}: {error.strerror}") from error
        if not text:
            raise _unusable(f"{file}: it is empty")
        return Secret(text)

    return FileValue((file,), read)


def _unusable(detail: str) -> Invalid:
    return Invalid("config", ErrorCode.UNREADABLE_FILE, f"uaa_client_secret_file: {detail}")
