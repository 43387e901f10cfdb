"""Keeps the health of the private registry and of the source registries, as real requests show it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

from reconcile.errors import Denied
from reconcile.health import Exchange, Failure, RegistryHealth, RegistryUse, UseHealth, is_gone
from reconcile.hosts import canonical_host

MOST_SOURCES = 300
"""Source registries that are remembered; whoever pushes an app names another one."""


class HealthStates:
    """The health of each registry that was asked lately; safe to use from many threads.

    Args:
        private: The name of the private registry in image references.
        configured: The names of the source registries that the operator has named.
        clock: Seconds that only grow.
    """

    def __init__(
        self, private: str, configured: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.private_name = canonical_host(private)
        self._configured = frozenset(canonical_host(each) for each in configured)
        self._clock = clock
        self._lock = threading.Lock()
        self._private = RegistryHealth()
        self._sources: OrderedDict[str, RegistryHealth] = OrderedDict()
        self._has_kept_lrps = False
        self._is_gone = False

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Note a response that is no error, and how many bytes were stored with it."""
        with self._lock:
            before = self._of(exchange)
            after = before.answered(exchange.repository, stored=stored, now=self._clock())
            self._set(exchange, after)
            if self._is_private_pull(exchange):
                self._is_gone = False

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Note a request that was refused or got no response."""
        is_source = exchange.registry != self.private_name
        if is_source and isinstance(failure.error, Denied) and not exchange.has_operators_login:
            return  # the login of one app, or an image that does not exist
        with self._lock:
            before = self._of(exchange)
            self._set(exchange, before.failed(failure, exchange.repository, now=self._clock()))

    def stated(self, exchange: Exchange, left: int) -> None:
        """Do nothing: a registry that counts requests is well."""

    def probe_failed(self, exchange: Exchange, failure: Failure) -> None:
        """Note a probe that failed, which was no work of any app's and so says more than other requests."""
        self.failed(exchange, failure)
        with self._lock:
            if self._is_private_pull(exchange):
                self._is_gone = is_gone(failure)

    @property
    def private(self) -> RegistryHealth:
        """The health of the private registry."""
        with self._lock:
            return self._private

    @property
    def sources(self) -> Mapping[str, RegistryHealth]:
        """The health of the source registries, by name; the one that was asked last comes last."""
        with self._lock:
            return dict(self._sources)

    @property
    def serves_pulls(self) -> bool:
        """Whether the private registry has answered the last probe, whatever it said, or a pull since then.

        What else fails may be one image's fault, for which all apps would go back to their sources.
        """
        with self._lock:
            return not self._is_gone

    def is_known(self, source: str) -> bool:
        """Whether a source registry was named by the operator, or has served anything to this process."""
        found = self.sources.get(source)
        return source in self._configured or (found is not None and found.is_served)

    def problem_of_pulls(self) -> str | None:
        """Say what is known to be wrong with pulls from the private registry; None while nothing is."""
        failing = self.private.pull.unhealthy
        if failing is None:
            return None
        return f"the private registry is unhealthy for pulls: {failing.fault.words}: {failing.said}"

    def why_not_migrate(self) -> str | None:
        """Say why no LRP may be migrated to its copy now; None while nothing is known against it."""
        problem = self.problem_of_pulls()
        self._has_kept_lrps = self._has_kept_lrps or problem is not None
        return problem

    def take_kept_lrps(self) -> bool:
        """Whether LRPs were kept from being migrated that need not wait any longer; true once."""
        if not self._has_kept_lrps or self.private.pull.unhealthy is not None:
            return False
        self._has_kept_lrps = False
        return True

    def _is_private_pull(self, exchange: Exchange) -> bool:
        return exchange.registry == self.private_name and exchange.use is RegistryUse.PULL

    def _of(self, exchange: Exchange) -> UseHealth:
        if exchange.registry == self.private_name:
            return self._private.of(exchange.use)
        return self._sources.get(exchange.registry, RegistryHealth()).of(exchange.use)

    def _set(self, exchange: Exchange, health: UseHealth) -> None:
        if exchange.registry == self.private_name:
            self._private = self._private.with_use(exchange.use, health)
            return
        source = self._sources.get(exchange.registry, RegistryHealth())
        self._sources[exchange.registry] = source.with_use(exchange.use, health)
        self._sources.move_to_end(exchange.registry)
        if len(self._sources) > MOST_SOURCES:
            self._sources.popitem(last=False)


class ProbeObserver:
    """Lets the health of registries know how the probes' requests end.

    Args:
        states: The health.
    """

    def __init__(self, states: HealthStates) -> None:
        self._states = states

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Note a response that is no error."""
        self._states.answered(exchange, stored)

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Note a probe that was refused or got no response."""
        self._states.probe_failed(exchange, failure)

    def stated(self, exchange: Exchange, left: int) -> None:
        """Do nothing: a registry that counts requests is well."""
