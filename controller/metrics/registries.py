"""The metrics of registries, of which a bounded number is told apart: tenants name as many as they like."""

import threading
from collections.abc import Collection, Iterable, Mapping

from controller.metrics.families import Families, Open
from reconcile.failure_kinds import FailureKind
from reconcile.health import Fault, RegistryUse
from reconcile.hosts import canonical_host

MOST_SERVED = 20
"""Source registries that are told apart beside those of the config: the first ones that served an image."""

OTHER = "other"
"""The name of all others together."""

SIDES = ("private", "source")

_HOSTS = Open("registries, see above")


class RegistryNames:
    """Names registries in labels; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.private = ""
        self._configured: tuple[str, ...] = ()
        self._served = dict[str, None]()

    def configure(self, private: str, sources: Iterable[str]) -> None:
        """Tell apart the registries of the config, whatever they have served."""
        self.private = canonical_host(private)
        named = dict.fromkeys(canonical_host(each) for each in sources)
        self._configured = tuple(each for each in named if each != self.private)

    def note_served(self, host: str) -> bool:
        """Tell a source apart that has served an image, if there is room; return whether that is new."""
        name = canonical_host(host)
        with self._lock:
            is_known = name == self.private or name in self._configured or name in self._served
            if is_known or len(self._served) >= MOST_SERVED:
                return False
            self._served[name] = None
            return True

    @property
    def sources(self) -> tuple[str, ...]:
        """The source registries that are told apart."""
        with self._lock:
            return (*self._configured, *self._served)

    def of(self, host: str) -> str:
        """Name a registry."""
        name = canonical_host(host)
        if name == self.private or name in self._configured:
            return name
        with self._lock:
            return name if name in self._served else OTHER


class RegistryMetrics:
    """The private registry, and the sources."""

    def __init__(self, families: Families) -> None:
        self.names = RegistryNames()
        self.up = families.late_gauge(
            "registry_up",
            "1 while a registry is well, 0 while it is unhealthy: its requests fail in a row. A source is "
            "only pulled from",
            {"registry": _HOSTS, "side": SIDES, "use": tuple(RegistryUse)},
        )
        self.unhealthy = families.late_gauge(
            "registry_unhealthy",
            "1 while a registry is unhealthy, by what is wrong with it; not there while it is well",
            {"registry": _HOSTS, "side": SIDES, "use": tuple(RegistryUse), "fault": tuple(Fault)},
        )
        self.unhealthy_sources = families.gauge(
            "unhealthy_sources",
            "Source registries that are unhealthy, of those that have served an image or are configured",
        )
        self.requests = families.counter(
            "registry_requests",
            "Requests to registries that ended, well or not",
            {"registry": _HOSTS, "side": SIDES, "use": tuple(RegistryUse)},
        )
        self.errors = families.counter(
            "registry_errors",
            "Requests to registries that failed, by the kind of failure",
            {"registry": _HOSTS, "side": SIDES, "kind": tuple(FailureKind)},
        )
        self.rate_limit_remaining = families.late_gauge(
            "registry_rate_limit_remaining",
            "Requests that are left in a registry's rate limit, as it stated last; not there where it "
            "states none",
            {"registry": _HOSTS},
        )
        self._shown: Collection[tuple[str, ...]] = ()

    def configure(self, private: str, sources: Iterable[str]) -> None:
        """Tell apart the registries of the config, and begin their counters."""
        self.names.configure(private, sources)
        self._begin(self.names.private, "private")
        for name in (*self.names.sources, OTHER):
            self._begin(name, "source")

    def note_served(self, host: str) -> None:
        """Tell a source apart that has served an image, if there is room."""
        if self.names.note_served(host):
            self._begin(canonical_host(host), "source")

    def show(self, failing: Mapping[tuple[str, RegistryUse], Fault]) -> None:
        """Show which registries are unhealthy, and what is wrong with them.

        Args:
            failing: Host and use to what is wrong; all others are well.
        """
        watched = [(self.names.private, "private", use) for use in RegistryUse]
        watched += [(name, "source", RegistryUse.PULL) for name in self.names.sources]
        shown = set[tuple[str, ...]]()
        for name, side, use in watched:
            fault = failing.get((name, use))
            self.up.labels(name, side, use).set(fault is None)
            if fault is not None:
                shown.add((name, side, str(use), str(fault)))
        for labels in shown:
            self.unhealthy.labels(*labels).set(1)
        for labels in set(self._shown) - shown:
            self.unhealthy.remove(*labels)
        self._shown = shown

    def side_of(self, host: str) -> str:
        """Say which side a registry is on."""
        return SIDES[0] if canonical_host(host) == self.names.private else SIDES[1]

    def _begin(self, name: str, side: str) -> None:
        for use in RegistryUse if side == "private" else (RegistryUse.PULL,):
            self.requests.labels(name, side, use)
        for kind in FailureKind:
            self.errors.labels(name, side, kind)
