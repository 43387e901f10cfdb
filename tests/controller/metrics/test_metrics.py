"""What a scraper gets: names by Prometheus's rules, no series that is not known, and a bounded number."""

import re
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controller.metrics import Metrics
from controller.metrics.families import Open, Reach
from controller.metrics.lrps import OF_LRPS
from controller.metrics.registries import MOST_SERVED, OTHER
from reconcile.health import Fault, RegistryUse
from reconcile.migrations import Goal, Migration, Phase
from reconcile.reasons import AppState, Reason
from tests.controller.store.samples import migration, turned_back_migration

CACHE = "cache.example:8080"
UNITS = ("_seconds", "_bytes", "_total", "_info")


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(metrics.exposed).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(metrics: Metrics, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: value for (each, labels), value in scraped(metrics).items() if each == name}


def turned_back(ended: Reason) -> Migration:
    return replace(turned_back_migration(), ended=ended)


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.became_active()
    made.registries.configure(CACHE, ["docker.io", "Registry.example"])
    return made


def test_names_follow_the_rules_of_prometheus(metrics: Metrics) -> None:
    for family in metrics.declared:
        assert re.fullmatch(r"docker_cache_[a-z][a-z_]*[a-z]", family.name)
        assert (family.kind == "counter") is family.name.endswith("_total"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name
        assert not re.search(r"minutes|millis|_kb|_mb|percent|_ms$", family.name)
        assert family.documentation[-1] not in ".:", family.name
        if "UTC seconds since 1970" in family.documentation:
            assert family.name.endswith("_timestamp_seconds"), family.name


def test_each_family_is_declared_once(metrics: Metrics) -> None:
    names = [family.name for family in metrics.declared]

    assert len(names) == len(set(names))


def test_values_of_labels_are_plain_identifiers(metrics: Metrics) -> None:
    for family in metrics.declared:
        for label, values in family.labels.items():
            assert re.fullmatch(r"[a-z_]+", label)
            if isinstance(values, Open) or family.name == "docker_cache_build_info":
                continue
            assert all(re.fullmatch(r"[a-z][a-z0-9-]*", value) for value in values), family.name


def test_counters_begin_at_zero_with_every_value_that_is_known(metrics: Metrics) -> None:
    """Else a rate misses the first event."""
    samples = scraped(metrics)
    for family in metrics.declared:
        if family.kind != "counter" or family.name in {
            "docker_cache_migrations_total",  # any reason may end one, few do
            "docker_cache_droplet_passes_total",
            "docker_cache_copied_bytes_total",  # of sources that served something
        }:
            continue
        for label, values in family.labels.items():
            found = {dict(labels).get(label) for name, labels in samples if name == family.name}
            expected = {CACHE, "docker.io", "registry.example", OTHER} if isinstance(values, Open) else values
            assert set(expected) <= found, (family.name, label)


def test_nothing_is_exposed_that_is_not_known(metrics: Metrics) -> None:
    text = generate_latest(metrics.exposed).decode()

    assert "_created" not in text
    assert "NaN" not in text
    assert "docker_cache_stored_copies" not in text
    assert "docker_cache_loggregator_agent_up" not in text
    assert "process_resident_memory_bytes" in text
    assert "docker_cache_build_info{" in text


def test_a_standby_has_no_gauges_of_the_active_instance() -> None:
    """So that sums and largest values over all instances are right."""
    metrics = Metrics()
    metrics.instance.lock_held.set(0)
    metrics.migrations.circuit_breaker_open.set(1)
    before = {name for name, _ in scraped(metrics)}
    hidden = {
        family.name for family in metrics.declared if family.kind == "gauge" and family.reach is Reach.ACTIVE
    }
    assert not before & hidden
    assert {"docker_cache_lock_held", "docker_cache_passes_total"} <= before

    metrics.became_active()

    assert {"docker_cache_circuit_breaker_open", "docker_cache_paused"} <= {n for n, _ in scraped(metrics)}


def test_the_number_of_series_is_bounded(metrics: Metrics) -> None:
    """Whoever pushes an app names hosts, and none of them gets a series before it has served an image."""
    for number in range(500):
        metrics.registries.note_served(f"r{number}.example")
        name = metrics.registries.names.of(f"r{number}.example")
        metrics.jobs.count_bytes(name, transferred=1, mounted=0, present=0)
    metrics.lrps.count({Reason.MIGRATED: 3})
    series = scraped(metrics)
    registries = {dict(labels)["registry"] for _, labels in series if "registry" in dict(labels)}

    assert len(registries) == 3 + MOST_SERVED + 1
    assert len(series) < 2200


def test_a_registry_has_one_name_whatever_way_it_is_written(metrics: Metrics) -> None:
    names = metrics.registries.names
    metrics.registries.note_served("Other.example:443")

    assert names.of("index.docker.io") == "docker.io"
    assert names.of("REGISTRY.example") == "registry.example"
    assert names.of("other.example") == "other.example"
    assert names.of("unheard.example") == OTHER
    assert metrics.registries.side_of("cache.example:8080") == "private"
    assert metrics.registries.side_of("docker.io") == "source"


def test_a_registry_that_fails_is_down_with_its_fault_until_it_is_well(metrics: Metrics) -> None:
    metrics.registries.show(
        {(CACHE, RegistryUse.PUSH): Fault.DISK_FULL, ("docker.io", RegistryUse.PULL): Fault.LOGIN}
    )
    up = {
        (dict(labels)["registry"], dict(labels)["use"]): value
        for labels, value in named(metrics, "docker_cache_registry_up").items()
    }
    unhealthy = map(dict, named(metrics, "docker_cache_registry_unhealthy"))
    faults = {(each["registry"], each["side"], each["use"], each["fault"]) for each in unhealthy}

    assert up == {
        (CACHE, "pull"): 1,
        (CACHE, "push"): 0,
        ("docker.io", "pull"): 0,
        ("registry.example", "pull"): 1,
    }
    assert faults == {
        (CACHE, "private", "push", "disk-full"),
        ("docker.io", "source", "pull", "login"),
    }

    metrics.registries.show({})

    assert named(metrics, "docker_cache_registry_unhealthy") == {}
    assert set(named(metrics, "docker_cache_registry_up").values()) == {1}


def test_lrps_are_counted_by_reason_and_its_state(metrics: Metrics) -> None:
    metrics.lrps.count({Reason.MIGRATED: 3, Reason.BRIDGE_CRASHED: 1})
    metrics.lrps.count({Reason.MIGRATED: 4})
    counted = named(metrics, "docker_cache_lrps")

    assert sum(counted.values()) == 4
    assert counted[frozenset({("state", "cached"), ("reason", "migrated")})] == 4
    assert len(counted) == len(OF_LRPS)


@pytest.mark.parametrize(
    ("ended", "reason", "goal", "is_good"),
    [
        (migration(), Reason.MIGRATED, Goal.CACHE, True),
        (migration(), Reason.BRIDGE_TIMEOUT, Goal.CACHE, False),
        (replace(migration(), goal=Goal.SOURCE), Reason.RESTORED, Goal.SOURCE, True),
        (turned_back(Reason.NOT_STARTED), Reason.NOT_STARTED, Goal.CACHE, False),
        (turned_back(Reason.RESTORED), Reason.RESTORED, Goal.SOURCE, True),
    ],
)
def test_a_migration_counts_for_what_it_was_begun_for(
    metrics: Metrics, ended: Migration, reason: Reason, goal: Goal, *, is_good: bool
) -> None:
    metrics.migrations.count_end(ended, reason, 4.0)
    ends = {
        labels: value for labels, value in named(metrics, "docker_cache_migrations_total").items() if value
    }
    durations = named(metrics, "docker_cache_migration_duration_seconds_sum")

    assert ends == {frozenset({("goal", goal), ("state", reason.state), ("reason", reason)}): 1}
    assert durations[frozenset({("goal", goal)})] == (4.0 if is_good else 0.0)


def test_every_failure_of_a_migration_has_the_state_failed() -> None:
    ends = {
        dict(labels)["reason"]: dict(labels)["state"]
        for labels in named(Metrics(), "docker_cache_migrations_total")
    }

    assert ends["bridge-crashed"] == ends["not-started"] == ends["reverted-externally"] == AppState.FAILED
    assert ends["migrated"] == AppState.CACHED
    assert ends["restored"] == AppState.SKIPPED
    assert Phase.PREPARED not in ends
