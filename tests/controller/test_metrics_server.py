"""The port of the metrics: whoever reaches it can read them, and can hold nothing."""

import contextlib
import http.client
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from controller.bounded_server import MOST_CONNECTIONS, MOST_SECONDS, BoundedServer
from controller.file_values import FileValue
from controller.metrics import Metrics
from controller.metrics_server import serve_metrics
from controller.transport import client_tls, server_tls
from reconcile.errors import Invalid
from tests.simulators.certificates import Authority

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


@dataclass
class Certificates:
    """The files of a server, and the contexts of those who come to it."""

    directory: Path
    own: Authority
    foreign: Authority

    def put(self, authority: Authority, name: str) -> None:
        pair = authority.server("docker_cache_metrics", file=name)
        for source, target in ((pair.certificate, "cert.pem"), (pair.key, "key.pem")):
            shutil.copy(source, self.directory / target)
        shutil.copy(self.own.certificate, self.directory / "ca.pem")

    def follow(self) -> FileValue[ssl.SSLContext]:
        cert, key = self.directory / "cert.pem", self.directory / "key.pem"
        return server_tls(self.directory / "ca.pem", cert_file=cert, key_file=key)

    def scraper(self, authority: Authority) -> ssl.SSLContext:
        pair = authority.client("prom_scraper", file="scraper")
        return client_tls(self.own.certificate, cert_file=pair.certificate, key_file=pair.key)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    own, foreign = Authority(tmp_path / "own"), Authority(tmp_path / "foreign")
    made = Certificates(tmp_path, own, foreign)
    made.put(own, "first")
    return made


def scrape(port: int, tls: ssl.SSLContext | None) -> str:
    """Scrape as prom_scraper does: at 127.0.0.1, and with the name that its config says."""
    if tls is None:
        return read_metrics(port)
    with (
        socket.create_connection(("127.0.0.1", port), WAIT) as raw,
        tls.wrap_socket(raw, server_hostname="docker_cache_metrics") as connection,
    ):
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_a_scraper_with_a_certificate_of_the_authority_reads_over_tls(certificates: Certificates) -> None:
    with serve_metrics(Metrics(), "127.0.0.1:0", certificates.follow()) as port:
        assert "docker_cache_lock_held 0.0" in scrape(port, certificates.scraper(certificates.own))


def test_nobody_else_reads_over_tls(certificates: Certificates) -> None:
    without = ssl.create_default_context(cafile=str(certificates.own.certificate))
    with serve_metrics(Metrics(), "127.0.0.1:0", certificates.follow()) as port:
        for refused in (certificates.scraper(certificates.foreign), without, None):
            with pytest.raises((OSError, http.client.HTTPException)):
                scrape(port, refused)

        assert "docker_cache_lock_held" in scrape(port, certificates.scraper(certificates.own))


def test_a_handshake_that_is_not_continued_keeps_no_scraper_out(certificates: Certificates) -> None:
    with (
        serve_metrics(Metrics(), "127.0.0.1:0", certificates.follow()) as port,
        half_requests(port, 2 * MOST_CONNECTIONS),
    ):
        assert "docker_cache_lock_held" in scrape(port, certificates.scraper(certificates.own))


def test_a_certificate_that_is_replaced_is_used_for_the_next_connection(certificates: Certificates) -> None:
    clock = Clock()
    files = tuple(certificates.directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
    followed = FileValue(files, lambda: certificates.follow().known, clock=clock)
    with serve_metrics(Metrics(), "127.0.0.1:0", followed) as port:
        scrape(port, certificates.scraper(certificates.own))
        certificates.put(certificates.foreign, "next")
        clock.now += 3600.0

        with pytest.raises(ssl.SSLCertVerificationError):
            scrape(port, certificates.scraper(certificates.own))


def test_only_metrics_are_served() -> None:
    with serve_metrics(Metrics(), "127.0.0.1:0") as port:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=WAIT)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=WAIT) as response:
            assert response.read().endswith(b"# EOF\n")
