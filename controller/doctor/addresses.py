"""Checks from this machine whether cells can use the private registry's address."""

import asyncio
import socket
from ipaddress import ip_address

from controller.config import Config
from controller.doctor.findings import Findings, ok, warning
from controller.registry.http.settings import RegistrySettings, api_url
from reconcile.errors import DockerCacheError

CELLS_VIEW = "cells-view"


async def check_cells_view(config: Config) -> Findings:
    """Warn about an address of the private registry that cells may be unable to use."""
    address = config.cache_registry.address
    try:
        origin = api_url(address, RegistrySettings(plain_http=config.cache_registry.plain_http)).origin
    except DockerCacheError as error:
        yield warning(CELLS_VIEW, str(error), "correct cache_registry.address")
        return
    warnings = [each async for each in _warnings_about(origin.host, origin.port)]
    if config.cache_registry.plain_http:
        warnings.append(
            warning(
                CELLS_VIEW,
                f"{address} is used without TLS",
                f"list {origin.host}:{origin.port} in grootfs.insecure_docker_registry_list of the cells' "
                "garden job, or give the registry a certificate",
            )
        )
    for each in warnings:
        yield each
    if not warnings:
        yield ok(CELLS_VIEW, f"{address} resolves on this machine; cells must reach it under the same name")


async def _warnings_about(host: str, port: int) -> Findings:
    if _is_loopback(host):
        advice = "use a host name in cache_registry.address that cells can resolve too"
        yield warning(CELLS_VIEW, f"{host} is a loopback address, which on a cell is the cell itself", advice)
    if host.endswith(".internal"):
        advice = (
            "check that cells reach the registry under this name: only BOSH DNS resolves it, on the VMs "
            "of its deployments"
        )
        yield warning(CELLS_VIEW, f"{host} is a BOSH DNS name", advice)
    try:
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a valid host name"
        advice = "check the name in cache_registry.address, and that this machine's DNS resolves it"
        yield warning(CELLS_VIEW, f"{host} does not resolve on this machine: {reason}", advice)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
