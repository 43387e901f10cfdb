"""The port of the metrics: whoever reaches it can read them, and can hold nothing."""

import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from controller.bounded_server import MOST_CONNECTIONS, MOST_SECONDS, BoundedServer
from controller.metrics import Metrics
from controller.metrics_server import serve_metrics
from reconcile.errors import Invalid

pytestmark = pytest.mark.usefixtures("servers")

WAIT = 60.0


def read_metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT) as response:
        return str(response.read().decode())


def read_again(port: int) -> str:
    """Read the metrics as a scraper that comes again after it was turned away among too many others."""
    while True:
        try:
            return read_metrics(port)
        except OSError:
            time.sleep(0.01)


def test_a_scraper_reads_the_metrics() -> None:
    metrics = Metrics()
    metrics.jobs.failed_bytes.inc(5)

    with serve_metrics(metrics, "127.0.0.1:0") as port:
        text = read_metrics(port)

    assert "docker_cache_failed_bytes_total 5.0" in text


def test_an_address_in_use_is_refused() -> None:
    with (
        serve_metrics(Metrics(), "127.0.0.1:0") as port,
        pytest.raises(Invalid, match="cannot listen on"),
        serve_metrics(Metrics(), f"127.0.0.1:{port}"),
    ):
        pass


@contextlib.contextmanager
def half_requests(port: int, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as opened:
        sockets = list[socket.socket]()
        for _ in range(count):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", port), WAIT))
            with contextlib.suppress(OSError):
                sock.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            sockets.append(sock)
        yield sockets


class Clock:
    """Time that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def running(clock: Clock) -> Iterator[BoundedServer]:
    server = BoundedServer(("127.0.0.1", 0), MetricsHandler.factory(CollectorRegistry()), clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_half_requests_hold_few_threads_and_keep_no_scraper_out() -> None:
    """Each once had a thread and a file for as long as it liked."""
    with running(Clock()) as server, half_requests(server.server_address[1], 400):
        for _ in range(3):
            assert read_again(server.server_address[1]) == ""  # of a registry without metrics
        assert server.threads <= 2 * MOST_CONNECTIONS


def test_a_connection_ends_when_its_time_is_up_however_busy_it_is() -> None:
    clock = Clock()
    with running(clock) as server, half_requests(server.server_address[1], 3) as sockets:
        while server.threads < len(sockets):
            time.sleep(0.001)
        clock.now = MOST_SECONDS - 1
        server.service_actions()
        for each in sockets:
            each.sendall(b"more")

        clock.now = MOST_SECONDS + 1

        assert [each.recv(1) for each in sockets] == [b"", b"", b""]


def test_the_oldest_connection_gives_way() -> None:
    with running(Clock()) as server, half_requests(server.server_address[1], MOST_CONNECTIONS + 1) as sockets:
        assert sockets[0].recv(1) == b""
