"""Makes connections to registries, and only to addresses that may be reached."""

import socket
import ssl

from controller.registry.exchange import Work
from controller.registry.settings import Timeouts
from controller.registry.urls import Origin
from controller.registry.wire import Wire
from reconcile.errors import Invalid


def _dial(host: str, port: int, connect_timeout: float, work: Work) -> socket.socket:
    """Connect to the first permitted address that answers."""
    refused: list[str] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not work.rules.permits(str(address[0])):
            refused.append(str(address[0]))
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(connect_timeout)
            with work.cancellation.watching(sock):
                sock.connect(address)
                peer = str(sock.getpeername()[0])
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        if work.rules.permits(peer):
            return sock
        refused.append(peer)
        sock.close()
    if refused:
        raise Invalid(
            "registry", "address-refused", f"{host} is at {', '.join(refused)}, which is not a public address"
        )
    raise failure or OSError(f"{host} has no address")


def open_connection(origin: Origin, timeouts: Timeouts, work: Work, context: ssl.SSLContext | None) -> Wire:
    """Connect to an origin, TLS handshake included; the context is that of an https origin."""
    sock = _dial(origin.host, origin.port, timeouts.connect, work)
    try:
        if context is not None:
            # Wrapped first, so that a cancellation finds the socket that the handshake waits on.
            sock = context.wrap_socket(sock, server_hostname=origin.host, do_handshake_on_connect=False)
            with work.cancellation.watching(sock):
                sock.do_handshake()
        sock.settimeout(timeouts.idle)
    except BaseException:
        sock.close()
        raise
    return Wire(sock, origin)
