"""Serves the metrics to a scraper, over a bounded number of connections for a bounded time each.

Whoever reaches the port can connect to it. So nobody can hold it: the oldest connection gives way to a new
one where there are many, and each ends after some seconds, however slowly its peer sends or reads.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from controller.metrics import Metrics
from reconcile.errors import Invalid

MOST_CONNECTIONS = 16
"""That may be open at a time; as many again may be ending."""

MOST_SECONDS = 10.0
"""For one connection: its request and the response."""


_Request: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"
"""As the standard library has it; of a stream it is a socket."""


class MetricsServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """An HTTP server whose connections are bounded in number and in time.

    Args:
        address: Host and port; port 0 takes a free one.
        registry: The metrics.
        clock: Monotonic time in seconds.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: OrderedDict[socket.socket, float] = OrderedDict()
        self._count = 0
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, MetricsHandler.factory(registry))

    @property
    def threads(self) -> int:
        """How many connections have a thread now."""
        return self._count

    # Called by the server itself

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
        """End the connections whose time is up; the server calls this twice in a second."""
        with self._lock:
            before = self._clock() - MOST_SECONDS
            for each in [each for each, since in self._since.items() if since <= before]:
                self._end(each)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Say nothing of a scraper that went away."""

    def _end(self, request: socket.socket) -> None:
        """Make the thread of a connection end, which then closes it."""
        del self._since[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve_metrics(metrics: Metrics, address: str) -> Iterator[int]:
    """Serve the metrics over HTTP at "host:port" for as long as the context lasts, and yield the port.

    Raises:
        Invalid: `metrics-address`: the address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    try:
        server = MetricsServer((host.strip("[]"), int(port)), metrics.registry)
    except (OSError, OverflowError) as error:
        raise Invalid(
            "config", "metrics-address", f"metrics_address: cannot listen on {address}: {error}"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
