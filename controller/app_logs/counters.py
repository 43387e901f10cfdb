"""Reads the counts that operators get through Loggregator, in the style of the family's own components."""

from collections.abc import Iterator, Mapping

from prometheus_client.samples import Sample

from controller.metrics import Metrics
from reconcile.app_log_lines import ComponentCounter
from reconcile.reasons import AppState, Reason

_Wanted = tuple[str, str, frozenset[str]]
"""Samples: their name, and a label with the values that count."""

COUNTERS: Mapping[str, _Wanted] = {
    "ImagesCached": ("docker_cache_job_attempts_total", "outcome", frozenset({"cached"})),
    "CopiesFailed": ("docker_cache_job_attempts_total", "outcome", frozenset({"failed"})),
    "BytesTransferred": ("docker_cache_copied_bytes_total", "how", frozenset({"transferred"})),
    "AppsMigrated": ("docker_cache_migrations_total", "reason", frozenset({Reason.MIGRATED})),
    "MigrationsFailed": ("docker_cache_migrations_total", "state", frozenset({AppState.FAILED})),
    "AppsRestored": (
        "docker_cache_migrations_total",
        "reason",
        frozenset({Reason.RESTORED, Reason.FELL_BACK_TO_SOURCE}),
    ),
    "AppLogLinesDropped": ("docker_cache_app_log_entries_total", "outcome", frozenset({"dropped"})),
}
"""Name of a counter to the samples that it adds up."""


def component_counters(metrics: Metrics, at: int) -> Iterator[ComponentCounter]:
    """Read all counters, also those that have counted nothing: so the agent is asked from the start.

    Args:
        metrics: Of the process.
        at: Nanoseconds since 1970.
    """
    read = metrics.registry.restricted_registry({name for name, *_ in COUNTERS.values()})
    samples = [sample for family in read.collect() for sample in family.samples]
    for name, wanted in COUNTERS.items():
        total = int(sum(sample.value for sample in samples if _is_wanted(sample, wanted)))
        yield ComponentCounter(name, total, at)


def _is_wanted(sample: Sample, wanted: _Wanted) -> bool:
    name, label, values = wanted
    return sample.name == name and sample.labels.get(label) in values
