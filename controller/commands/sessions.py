"""Opens what a command talks to: a running daemon, or a process of its own in a daemon's place."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from controller.admin.client import AdminClient, ClientTls, open_client
from controller.admin.client_config import load_admin_client_config

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """What a command talks to.

    Attributes:
        config_path: The daemon's config file.
        is_direct: There is no daemon: the command does in its own process what the daemon would.
    """

    config_path: Path
    is_direct: bool = False


def call(target: Target, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    """Run an operator's work with a client, and give what it comes to.

    Raises:
        ConfigError: The config file cannot be used.
        Conflict: `store-in-use`: a daemon is running, so nothing can be done beside it.
        KeyboardInterrupt: A signal ended it.
    """
    return asyncio.run(_call_aside(target, work) if target.is_direct else _call(target, work))


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


async def _call_aside(target: Target, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    from controller import daemon
    from controller.logs import configure_logs
    from controller.preflight import load_usable_config

    config = load_usable_config(target.config_path)
    configure_logs("error", sys.stderr)
    results = list[T]()

    async def with_client(address: str) -> None:
        try:
            async with open_client(address, None) as client:
                results.append(await work(client))
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):  # the terminal may be gone
                click.echo("finishing what was begun; once more Ctrl-C leaves it to the next run", err=True)
            raise

    try:
        await daemon.run_standalone(config, with_client)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return results[0]
