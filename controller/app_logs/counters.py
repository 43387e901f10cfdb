"""Reads the counts that operators get through Loggregator, in the style of the family's own components."""

from collections.abc import Iterator, Mapping

from controller.metrics import Metrics
from reconcile.app_log_lines import ComponentCounter
from reconcile.protocol import FAILURES
from reconcile.reasons import Reason

_FAILED = tuple(FAILURES)

COUNTERS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "ImagesCached": (("docker_cache_jobs_total", "outcome", "cached"),),
    "CopiesFailed": (("docker_cache_jobs_total", "outcome", "failed"),),
    "BytesTransferred": (("docker_cache_transferred_bytes_total", "", ""),),
    "AppsMigrated": (("docker_cache_passes_total", "reason", Reason.MIGRATED),),
    "MigrationsFailed": tuple(("docker_cache_passes_total", "reason", each) for each in _FAILED),
    "AppsRestored": tuple(
        ("docker_cache_passes_total", "reason", each)
        for each in (Reason.RESTORED, Reason.FELL_BACK_TO_SOURCE)
    ),
    "AppLogLinesDropped": (("docker_cache_app_log_entries_total", "outcome", "dropped"),),
}
"""Name of a counter to its samples: the name of each, and a label with its value, if it has one."""


def component_counters(metrics: Metrics, at: int) -> Iterator[ComponentCounter]:
    """Read all counters, also those that have counted nothing: so the agent is asked from the start.

    Args:
        metrics: Of the process.
        at: Nanoseconds since 1970.
    """
    wanted = {sample for samples in COUNTERS.values() for sample in samples}
    found: dict[tuple[str, str, str], float] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            label, value = next(iter(sample.labels.items()), ("", ""))
            key = (sample.name, label, value)
            if key in wanted:
                found[key] = found.get(key, 0.0) + sample.value
    for name, samples in COUNTERS.items():
        yield ComponentCounter(name, int(sum(found.get(each, 0.0) for each in samples)), at)
