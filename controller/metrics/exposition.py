"""Chooses which samples a scraper gets."""

import math
from collections.abc import Callable, Collection, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector


class Exposition(Collector):
    """The samples that are exposed: none that is not known, and no `_created`.

    On a standby the gauges of the active instance are missing, so that sums and largest values over all
    instances are those of the active one.

    Args:
        registry: Has all samples.
        of_active: Names of the gauges that the active instance alone has.
        is_active: Whether this instance is that.
    """

    def __init__(
        self, registry: CollectorRegistry, of_active: Collection[str], is_active: Callable[[], bool]
    ) -> None:
        self._registry, self._of_active, self._is_active = registry, frozenset(of_active), is_active

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have samples."""
        hidden = frozenset[str]() if self._is_active() else self._of_active
        for family in self._registry.collect():
            if family.name in hidden:
                continue
            family.samples = [
                sample
                for sample in family.samples
                if not sample.name.endswith("_created") and not math.isnan(sample.value)
            ]
            if family.samples:
                yield family
