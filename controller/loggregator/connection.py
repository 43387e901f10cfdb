"""Keeps a connection to the agent, and replaces it when the files of its certificates have changed.

Source: cloudfoundry/go-loggregator tls.go and ingress_client.go (the name to verify).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from controller.file_values import FileValue
from controller.grpc_clients import common_options, follow_files
from controller.mutual_tls import MutualTls
from protos.loggregator.ingress_pb2_grpc import IngressStub

SERVER_NAME = "metron"
"""The name in the certificate of every agent, whatever its address."""

MAX_ANSWER = 64 * 1024
"""Bytes of an answer; those of an agent are empty."""


@dataclass(frozen=True, slots=True)
class _Open:
    credentials: grpc.ChannelCredentials
    channel: grpc.aio.Channel
    stub: Any


class AgentConnection:
    """The connection to one agent; nothing is sent before the first call.

    Args:
        address: "host:port".
        tls: The files, which need not fit yet.
        clock: Monotonic time in seconds.
    """

    def __init__(self, address: str, tls: MutualTls, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self._tls, self._clock = tls, clock
        self._files: FileValue[grpc.ChannelCredentials] | None = None
        self._open: _Open | None = None

    async def stub(self) -> Any:
        """Return the stub for the next call, made anew where the files have changed.

        Raises:
            Invalid: The files never were a CA certificate, and a certificate with its key.
        """
        if self._files is None:
            self._files = await asyncio.to_thread(partial(follow_files, self._tls, clock=self._clock))
        credentials = await self._files.follow()
        if self._open is not None and self._open.credentials is not credentials:
            await self.close()
        if self._open is None:
            channel = grpc.aio.secure_channel(self.address, credentials, options=channel_options())
            self._open = _Open(credentials, channel, IngressStub(channel))
        return self._open.stub

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.channel.close()


def channel_options() -> list[tuple[str, Any]]:
    """List what a channel to an agent is opened with; it sends no pings, which agents punish."""
    return [*common_options(MAX_ANSWER), ("grpc.ssl_target_name_override", SERVER_NAME)]
