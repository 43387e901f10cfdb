"""Opens connections to registries, to permitted addresses alone."""

import socket
import ssl

from controller.registry.http.connection import Connection
from controller.registry.http.request import RequestContext
from controller.registry.http.settings import Timeouts
from controller.registry.http.urls import Origin
from reconcile.errors import ErrorCode, Invalid


def _dial(host: str, port: int, connect_timeout: float, context: RequestContext) -> socket.socket:
    """Connect to the first permitted address of a host that accepts."""
    refused: list[str] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not context.rules.permits(str(address[0])):
            refused.append(str(address[0]))
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(connect_timeout)
            with context.cancellation.watching(sock):
                sock.connect(address)
                peer = str(sock.getpeername()[0])
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        if context.rules.permits(peer):
            return sock
        refused.append(peer)
        sock.close()
    if refused:
        raise Invalid(
            "registry",
            ErrorCode.ADDRESS_REFUSED,
            f"{host} is at {', '.join(refused)}, which is not a public address",
        )
    raise failure or OSError(f"{host} has no address")


def open_connection(
    origin: Origin, timeouts: Timeouts, context: RequestContext, tls: ssl.SSLContext | None
) -> Connection:
    """Connect to an origin and do the TLS handshake; `tls` is None for an http origin."""
    sock = _dial(origin.host, origin.port, timeouts.connect, context)
    try:
        if tls is not None:
            # Wrapped first, so that a cancellation finds the socket that the handshake waits on.
            sock = tls.wrap_socket(sock, server_hostname=origin.host, do_handshake_on_connect=False)
            with context.cancellation.watching(sock):
                sock.do_handshake()
        sock.settimeout(timeouts.idle)
    except BaseException:
        sock.close()
        raise
    return Connection(sock, origin)
