"""The port of the admin API: connections that never become a caller's hold it neither for long nor in number."""

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.admin.server import MAX_CONNECTIONS, serve_admin

pytestmark = pytest.mark.usefixtures("servers")

WAIT = 60.0


async def is_serving(port: int) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
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
    async with serve_admin(dependencies, "127.0.0.1:0", None) as port:
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
