"""Opens HTTP clients for the control plane, with mutual TLS, connection limits and timeouts.

Calls and event streams have separate connection pools, so that streams, which stay open for weeks, never
take a connection from a call. When the files of mutual TLS change, new connections use the new ones.
"""

import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import httpx

from controller.file_values import FileValue
from reconcile.errors import ErrorCode, Invalid

Tls = ssl.SSLContext | FileValue[ssl.SSLContext]
"""A context, or one that follows its files."""

SocketOption = tuple[int, int, int]
"""Level, name and value of a socket option."""

CONNECT_TIMEOUT = 5.0  # seconds, for all addresses of a name together
IDLE_CONNECTIONS = 32  # as many as may be open: a handshake costs more than the call
IDLE_EXPIRY = 90.0  # seconds
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""Options that find out within a minute that a peer is gone: an event stream may be silent forever."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "diego-docker-cache"}


def client_tls(ca_file: str | Path, *, cert_file: str | Path, key_file: str | Path) -> ssl.SSLContext:
    """Make a context that trusts one authority, presents one certificate and checks the peer's name.

    Raises:
        Invalid: A file is missing, unreadable or not in the right format; the detail names it.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.hostname_checks_common_name = False
    _trust(tls, ca_file)
    _present(tls, cert_file, key_file)
    return tls


def trusting_tls(ca_file: Path | None) -> FileValue[ssl.SSLContext]:
    """Make a context that presents no certificate and checks the peer's name, and follow its file; blocks.

    Args:
        ca_file: The authorities that are trusted; None for those of the system.

    Raises:
        Invalid: The file is missing, unreadable or not in the right format; the detail names it.
    """

    def make() -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.hostname_checks_common_name = False
        if ca_file is None:
            tls.load_default_certs()
        else:
            _trust(tls, ca_file)
        return tls

    return FileValue(() if ca_file is None else (ca_file,), make)


def client_tls_from_files(ca_file: Path, *, cert_file: Path, key_file: Path) -> FileValue[ssl.SSLContext]:
    """Make a context as `client_tls` does, and follow the files.

    Raises:
        Invalid: As `client_tls`.
    """

    def make() -> ssl.SSLContext:
        return client_tls(ca_file, cert_file=cert_file, key_file=key_file)

    return FileValue((ca_file, cert_file, key_file), make)


def server_tls(ca_file: Path, *, cert_file: Path, key_file: Path) -> FileValue[ssl.SSLContext]:
    """Make a context of a server whose callers must present a certificate, and follow its files; blocks.

    Raises:
        Invalid: A file is missing, unreadable or not in the right format; the detail names it.
    """

    def make() -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.verify_mode = ssl.CERT_REQUIRED
        _trust(tls, ca_file)
        _present(tls, cert_file, key_file)
        return tls

    return FileValue((ca_file, cert_file, key_file), make)


def open_calls(
    base_url: str, *, tls: Tls, timeout: float, unacknowledged: float | None = None
) -> httpx.AsyncClient:
    """Open a client for calls, which tries every address of the host name in turn.

    Args:
        base_url: Of the server.
        tls: See there.
        timeout: Seconds; it starts again with each piece that is sent or received, and the caller limits the
            total time of a call.
        unacknowledged: Seconds after which the kernel drops what it has sent and the peer has not
            confirmed. Without it the kernel delivers a request minutes later, when a network is whole again,
            although the caller, or even this process, has ended meanwhile. None leaves it at that.
    """
    limits = httpx.Limits(
        max_connections=32, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=IDLE_EXPIRY
    )
    timeouts = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
    dropped = () if unacknowledged is None else (_drop_after(unacknowledged),)
    return _client(base_url, tls=tls, limits=limits, timeouts=timeouts, options=(*KEEP_ALIVE, *dropped))


def _drop_after(seconds: float) -> SocketOption:
    return socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000))


def open_streams(base_url: str, *, tls: Tls) -> httpx.AsyncClient:
    """Open a client for event streams, which may be silent forever once they are open."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    timeouts = httpx.Timeout(CONNECT_TIMEOUT, read=None)
    return _client(base_url, tls=tls, limits=limits, timeouts=timeouts, options=KEEP_ALIVE)


