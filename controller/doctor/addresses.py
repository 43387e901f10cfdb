"""Looks at the private registry's address with the eyes of a cell, as far as that can be done from here."""

import asyncio
import socket
from ipaddress import ip_address

from controller.config import Config
from controller.doctor.findings import Findings, ok, warning
from controller.registry.http.settings import RegistrySettings, api_url
from reconcile.errors import DockerCacheError

CELLS_VIEW = "cells-view"


async def check_cells_view(config: Config) -> Findings:
    """Say what of the private registry's address may be wrong on a cell."""
    address = config.cache_registry.address
    try:
        origin = api_url(address, RegistrySettings(plain_http=config.cache_registry.plain_http)).origin
    except DockerCacheError as error:
        yield warning(CELLS_VIEW, str(error), "put cache_registry.address right")
        return
    doubts = [each async for each in _doubts(origin.host, origin.port)]
    if config.cache_registry.plain_http:
        doubts.append(
            warning(
                CELLS_VIEW,
                f"{address} is spoken to without TLS",
                f"list {origin.host}:{origin.port} in grootfs.insecure_docker_registry_list of the cells' "
                "garden, or give the registry a certificate",
            )
        )
    for doubt in doubts:
        yield doubt
    if not doubts:
        yield ok(CELLS_VIEW, f"{address} resolves here; cells must reach it under this very name")


async def _doubts(host: str, port: int) -> Findings:
    if _is_loopback(host):
        advice = "give cache_registry.address a name that leads there from cells too"
        yield warning(CELLS_VIEW, f"{host} is this machine to whoever asks", advice)
    if host.endswith(".internal"):
        advice = (
            "see that cells reach it under this very name: only BOSH DNS on VMs of the deployment knows it"
        )
        yield warning(CELLS_VIEW, f"{host} is a name of BOSH DNS", advice)
    try:
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name"
        advice = "see that the name in cache_registry.address is right, and that this machine's DNS knows it"
        yield warning(CELLS_VIEW, f"{host} does not resolve here: {reason}", advice)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
