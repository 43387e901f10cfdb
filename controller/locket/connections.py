"""Keeps a connection to Locket, and replaces it when its files have changed or nobody answers over it.

Source: cloudfoundry/locket locket_client.go; gRPC core's channel arguments (grpc/impl/channel_arg_names.h).
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from controller.file_values import FileValue
from controller.grpc_clients import common_options, follow_files
from controller.mutual_tls import MutualTls
from protos.locket.locket_pb2_grpc import LocketStub
from reconcile.errors import DockerCacheError, Unavailable

MAX_MESSAGE = 64 * 1024
"""Bytes of an answer; a row of Locket has 5 KiB at most."""

SHORTEST_KEEP_ALIVE = 10
"""Seconds between two pings at least, as gRPC's implementation in Go has it."""

LOOK_WITHIN = 0.5
"""Seconds that a look at the files may delay a call; a disk that does not answer must not cost the lock."""

_CONNECT_WITHIN_MS = 2_000
"""Milliseconds for one address and its TLS handshake: others get their turns before the lock is lost."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """When a connection over which a call is under way is tested.

    There are no tests while no call is under way: Locket's server closes connections of clients that do so.

    Attributes:
        time: Seconds of silence after which a ping is sent; 0 sends none.
        timeout: Seconds after which a ping without an answer closes the connection.
    """

    time: int
    timeout: int


@dataclass(frozen=True, slots=True)
class _Connection:
    channel: grpc.aio.Channel
    credentials: grpc.ChannelCredentials
    stub: Any


class Connections:
    """Lends out connections to Locket, each to one call at a time, and keeps one between calls.

    Args:
        address: "host:port"; of several addresses of a host the first one that answers is used.
        files: Makes the credentials of the files, and follows them.
        keep_alive: When a connection is tested.
    """

    def __init__(
        self, address: str, files: FileValue[grpc.ChannelCredentials], keep_alive: KeepAlive
    ) -> None:
        self.address = address
        self._files, self._options = files, channel_options(keep_alive)
        self._idle: _Connection | None = None
        # A thread of its own: copies may keep the others busy.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="locket-files")
        self._look: asyncio.Future[grpc.ChannelCredentials] | None = None

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Any]:
        """Lend the stub of a connection for one call.

        Where the block ends by `Unavailable`, or is cancelled, the connection is closed: the peer may be gone
        without a word.
        """
        await self._follow_files()
        connection, self._idle = self._idle, None
        if connection is not None and connection.credentials is not self._files.known:
            await connection.channel.close()
            connection = None
        if connection is None:
            connection = self._open(self._files.known)
        is_sound = False
        try:
            yield connection.stub
            is_sound = True
        except DockerCacheError as error:
            is_sound = not isinstance(error, Unavailable)
            raise
        finally:
            if is_sound and self._idle is None:
                self._idle = connection
            else:
                await connection.channel.close()

    async def close(self) -> None:
        """Close what is open; no call is under way any more."""
        idle, self._idle = self._idle, None
        if idle is not None:
            await idle.channel.close()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _open(self, credentials: grpc.ChannelCredentials) -> _Connection:
        channel = grpc.aio.secure_channel(self.address, credentials, options=self._options)
        return _Connection(channel, credentials, LocketStub(channel))

    async def _follow_files(self) -> None:
        if self._look is None or self._look.done():
            loop = asyncio.get_running_loop()
            self._look = loop.run_in_executor(self._reader, self._files.current)
        await asyncio.wait({self._look}, timeout=LOOK_WITHIN)


@asynccontextmanager
async def open_connections(address: str, tls: MutualTls, keep_alive: KeepAlive) -> AsyncIterator[Connections]:
    """Open connections until the block ends; nothing is sent yet.

    Raises:
        Invalid: The files are not a CA certificate, and a certificate with its key.
    """
    connections = Connections(address, await asyncio.to_thread(follow_files, tls), keep_alive)
    try:
        yield connections
    finally:
        await connections.close()


def channel_options(keep_alive: KeepAlive) -> list[tuple[str, Any]]:
    """List what a channel to Locket is opened with."""
    options = [
        *common_options(MAX_MESSAGE),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_WITHIN_MS),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
    if keep_alive.time:
        options += [
            ("grpc.keepalive_time_ms", max(keep_alive.time, SHORTEST_KEEP_ALIVE) * 1000),
            ("grpc.keepalive_timeout_ms", keep_alive.timeout * 1000),
        ]
    return options
