"""An HTTP server with a bounded number of connections for a bounded time each.

Whoever reaches the port can connect to it. So nobody can hold it: the oldest connection gives way to a new
one where there are many, and each ends after some seconds, however slowly its peer sends or reads.
"""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias

from controller.file_values import FileValue
from reconcile.errors import Invalid

MOST_CONNECTIONS = 16
"""Maximum number of open connections; as many again may be ending."""

MOST_SECONDS = 10.0
"""Maximum number of seconds of one connection: its request and the response."""
LOOK_INTERVAL = 0.1
"""Seconds between two looks of a server at its own end, for which the event loop waits."""


_Request: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"
"""A request as the standard library has it; of a stream it is a socket."""


ServerTls = FileValue[ssl.SSLContext]
"""The certificates of a server, which are followed."""


class BoundedServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """An HTTP server whose connections are bounded in number and in time.

    Args:
        address: Host and port; port 0 takes a free one.
        handler: Answers the requests of one connection.
        clock: Monotonic time in seconds.
        tls: What each new connection uses; None for connections without TLS.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        clock: Callable[[], float] = time.monotonic,
        tls: ServerTls | None = None,
    ) -> None:
        self._clock, self._tls = clock, tls
        self._lock = threading.Lock()
        self._since: OrderedDict[socket.socket, float] = OrderedDict()
        self._count = 0
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)

    @property
    def threads(self) -> int:
        """How many connections have a thread now."""
        return self._count

    # Called by the server itself

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection. Its handshake is done where its request is read, in a thread of its own."""
        accepted, peer = super().get_request()
        if self._tls is None:
            return accepted, peer
        wrapped = self._tls.current().wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return wrapped, peer

    def process_request(self, request: _Request, client_address: object) -> None:
        """Answer a request in a thread of its own; the oldest one that is too many ends."""
        if not isinstance(request, socket.socket):
            raise TypeError("the server listens on something else than a socket")
        with self._lock:
            if len(self._since) >= MOST_CONNECTIONS:
                self._end(next(iter(self._since)))
            is_one_too_many = self._count >= 2 * MOST_CONNECTIONS
            if not is_one_too_many:
                self._since[request] = self._clock()
                self._count += 1
        if is_one_too_many:
            request.close()
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        """Close a connection whose request was answered or failed."""
        with self._lock:
            self._count -= 1
            if isinstance(request, socket.socket):
                self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections whose time is up; the server calls this at each look."""
        with self._lock:
            before = self._clock() - MOST_SECONDS
            for each in [each for each, since in self._since.items() if since <= before]:
                self._end(each)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Say nothing of a peer that went away."""

    def _end(self, request: socket.socket) -> None:
        """Make the thread of a connection end, which then closes it."""
        del self._since[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve(
    address: str, handler: type[BaseHTTPRequestHandler], *, key: str, tls: ServerTls | None = None
) -> Iterator[int]:
    """Serve HTTP at "host:port" for as long as the context lasts, and yield the port.

    Args:
        address: Host and port.
        handler: Answers requests.
        key: Of the config, for messages.
        tls: What connections use; None for HTTP without TLS.

    Raises:
        Invalid: The address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    try:
        server = BoundedServer((host.strip("[]"), int(port)), handler, tls=tls)
    except (OSError, OverflowError) as error:
        code = key.replace("_", "-")
        raise Invalid("config", code, f"{key}: cannot listen on {address}: {error}") from error
    thread = threading.Thread(
        target=server.serve_forever, args=(LOOK_INTERVAL,), name=key.partition("_")[0], daemon=True
    )
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
