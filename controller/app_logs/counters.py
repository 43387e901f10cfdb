"""Reads the counters that operators get through Loggregator, named in Cloud Foundry's style."""

from collections.abc import Iterator, Mapping

from prometheus_client.samples import Sample

from controller.metrics import Metrics
from reconcile.app_log_lines import ComponentCounter
from reconcile.reasons import AppState, Reason

_WantedSamples = tuple[str, str, frozenset[str]]
"""Which samples count: their name, the name of a label, and the values of the label."""

COUNTERS: Mapping[str, _WantedSamples] = {
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
"""Name of a counter to the samples whose sum it is."""


def component_counters(metrics: Metrics, at: int) -> Iterator[ComponentCounter]:
    """Read all counters, also those at 0, so that a missing agent is noticed from the start.

    Args:
        metrics: The metrics of the process.
        at: When they are read, in nanoseconds since 1970.
    """
    read = metrics.registry.restricted_registry({name for name, *_ in COUNTERS.values()})
    samples = [sample for family in read.collect() for sample in family.samples]
    for name, wanted in COUNTERS.items():
        total = int(sum(sample.value for sample in samples if _is_wanted(sample, wanted)))
        yield ComponentCounter(name, total, at)


def _is_wanted(sample: Sample, wanted: _WantedSamples) -> bool:
    name, label, values = wanted
    return sample.name == name and sample.labels.get(label) in values