def _client(
    base_url: str,
    *,
    tls: Tls,
    limits: httpx.Limits,
    timeouts: httpx.Timeout,
    options: Sequence[SocketOption],
) -> httpx.AsyncClient:
    def connect(context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=context, limits=limits, trust_env=False, socket_options=options
        )

    return httpx.AsyncClient(
        base_url=base_url,
        transport=connect(tls) if isinstance(tls, ssl.SSLContext) else FollowingTransport(tls, connect),
        timeout=timeouts,
        headers=_HEADERS,
        follow_redirects=False,
        trust_env=False,
    )


class FollowingTransport(httpx.AsyncBaseTransport):
    """Sends requests over connections that were opened with the present context.

    What is under way when the context changes ends over its old connection, which is closed then.

    Args:
        tls: Follows the files.
        connect: Opens a pool of connections with a context.
    """

    def __init__(
        self, tls: FileValue[ssl.SSLContext], connect: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport]
    ) -> None:
        self._tls, self._connect = tls, connect
        self._context = tls.known
        self._pool = _Pool(connect(self._context))
        self._replaced = list[_Pool]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        context = await self._tls.follow()
        if context is not self._context:
            self._context, before = context, self._pool
            self._pool = _Pool(self._connect(context))
            self._replaced = [each for each in (*self._replaced, before) if each.under_way]
            if before not in self._replaced:
                await before.transport.aclose()
        return await self._pool.send(request, is_replaced=lambda pool: pool is not self._pool)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in (*self._replaced, self._pool):
            await pool.transport.aclose()


class _Pool:
    """A pool of connections, and how many requests are under way over them."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self.transport = transport
        self.under_way = 0

    async def send(self, request: httpx.Request, *, is_replaced: "Callable[[_Pool], bool]") -> httpx.Response:
        async def end() -> None:
            self.under_way -= 1
            if not self.under_way and is_replaced(self):
                await self.transport.aclose()

        self.under_way += 1
        try:
            response = await self.transport.handle_async_request(request)
        except BaseException:
            await end()
            raise
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("a pool gave a body that cannot be read asynchronously")
        response.stream = _Body(response.stream, end)
        return response


class _Body(httpx.AsyncByteStream):
    """The body of a response, whose request is under way until it is closed."""

    def __init__(self, body: httpx.AsyncByteStream, end: Callable[[], Awaitable[None]]) -> None:
        self._body, self._end = body, end
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        """Close the body, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._body.aclose()
        finally:
            await self._end()


def _trust(tls: ssl.SSLContext, ca_file: str | Path) -> None:
    try:
        tls.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise Invalid("config", "bad-certificate", f"{ca_file}: it holds no CA certificate") from error
    except OSError as error:
        raise _unreadable(error, ca_file) from error


def _present(tls: ssl.SSLContext, cert_file: str | Path, key_file: str | Path) -> None:
    try:
        tls.load_cert_chain(cert_file, key_file, password="")  # an encrypted key fails instead of asking
    except ssl.SSLError as error:
        detail = f"{cert_file} and {key_file}: not a certificate and its unencrypted key"
        raise Invalid("config", "bad-certificate", detail) from error
    except OSError as error:
        raise _unreadable(error, cert_file, key_file) from error


def _unreadable(error: OSError, *files: str | Path) -> Invalid:
    # OpenSSL does not say which file it could not open.
    at_fault = [str(file) for file in files if not os.access(file, os.R_OK)] or map(str, files)
    return Invalid("config", ErrorCode.UNREADABLE_FILE, f"{', '.join(at_fault)}: {error.strerror}")
