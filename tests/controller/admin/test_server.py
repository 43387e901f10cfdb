"""The port of the admin API: connections that never become a caller's hold it neither for long nor in number."""

import asyncio
import contextlib
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.admin.leadership import ServedDependencies
from controller.admin.server import MAX_CONNECTIONS, ServerTls, only_changes, serve_admin
from controller.leadership.lease import lease_without_lock
from controller.leadership.standing import Standing
from tests.simulators.certificates import Authority

pytestmark = pytest.mark.usefixtures("servers")

WAIT = 60.0


def served(dependencies: Any) -> ServedDependencies:
    return ServedDependencies(Standing("a", lease_without_lock()), "run-1", dependencies)


async def is_serving(port: int, credentials: grpc.ChannelCredentials | None = None) -> bool:
    address = f"127.0.0.1:{port}"
    async with (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials)
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT, wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def read_to_end(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass


async def test_bare_connections_are_bounded_in_number_and_in_time() -> None:
    """1,100 of them once took all files that the daemon may open, without end."""
    dependencies: Any = SimpleNamespace()
    async with serve_admin(served(dependencies), "127.0.0.1:0", None) as port:
        with contextlib.ExitStack() as opened:
            bare = [
                opened.enter_context(socket.create_connection(("127.0.0.1", port), WAIT))
                for _ in range(MAX_CONNECTIONS + 30)
            ]
            for each in bare[MAX_CONNECTIONS:]:  # which are too many
                await asyncio.to_thread(read_to_end, each)
            for each in bare[:MAX_CONNECTIONS]:  # which do not show that they are a caller's
                await asyncio.to_thread(read_to_end, each)

            assert await is_serving(port)


async def test_connections_that_end_before_their_handshake_do_not_end_the_process(tmp_path: Path) -> None:
    """Each replaced the certificates of gRPC under the others, which could make it crash."""
    authority = Authority(tmp_path)
    server, client = authority.server("127.0.0.1"), authority.client("operator")
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
    )
    tls = ServerTls(authority.certificate, server.certificate, server.key)
    dependencies: Any = SimpleNamespace()

    def come_and_go(port: int) -> None:
        for _ in range(40):
            with contextlib.ExitStack() as opened:
                for _ in range(25):
                    opened.enter_context(socket.create_connection(("127.0.0.1", port), WAIT))

    async with serve_admin(served(dependencies), "127.0.0.1:0", tls) as port:
        await asyncio.gather(*(asyncio.to_thread(come_and_go, port) for _ in range(3)))

        assert await is_serving(port, credentials)


def test_certificates_are_handed_over_when_they_have_changed() -> None:
    first, second, third = object(), object(), object()
    present = [first]
    change = only_changes(first, lambda: present[0])
    given = [change(), change()]
    for each in (second, second, third, first):
        present[0] = each
        given.append(change())

    assert given == [None, None, second, None, third, first]
