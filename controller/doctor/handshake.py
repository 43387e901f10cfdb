"""Makes a TLS handshake with a gRPC server, since the gRPC library does not say why a connection fails."""

import asyncio
import ssl

from controller.mutual_tls import MutualTls
from controller.transport import client_tls

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""The connection preface of HTTP/2 (RFC 9113 section 3.4); a server answers with its settings."""


class ClosedInHandshakeError(ConnectionError):
    """The server closed the connection during the handshake, without a TLS alert that says why."""


def grpc_tls(tls: MutualTls) -> ssl.SSLContext:
    """Read the files of mutual TLS with Python's own TLS, which says what is wrong with them; blocks.

    Raises:
        Invalid: As `client_tls`.
    """
    context = client_tls(tls.ca_cert_file, cert_file=tls.cert_file, key_file=tls.key_file)
    context.set_alpn_protocols(["h2"])
    return context


async def hangs_up(
    address: str, context: ssl.SSLContext, *, limit: float, server_name: str | None = None
) -> bool:
    """Open a connection, and return whether the server closes it right after the handshake.

    With TLS 1.3 a server refuses the client's certificate only then, and may do so without an alert.

    Args:
        address: "host:port".
        context: As `grpc_tls` makes it.
        limit: Seconds for the connection and the first byte from the server.
        server_name: Name that the server's certificate must contain; None for the host.

    Raises:
        ClosedInHandshakeError: The server, or a proxy before it, has closed the connection.
        TimeoutError: The limit has passed.
        OSError: There is no connection, or the handshake has failed.
        OverflowError: The port cannot be dialled.
        UnicodeError: The host is no name.
    """
    host, port = split_address(address)
    async with asyncio.timeout(limit):
        try:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=server_name or host
            )
        except ConnectionResetError as error:
            raise ClosedInHandshakeError from error
        try:
            writer.write(_PREFACE)
            return not await reader.read(1)
        except ConnectionError:
            return True
        finally:
            writer.transport.abort()  # the peer may take its time to agree to an end


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port", or "[host]:port" for IPv6, into the host and the port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
