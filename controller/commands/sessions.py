"""Connects a command to a running daemon, or does its work in the command's own process."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from controller.admin.admin_client import AdminClient, ClientTls, open_client
from controller.admin.client_config import load_admin_client_config

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """The daemon that a command works with.

    Attributes:
        config_path: The daemon's config file.
        is_direct: There is no daemon: the command does the daemon's work in its own process.
    """

    config_path: Path
    is_direct: bool = False


def call(target: Target, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    """Run a command's work with a client, and return its result.

    Raises:
        ConfigError: The config file cannot be used.
        Conflict: `store-in-use`: a daemon is running, so nothing can be done beside it.
        KeyboardInterrupt: A signal ended it.
    """
    return asyncio.run(_call_directly(target, work) if target.is_direct else _call(target, work))


async def _call(target: Target, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    config = load_admin_client_config(target.config_path)
    tls = None
    if not config.admin_without_tls:
        ca, cert, key = (
            config.admin_ca_cert_file,
            config.admin_client_cert_file,
            config.admin_client_key_file,
        )
        if ca is None or cert is None or key is None:
            raise AssertionError("the config was checked")
        tls = ClientTls(ca, cert, key, config.admin_server_name)
    async with open_client(config.admin_address, tls) as client:
        return await work(client)


async def _call_directly(target: Target, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    from controller import daemon
    from controller.library_logs import capture_library_lines
    from controller.logs import configure_logs
    from controller.preflight import load_usable_config

    config = load_usable_config(target.config_path)
    configure_logs("error", sys.stderr)
    capture_library_lines()
    results = list[T]()

    async def with_client(address: str) -> None:
        async with open_client(address, None) as client:
            results.append(await work(client))

    try:
        await daemon.run_standalone(config, with_client)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return results[0]
