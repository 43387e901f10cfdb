"""Makes connections to registries, and only to addresses that may be reached."""

import socket
import ssl

from urllib3.connection import HTTPConnection, HTTPSConnection

from controller.registry.exchange import Work
from controller.registry.settings import Timeouts
from controller.registry.urls import Origin
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


class _PlainConnection(HTTPConnection):
    """A connection that is dialled by our rules."""

    def __init__(self, origin: Origin, timeouts: Timeouts, work: Work) -> None:
        super().__init__(origin.host, origin.port, timeout=timeouts.idle)
        self._dial = (origin.host, origin.port, timeouts.connect, work)

    def _new_conn(self) -> socket.socket:
        return _dial(*self._dial)


class _TlsConnection(HTTPSConnection):
    """The same over TLS."""

    def __init__(self, origin: Origin, timeouts: Timeouts, work: Work, context: ssl.SSLContext) -> None:
        super().__init__(origin.host, origin.port, timeout=timeouts.idle, ssl_context=context)
        self._dial = (origin.host, origin.port, timeouts.connect, work)

    def _new_conn(self) -> socket.socket:
        return _dial(*self._dial)


def open_connection(
    origin: Origin, timeouts: Timeouts, work: Work, context: ssl.SSLContext | None
) -> HTTPConnection:
    """Connect to an origin, TLS handshake included; the context is that of an https origin."""
    connection: _PlainConnection | _TlsConnection
    if context is not None:
        connection = _TlsConnection(origin, timeouts, work, context)
    else:
        connection = _PlainConnection(origin, timeouts, work)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    connection.sock.settimeout(timeouts.idle)
    return connection
