"""Keeps a connection to the agent, and replaces it when the files of its certificates have changed.

Source: cloudfoundry/go-loggregator tls.go and ingress_client.go (the name to verify); gRPC core's channel
arguments (grpc/impl/channel_arg_names.h).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from controller.file_values import FileValue
from controller.transport import client_tls
from protos.loggregator.ingress_pb2_grpc import IngressStub

SERVER_NAME = "metron"
"""The name in the certificate of every agent, whatever its address."""

MAX_ANSWER = 64 * 1024
"""Bytes of an answer; those of an agent are empty."""


@dataclass(frozen=True, slots=True)
class AgentTls:
    """The files of mutual TLS, in PEM."""

    ca_cert_file: Path
    cert_file: Path
    key_file: Path


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

    def __init__(self, address: str, tls: AgentTls, *, clock: Callable[[], float] = time.monotonic) -> None:
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


def follow_files(
    tls: AgentTls, *, clock: Callable[[], float] = time.monotonic
) -> FileValue[grpc.ChannelCredentials]:
    """Make credentials of the files, and follow them; blocks.

    Raises:
        Invalid: The files are not a CA certificate, and a certificate with its key.
    """

    def make() -> grpc.ChannelCredentials:
        # gRPC would take files that do not fit, and then fail without a word on why.
        client_tls(tls.ca_cert_file, cert_file=tls.cert_file, key_file=tls.key_file)
        return grpc.ssl_channel_credentials(
            root_certificates=tls.ca_cert_file.read_bytes(),
            private_key=tls.key_file.read_bytes(),
            certificate_chain=tls.cert_file.read_bytes(),
        )

    return FileValue((tls.ca_cert_file, tls.cert_file, tls.key_file), make, clock=clock)


def channel_options() -> list[tuple[str, Any]]:
    """List what a channel to an agent is opened with; it sends no pings, which agents punish."""
    return [
        ("grpc.primary_user_agent", "diego-docker-cache"),
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.max_receive_message_length", MAX_ANSWER),
        ("grpc.enable_retries", 0),  # attempts are made anew by the caller
        ("grpc.enable_http_proxy", 0),  # whatever the environment says
        ("grpc.use_local_subchannel_pool", 1),  # a new channel means a new connection
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
