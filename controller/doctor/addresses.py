"""Checks the private registry's address as a cell would use it, as far as this machine can tell."""

import asyncio
import socket
from ipaddress import ip_address

from controller.config import Config
from controller.doctor.findings import Findings, ok, warning
from controller.registry.http.settings import RegistrySettings, api_url
from reconcile.errors import DockerCacheError

CELLS_VIEW = "cells-view"


async def check_cells_view(config: Config) -> Findings:
    """Report what may be wrong with the private registry's address on a cell."""
    address = config.cache_registry.address
    try:
        origin = api_url(address, RegistrySettings(plain_http=config.cache_registry.plain_http)).origin
    except DockerCacheError as error:
        yield warning(CELLS_VIEW, str(error), "correct cache_registry.address")
        return
    doubts = [each async for each in _doubts(origin.host, origin.port)]
    if config.cache_registry.plain_http:
        doubts.append(
            warning(
                CELLS_VIEW,
                f"{address} is used without TLS",
                f"list {origin.host}:{origin.port} in grootfs.insecure_docker_registry_list of the cells' "
                "garden, or give the registry a certificate",
            )
        )
    for doubt in doubts:
        yield doubt
    if not doubts:
        yield ok(CELLS_VIEW, f"{address} resolves on this machine; cells must reach it under the same name")


async def _doubts(host: str, port: int) -> Findings:
    if _is_loopback(host):
        advice = "write a name into cache_registry.address that leads to the registry on cells too"
        yield warning(CELLS_VIEW, f"{host} is a loopback address, which leads each cell to itself", advice)
    if host.endswith(".internal"):
        advice = (
            "check that cells reach it under this name: only BOSH DNS on VMs of the deployment resolves it"
        )
        yield warning(CELLS_VIEW, f"{host} is a name of BOSH DNS", advice)
    try:
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        advice = "check the name in cache_registry.address, and that this machine's DNS resolves it"
        yield warning(CELLS_VIEW, f"{host} does not resolve on this machine: {reason}", advice)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
