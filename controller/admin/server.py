"""Serves the admin API with health and reflection, over mutual TLS or on loopback without TLS.

Source: grpc.github.io/grpc/python (dynamic_ssl_server_credentials, grpc_health, grpc_reflection).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller.admin.leadership import CLOSE_WITHIN, ServedDependencies
from controller.admin.servicer import Servicer
from controller.file_values import FileValue
from controller.transport import client_tls
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import add_AdminServicer_to_server
from reconcile.errors import Invalid

log = structlog.get_logger(scope="admin")

T = TypeVar("T")

SERVICE = pb.DESCRIPTOR.services_by_name["Admin"].full_name

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message; plans come in as many as they have entries."""

MAX_CONNECTIONS = 256
"""Maximum number of open connections; further ones are closed at once. A command has one."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The files of mutual TLS, in PEM."""

    ca_cert_file: Path
    cert_file: Path
    key_file: Path


@asynccontextmanager
async def serve_admin(served: ServedDependencies, address: str, tls: ServerTls | None) -> AsyncIterator[int]:
    """Answer operators' calls until the block ends, and yield the port.

    The health of the whole server is that of the process; the health of the service is whether this instance
    is active.

    Args:
        served: What the calls reach, as soon as this instance is active.
        address: "host:port", or "unix:path".
        tls: None listens without TLS; the caller makes sure that nobody else can connect.

    Raises:
        Invalid: The address cannot be listened on, or the files are not a certificate with its key.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),  # a second daemon must not share the port
            # Whoever reaches the port can connect to it: a connection must show soon that it is a caller's.
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", 5_000),
            ("grpc.max_connection_idle_ms", 120_000),
            ("grpc.max_concurrent_streams", 100),
            # A caller whose connection died counts as one that hung up.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )
    add_AdminServicer_to_server(Servicer(served), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    credentials = None if tls is None else await asyncio.to_thread(_credentials, tls)
    port = _bind(server, address, credentials)
    await server.start()

    async def report(is_active: bool) -> None:  # noqa: FBT001 - what it is told
        states = health_pb2.HealthCheckResponse
        await checks.set(SERVICE, states.SERVING if is_active else states.NOT_SERVING)

    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    await report(served.are_open)
    served.listeners.append(report)
    log.info("serving", address=address, tls=tls is not None)
    try:
        yield port
    finally:
        served.listeners.remove(report)
        await checks.enter_graceful_shutdown()
        await server.stop(CLOSE_WITHIN)
        log.info("stopped-serving", address=address)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Invalid(
            "config",
            "admin-address",
            f"admin_address: cannot listen on {address}: is it in use, or are the admin_server files not a "
            "certificate with its key?",
        ) from error


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Make credentials that follow the files: each new connection gets the present ones.

    gRPC is told of them when they have changed, and not each time: it replaces what it has while other
    connections are being made with it, which has ended the process.

    Raises:
        Invalid: The files are not a certificate with its key, and a CA certificate.
    """

    def make() -> grpc.ServerCertificateConfiguration:
        # gRPC would take files that do not fit, and then refuse everybody.
        client_tls(tls.ca_cert_file, cert_file=tls.cert_file, key_file=tls.key_file)
        pair = tls.key_file.read_bytes(), tls.cert_file.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], tls.ca_cert_file.read_bytes())

    files = FileValue((tls.ca_cert_file, tls.cert_file, tls.key_file), make)
    initial = files.current()
    return grpc.dynamic_ssl_server_credentials(
        initial,
        only_changes(initial, files.current),  # type: ignore[arg-type] # the stubs lack None: no change
        require_client_authentication=True,
    )


def only_changes(initial: T, current: Callable[[], T]) -> Callable[[], T | None]:
    """Return what gives a value when it is another one than the time before, and None otherwise.

    Args:
        initial: The value that is known already.
        current: Gives the present value; may be called from any thread.
    """
    lock, known = threading.Lock(), initial

    def change() -> T | None:
        nonlocal known
        with lock:
            before, known = known, current()
            return None if known is before else known

    return change
