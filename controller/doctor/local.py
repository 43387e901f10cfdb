"""Checks the config as a whole, and the docker daemon of this machine."""

import asyncio
from functools import partial

from controller.config import Config
from controller.doctor.findings import Findings, ok, problem
from controller.doctor.threads import in_own_thread
from controller.preflight import problems_of
from controller.threads import Cancellation
from reconcile.errors import DockerCacheError

CONFIG = "config"
DOCKER = "docker"

_DOCKER_IDLE = 5.0  # seconds


async def check_config(config: Config) -> Findings:
    """Say whether the daemon would start with the config; its warnings are the matter of other checks."""
    problems = await asyncio.to_thread(lambda: list(problems_of(config)))
    for text in problems:
        yield problem(CONFIG, text, "correct it: `diego-docker-cache config example` describes every key")
    if not problems:
        text = f"the config can be used, for {config.bbs_address} and {config.cache_registry.address}"
        yield ok(CONFIG, text)


async def check_docker(config: Config) -> Findings:
    """Ask the docker daemon for its version, where the engine is "docker"."""
    if config.docker_socket is None:
        return
    try:
        await in_own_thread(partial(_ask_docker, config.docker_socket.removeprefix("unix://")))
    except DockerCacheError as error:
        advice = f"check that the docker daemon runs, and that this user can open {config.docker_socket}"
        yield problem(DOCKER, str(error), advice)
    else:
        yield ok(DOCKER, f"the docker daemon at {config.docker_socket} answers")


def _ask_docker(path: str, cancellation: Cancellation) -> None:
    from controller.engines.docker_client import DockerClient  # noqa: PLC0415

    with DockerClient(path, idle=_DOCKER_IDLE, cancellation=cancellation):
        pass  # opening it asks for the version
