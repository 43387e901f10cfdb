"""Serves the metrics to a scraper."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.exposition import MetricsHandler

from controller.bounded_server import serve
from controller.metrics import Metrics


@contextmanager
def serve_metrics(metrics: Metrics, address: str) -> Iterator[int]:
    """Serve the metrics over HTTP at "host:port" for as long as the context lasts, and yield the port.

    Raises:
        Invalid: `metrics-address`: the address cannot be listened on.
    """
    with serve(address, MetricsHandler.factory(metrics.exposed), key="metrics_address") as port:
        yield port
