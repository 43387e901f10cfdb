"""Declares families of metrics: their names, the values of their labels, and which instances have them.

A family whose labels have known values begins with all of them at 0, so that a rate sees the first event.
A gauge that is not known yet is NaN, and not exposed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "docker_cache_"


class Reach(Enum):
    """Which instances have the gauges of a family; counters are everywhere, at 0 on a standby."""

    EVERY = "every instance"
    ACTIVE = "the active instance"


@dataclass(frozen=True, slots=True)
class Open:
    """The values of a label that are not all known before.

    Attributes:
        words: What they are, and how many at most, for the reference.
    """

    words: str


Values = tuple[str, ...] | Open
Labels = Mapping[str, Values]
_NONE: Labels = {}


@dataclass(frozen=True, slots=True)
class Family:
    """What the reference says of a family of metrics.

    Attributes:
        name: The whole name, as it is in samples.
        kind: "counter", "gauge" or "histogram".
        labels: Names to their values.
    """

    name: str
    kind: str
    documentation: str
    reach: Reach
    labels: Labels = field(default_factory=dict)


class Families:
    """Makes families and remembers what the reference says of them.

    Args:
        registry: Collects their samples.
        reach: Of the families.
        declared: Gets what the reference says, in the order of declaration.
    """

    def __init__(self, registry: CollectorRegistry, reach: Reach, declared: list[Family]) -> None:
        self._registry, self._reach, self._declared = registry, reach, declared

    def counter(
        self,
        name: str,
        documentation: str,
        labels: Labels = _NONE,
        combinations: Iterable[tuple[str, ...]] | None = None,
    ) -> Counter:
        """Make a counter.

        Args:
            name: Without prefix and `_total`.
            documentation: One line.
            labels: See `Family`.
            combinations: Values of the labels to begin with; None for all combinations of known values.
        """
        self._declare(f"{name}_total", "counter", documentation, labels)
        counter = Counter(f"{PREFIX}{name}", documentation, tuple(labels), registry=self._registry)
        for values in _combined(labels) if combinations is None else combinations:
            counter.labels(*values)
        return counter

    def gauge(self, name: str, documentation: str, labels: Labels = _NONE) -> Gauge:
        """Make a gauge that is 0 until it is set."""
        gauge = self._gauge(name, documentation, labels)
        for values in _combined(labels):
            gauge.labels(*values)
        return gauge

    def late_gauge(self, name: str, documentation: str, labels: Labels = _NONE) -> Gauge:
        """Make a gauge that is not exposed before it is set."""
        gauge = self._gauge(name, documentation, labels)
        if not labels:
            gauge.set(math.nan)
        return gauge

    def histogram(
        self, name: str, documentation: str, buckets: tuple[float, ...], labels: Labels = _NONE
    ) -> Histogram:
        """Make a histogram."""
        self._declare(name, "histogram", documentation, labels)
        histogram = Histogram(
            f"{PREFIX}{name}", documentation, tuple(labels), buckets=buckets, registry=self._registry
        )
        for values in _combined(labels):
            histogram.labels(*values)
        return histogram

    def _gauge(self, name: str, documentation: str, labels: Labels) -> Gauge:
        self._declare(name, "gauge", documentation, labels)
        return Gauge(f"{PREFIX}{name}", documentation, tuple(labels), registry=self._registry)

    def _declare(self, name: str, kind: str, documentation: str, labels: Labels) -> None:
        self._declared.append(Family(f"{PREFIX}{name}", kind, documentation, self._reach, dict(labels)))


def _combined(labels: Labels) -> Iterable[tuple[str, ...]]:
    """Combine the values of labels that are all known; nothing where there are no labels, or open ones."""
    known = [values for values in labels.values() if isinstance(values, tuple)]
    return product(*known) if labels and len(known) == len(labels) else ()
