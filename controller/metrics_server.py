"""Serves the metrics to a scraper, with mutual TLS where there are certificates."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controller.bounded_server import ServerTls, serve
from controller.metrics import Metrics


@contextmanager
def serve_metrics(metrics: Metrics, address: str, tls: ServerTls | None = None) -> Iterator[int]:
    """Serve the metrics at "host:port" for as long as the context lasts, and yield the port.

    Args:
        metrics: Of the process.
        address: Host and port.
        tls: Is followed; None serves whoever reaches the address.

    Raises:
        Invalid: `metrics-address`: the address cannot be listened on.
    """

    class Handler(_Scrapes):
        def exposed(self) -> Collector:
            return metrics.exposed

    with serve(address, Handler, key="metrics_address", tls=tls) as port:
        yield port


class _Scrapes(BaseHTTPRequestHandler):
    """Answers one scrape."""

    def exposed(self) -> Collector:
        """Return what is exposed."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer with the metrics, in the format that the scraper asks for."""
        if self.path.partition("?")[0] != "/metrics":
            self._send(404, "text/plain; charset=utf-8", b"there is /metrics\n")
            return
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        self._send(200, kind, encode(self.exposed()))

    def log_message(self, *_: object) -> None:
        """Write nothing: a scrape comes several times in a minute."""

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
