"""Shakes hands with a server of gRPC over TLS, since gRPC does not say what is at fault with a connection."""

import asyncio
import ssl

from controller.mutual_tls import MutualTls
from controller.transport import client_tls

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""With it an HTTP/2 connection begins (RFC 9113 section 3.4): a server answers with its settings."""


class ClosedInHandshakeError(ConnectionError):
    """The connection was closed before anything was said of certificates."""


def grpc_tls(tls: MutualTls) -> ssl.SSLContext:
    """Read the files of mutual TLS as a library does that says what is wrong with them; blocks.

    Raises:
        Invalid: As `client_tls`.
    """
    context = client_tls(tls.ca_cert_file, cert_file=tls.cert_file, key_file=tls.key_file)
    context.set_alpn_protocols(["h2"])
    return context


async def hangs_up(
    address: str, context: ssl.SSLContext, *, limit: float, server_name: str | None = None
) -> bool:
    """Open a connection, and tell whether the server breaks it off after the handshake.

    With TLS 1.3 a server refuses a certificate only then, and may do so without a word.

    Args:
        address: "host:port".
        context: As `grpc_tls` makes it.
        limit: Seconds for the connection and the first word of the server.
        server_name: In the server's certificate, where it is not the host.

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
    """Split "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
