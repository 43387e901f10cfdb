"""Counts the requests to registries in metrics, by registry and by how they ended."""

from typing import Protocol

from controller.metrics.registries import OTHER, RegistryMetrics
from reconcile.failure_kinds import kind_of
from reconcile.health import Exchange, Failure

_SERVED = frozenset({404, 410, 429})
"""Statuses of responses that were noted as answers before they turn out to be failures, too."""


class Observer(Protocol):
    """Is told how requests end."""

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Note a response that is no error."""

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Note a request that was refused or got no response."""

    def stated(self, exchange: Exchange, left: int) -> None:
        """Note how many requests are left in the rate limit of a registry, as it says."""


class CountedRequests:
    """Counts requests, and lets somebody else know of them; safe to use from many threads.

    Args:
        observer: Is told the same.
        metrics: Of registries.
    """

    def __init__(self, observer: Observer, metrics: RegistryMetrics) -> None:
        self._observer, self._metrics = observer, metrics

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Count a response that is no error."""
        self._count(exchange)
        self._observer.answered(exchange, stored)

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Count a request that failed."""
        if failure.status not in _SERVED:
            self._count(exchange)
        metrics, host = self._metrics, exchange.registry
        kind = kind_of(failure.error)
        metrics.errors.labels(metrics.names.of(host), metrics.side_of(host), kind).inc()
        self._observer.failed(exchange, failure)

    def stated(self, exchange: Exchange, left: int) -> None:
        """Show how many requests are left; of registries that are not told apart nothing is shown."""
        name = self._metrics.names.of(exchange.registry)
        if name != OTHER:
            self._metrics.rate_limit_remaining.labels(name).set(left)
        self._observer.stated(exchange, left)

    def _count(self, exchange: Exchange) -> None:
        metrics, host = self._metrics, exchange.registry
        metrics.requests.labels(metrics.names.of(host), metrics.side_of(host), exchange.use).inc()
