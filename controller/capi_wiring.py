"""Builds the client of Cloud Controller from the config, and watches how its requests end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from controller.capi.client import CloudController, open_capi
from controller.capi.settings import CapiSettings, Clocks
from controller.capi.state import ApiCall, ApiObserver, ApiOutcome
from controller.capi.uaa import UaaClient
from controller.config import Config, read_secret
from controller.file_values import FileValue
from controller.leadership.lease import ActiveLease
from controller.metrics import Metrics
from controller.process import Process
from controller.transport import trusting_tls
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.errors import ErrorCode, Invalid
from reconcile.lease import always
from reconcile.lrps import Secret
from reconcile.request_budget import BudgetSettings

log = structlog.get_logger(scope="cloud-controller")

FAILING_FOR = 30.0
"""Seconds of failures after which the log says so: single ones may have a reason in what was asked."""


@asynccontextmanager
async def open_cloud_controller(
    config: Config, *, lease: ActiveLease, process: Process
) -> AsyncIterator[CloudController | None]:
    """Open the client that the active instance uses; None where the config names no Cloud Controller.

    Raises:
        Invalid: A file of the config cannot be used.
    """
    settings = await asyncio.to_thread(capi_settings, config, unacknowledged=lease.confirmed_within)
    if settings is None:
        yield None
        return
    async with open_configured(
        config,
        settings,
        check_active=lease.check,
        observer=RequestWatch(process.metrics, process.clock),
        clocks=Clocks(process.monotonic, process.clock),
    ) as opened:
        yield opened


@asynccontextmanager
async def open_configured(
    config: Config,
    settings: CapiSettings,
    *,
    check_active: Callable[[], None] = always,
    observer: ApiObserver | None = None,
    clocks: Clocks = Clocks(),  # noqa: B008 - a frozen value
) -> AsyncIterator[CloudController]:
    """Open a client with the authorities of the config; raises as `open_cloud_controller`."""
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


class RequestWatch:
    """Counts requests, shows in metrics what is known after each, and logs when that changes for long.

    Args:
        metrics: Of the process.
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self._is_failing = False
        self._missing: tuple[str, ...] = ()

    def asked(self, call: ApiCall, outcome: ApiOutcome, status: CloudControllerStatus) -> None:
        """Take note of one request."""
        self._metrics.cloud_controller_requests.labels(call, outcome).inc()
        self._metrics.cloud_controller_requests_left.set(status.requests_left)
        self._metrics.cloud_controller_last_success.set(status.last_success or 0)
        self._metrics.cloud_controller_failing_since.set(status.failing_since or 0)
        self._log_health(status)
        self._log_scopes(status.missing_scopes)

    def _log_health(self, status: CloudControllerStatus) -> None:
        since, now = status.failing_since, self._clock()
        if since is not None and now - since >= FAILING_FOR and not self._is_failing:
            self._is_failing = True
            log.error("failing", address=status.address, error=status.error, for_s=round(now - since))
        if since is None and self._is_failing and status.reachable_since is not None:
            self._is_failing = False
            log.info("answers-again", address=status.address)

    def _log_scopes(self, missing: tuple[str, ...]) -> None:
        if missing != self._missing:
            self._missing = missing
            if missing:
                log.error("scopes-missing", scopes=list(missing))
