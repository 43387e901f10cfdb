"""Looks at what lies on this machine beside the store: the config, the docker daemon, a daemon of ours."""

import asyncio
import contextlib
from functools import partial

from controller.config import Config
from controller.doctor.findings import Findings, ok, problem, warning
from controller.doctor.threads import in_own_thread
from controller.registry.cancellation import Cancellation
from reconcile.errors import DockerCacheError

CONFIG = "config"
DOCKER = "docker"
ADMIN = "admin"

_DOCKER_IDLE = 5.0  # seconds


async def check_config(config: Config) -> Findings:
    """Say that the config could be loaded; its warnings are each the matter of another check."""
    yield ok(CONFIG, f"the config can be used, for {config.bbs_address} and {config.cache_registry.address}")


async def check_docker(config: Config) -> Findings:
    """Ask the docker daemon for its version, where images are copied through one."""
    if config.docker_socket is None:
        return
    try:
        await in_own_thread(partial(_ask_docker, config.docker_socket.removeprefix("unix://")))
    except DockerCacheError as error:
        advice = f"see that the docker daemon runs, and that this user may open {config.docker_socket}"
        yield problem(DOCKER, str(error), advice)
    else:
        yield ok(DOCKER, f"the docker daemon at {config.docker_socket} answers")


def _ask_docker(path: str, cancellation: Cancellation) -> None:
    from controller.engines.docker_client import DockerClient  # noqa: PLC0415 - most deployments go without it

    with DockerClient(path, idle=_DOCKER_IDLE, cancellation=cancellation):
        pass  # it asks for the version by itself


async def check_admin(config: Config) -> Findings:
    """Knock at the admin address, if there is one; no daemon has to run."""
    address = config.admin_address
    if address is None:
        return
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, OverflowError, UnicodeError) as error:
        reason = "the connection was refused" if isinstance(error, ConnectionRefusedError) else str(error)
        text = f"no daemon listens at {address}: {reason}"
        yield warning(ADMIN, text, "start it, or see that admin_address is right")
    else:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        yield ok(ADMIN, f"a daemon listens at {address}")
