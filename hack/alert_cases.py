"""What promtool is to find of the alert rules: when each fires, with which words, and when it does not.

Each case is a platform of its own in one Prometheus: its label `platform` goes through all rules, so that the
cases do not disturb one another. Most are as they are from the beginning on.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hack.alerts import ALERTS, JOB, RULES

TESTS = RULES.with_name("docker-cache.tests.yml")
SLOW_TESTS = RULES.with_name("docker-cache-slow.tests.yml")

_NAMED = {alert.name: alert for alert in ALERTS}
_SHORT = 60
"""Minutes that an alert waits for at most that is sent soon."""


@dataclass(frozen=True, slots=True)
class Case:
    """One state of a platform.

    Attributes:
        alert: The name of the rule.
        series: Name, with its labels but `job`, to values in promtool's notation; N stands for the rest of
            the test. The first instance answers where nothing else is said.
        details: What the alert says about values; None if it does not fire.
        labels: Those of the alert beside `job`, `platform` and `severity`.
        begins: Minutes after which it is so.
    """

    alert: str
    series: Mapping[str, str]
    details: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    begins: int = 0


def _two(name: str, first: str, second: str, labels: str = "") -> dict[str, str]:
    """Write a series of two instances."""
    return {
        f'{name}{{instance="{instance}"{labels}}}': values
        for instance, values in (("a", first), ("b", second))
    }


def _one(name: str, values: str, labels: str = "") -> dict[str, str]:
    """Write a series that only the first instance has, which is active."""
    return {f'docker_cache_{name}{{instance="a"{labels}}}': values}


_UP = "docker_cache_registry_up"
_PRIVATE = ', registry="cache:5000", side="private", use='
_SOURCE = ', registry="docker.io", side="source", use="pull"'
_DAY = 86400
_SWEEPS = "sweep_last_success_timestamp_seconds"
_GOES_ON = "0+60xN"

CASES: Sequence[Case] = (
    Case("DockerCacheDown", _two("up", "0xN", "0xN"), ""),
    Case("DockerCacheDown", _two("up", "0 0 0 1xN", "0 0 0 1xN")),
    Case("DockerCacheInstanceDown", _two("up", "0xN", "1xN"), "It is a.", {"instance": "a"}),
    Case("DockerCacheInstanceDown", _two("up", "1xN", "1xN")),
    Case("DockerCacheNoActiveInstance", _two("docker_cache_lock_held", "0xN", "0xN"), ""),
    Case("DockerCacheNoActiveInstance", _two("docker_cache_lock_held", "1 1 0xN", "0 0 0 0 1xN")),
    Case("DockerCacheSeveralActiveInstances", _two("docker_cache_lock_held", "1xN", "1xN"), "There are 2."),
    Case("DockerCacheSeveralActiveInstances", _two("docker_cache_lock_held", "1 1 1 0xN", "0 1 1 1xN")),
    Case(
        "DockerCacheTakeoverStuck",
        {
            **_one("lock_held", "1xN"),
            **_one("ready", "0xN"),
            **_one(_SWEEPS, "0xN"),
            **_one("sweeps_total", "0xN", ', outcome="done"'),
        },
        "It is a.",
        {"instance": "a"},
    ),
    Case("DockerCacheTakeoverStuck", {**_one("lock_held", "1xN"), **_one("ready", "0x10 1xN")}),
    Case(
        "DockerCacheRestartsOften",
        {'process_start_time_seconds{instance="a"}': "0+60xN"},
        "a was started 9 times within an hour.",
        {"instance": "a"},
        begins=4,
    ),
    Case("DockerCacheRestartsOften", {'process_start_time_seconds{instance="a"}': "0 60 120 180xN"}),
    Case(
        "DockerCacheOtherStore",
        {
            **_one("other_stores", "1xN"),
            **_one("lock_held", "1xN"),
            **_one("ready", "0xN"),
            **_one(_SWEEPS, "0xN"),
            **_one("sweeps_total", "1xN", ', outcome="failed"'),
        },
        "",
    ),
    Case("DockerCacheOtherStore", _one("other_stores", "1 1 1 0xN")),
    Case(
        "DockerCacheBbsNotListed",
        {
            **_one(_SWEEPS, "0xN"),
            **_one("sweeps_total", "0 1xN", ', outcome="failed"'),
            **_one("bbs_stream_connected", "0xN", ', stream="tasks"'),
            **_one("lock_held", "1xN"),
            **_one("ready", "0xN"),
        },
        "",
        begins=6,
    ),
    Case(
        "DockerCacheBbsNotListed",
        {
            **_one(_SWEEPS, "0 0 0 0 0 300+60xN"),
            **_one("sweeps_total", "0 1xN", ', outcome="failed"'),
        },
    ),
    Case(
        "DockerCacheBbsNotListed",
        {
            **_one(_SWEEPS, "0xN"),
            **_one("sweeps_total", "1xN", ', outcome="done"'),
            **_one("sweep_interval_seconds", "1200xN"),
        },
    ),
    Case(
        "DockerCacheBbsEventsLost",
        {**_one("bbs_stream_connected", "0xN", ', stream="tasks"'), **_one(_SWEEPS, _GOES_ON)},
        "It is the stream tasks.",
        {"stream": "tasks"},
    ),
    Case(
        "DockerCacheBbsEventsLost",
        {**_one("bbs_stream_connected", "0 1xN", ', stream="tasks"'), **_one(_SWEEPS, _GOES_ON)},
    ),
    Case("DockerCacheBbsEventsLost", _one("bbs_stream_connected", "0xN", ', stream="tasks"')),
    Case(
        "DockerCacheBbsRecordsUnreadable",
        _one("bbs_broken_events_total", "0+1xN"),
        "In half an hour: 6.",
        begins=1,
    ),
    Case("DockerCacheBbsRecordsUnreadable", _one("bbs_broken_events_total", "3xN")),
    Case(
        "DockerCachePrivateRegistryServesNoPulls",
        {
            **_one("registry_up", "0xN", f'{_PRIVATE}"pull"'),
            **_one("registry_up", "0xN", f'{_PRIVATE}"push"'),
            **_one("registry_unhealthy", "1xN", f'{_PRIVATE}"pull", fault="no-answer"'),
            **_one("cells_not_proven", "1xN"),
        },
        "It is cache:5000. It says: no-answer.",
        {"registry": "cache:5000", "side": "private", "use": "pull"},
    ),
    Case("DockerCachePrivateRegistryServesNoPulls", _one("registry_up", "0 1xN", f'{_PRIVATE}"pull"')),
    Case(
        "DockerCachePrivateRegistryTakesNoPushes",
        {
            **_one("registry_up", "1xN", ', registry="full:5000", side="private", use="pull"'),
            **_one("registry_up", "0xN", ', registry="full:5000", side="private", use="push"'),
            **_one(
                "registry_unhealthy",
                "1xN",
                ', registry="full:5000", side="private", use="push", fault="disk-full"',
            ),
            **_one("job_failures_total", "0+1xN", ', outcome="failed", kind="disk-full"'),
            **_one("job_attempts_total", "0xN", ', outcome="cached"'),
        },
        "It is full:5000. It says: disk-full.",
        {"registry": "full:5000", "side": "private", "use": "push"},
    ),
    Case("DockerCachePrivateRegistryTakesNoPushes", _one("registry_up", "0 0 1xN", f'{_PRIVATE}"push"')),
    Case(
        "DockerCacheSourceRegistryDown",
        {
            **_one("registry_up", "0xN", _SOURCE),
            **_one("registry_unhealthy", "1xN", f'{_SOURCE}, fault="unavailable"'),
            **_one("source_lrps", "7xN", ', registry="docker.io"'),
        },
        "It is docker.io. It says: unavailable. 7 LRPs still run from it.",
        {"registry": "docker.io", "side": "source", "use": "pull"},
    ),
    Case("DockerCacheSourceRegistryDown", _one("registry_up", "0x10 1xN", _SOURCE)),
    Case(
        "DockerCacheSourceRegistryLimitsRequests",
        _one("registry_errors_total", "0+1xN", ', registry="docker.io", side="source", kind="rate-limited"'),
        "It is docker.io, with 30 refusals in half an hour.",
        {"registry": "docker.io", "side": "source", "kind": "rate-limited"},
        begins=1,
    ),
    Case(
        "DockerCacheSourceRegistryLimitsRequests",
        _one(
            "registry_errors_total", "0+1x20 20xN", ', registry="quay.io", side="source", kind="rate-limited"'
        ),
    ),
    Case("DockerCacheCopiesLost", _one("copies_lost", "2xN"), "Copies: 2."),
    Case("DockerCacheCopiesLost", _one("copies_lost", "2 2 0xN")),
    Case(
        "DockerCacheCopiesIncomplete",
        {**_one("copies_incomplete", "3xN"), **_one("copies_lost", "0xN")},
        "Copies: 3.",
    ),
    Case(
        "DockerCacheCopiesIncomplete",
        {**_one("copies_incomplete", "3x8 0xN"), **_one("copies_lost", "0xN")},
    ),
    Case("DockerCacheCopiesUnknown", _one("unknown_copies", "4xN"), "Copies: 4."),
    Case("DockerCacheCopiesUnknown", _one("unknown_copies", "4x5 0xN")),
    Case(
        "DockerCacheCellsCannotPull",
        {**_one("cells_not_proven", "1xN"), **_one("foreign_logins_not_proven", "2xN")},
        "Sets of placement tags: 1.",
    ),
    Case("DockerCacheCellsCannotPull", _one("cells_not_proven", "1x5 0xN")),
    Case(
        "DockerCacheCellsCannotPullForDroplets",
        {**_one("foreign_logins_not_proven", "2xN"), **_one("cells_not_proven", "0xN")},
        "",
    ),
    Case("DockerCacheCellsCannotPullForDroplets", _one("foreign_logins_not_proven", "2x10 0xN")),
    Case("DockerCacheLoginsOutdated", _one("outdated_logins", "9xN"), "LRPs: 9."),
    Case("DockerCacheLoginsOutdated", _one("outdated_logins", "9x12 0xN")),
    Case(
        "DockerCacheCircuitBreakerOpen",
        {**_one("circuit_breaker_open", "1xN"), **_one("migrations_set_aside", "3xN")},
        "",
    ),
    Case("DockerCacheCircuitBreakerOpen", _one("circuit_breaker_open", "1 1 0xN")),
    Case(
        "DockerCacheMigrationsSetAside",
        {**_one("migrations_set_aside", "2xN"), **_one("circuit_breaker_open", "0xN")},
        "Organizations and copies: 2.",
    ),
    Case("DockerCacheMigrationsSetAside", _one("migrations_set_aside", "2x40 0xN")),
    Case(
        "DockerCacheMigrationStuck",
        _one("migration_oldest_age_seconds", "0+60xN", ', phase="starting"'),
        "It is in the phase starting, and began 1h 6m 0s ago.",
        {"phase": "starting"},
        begins=61,
    ),
    Case(
        "DockerCacheMigrationStuck", _one("migration_oldest_age_seconds", "0+60x50 0xN", ', phase="starting"')
    ),
    Case(
        "DockerCacheCopiesFail",
        {
            **_one("job_failures_total", "0+1xN", ', outcome="failed", kind="timeout"'),
            **_one("job_attempts_total", "0xN", ', outcome="cached"'),
        },
        "Within an hour: 21.",
        begins=6,
    ),
    Case(
        "DockerCacheCopiesFail",
        {
            **_one("job_failures_total", "0+1xN", ', outcome="failed", kind="timeout"'),
            **_one("job_attempts_total", "0+2xN", ', outcome="cached"'),
        },
    ),
    Case(
        "DockerCacheCopiesFail",
        {
            **_one("job_failures_total", "0+9xN", ', outcome="failed", kind="not-found"'),
            **_one("job_attempts_total", "0xN", ', outcome="cached"'),
        },
    ),
    Case(
        "DockerCacheCopiesWait",
        _one("jobs_waiting", "12xN", ', urgency="staging"'),
        "Copies: 12.",
        {"urgency": "staging"},
    ),
    Case("DockerCacheCopiesWait", _one("jobs_waiting", "12xN", ', urgency="backlog"')),
    Case(
        "DockerCacheDatabaseUnavailable",
        {
            **_two("docker_cache_database_unavailable_since_timestamp_seconds", "0xN", "1xN"),
            **_two("docker_cache_lock_held", "0xN", "1xN"),
            **_two("docker_cache_ready", "0xN", "0xN"),
            **_one(_SWEEPS, "0xN"),
            **_two("docker_cache_store_errors_total", "0xN", "0+2xN", ', kind="unavailable"'),
        },
        "Since 1970-01-01 00:00:01 +0000 UTC.",
    ),
    Case(
        "DockerCacheDatabaseUnavailable",
        _two("docker_cache_database_unavailable_since_timestamp_seconds", "0xN", "1 0xN"),
    ),
    Case(
        "DockerCacheDatabaseErrors",
        {
            **_one("store_errors_total", "0+2xN", ', kind="unavailable"'),
            **_one("database_unavailable_since_timestamp_seconds", "0xN"),
        },
        "Errors in a quarter of an hour: 30.",
        begins=2,
    ),
    Case("DockerCacheDatabaseErrors", _one("store_errors_total", "0+2xN", ', kind="conflict"')),
    Case("DockerCacheDatabaseErrors", _one("store_errors_total", "0 9xN", ', kind="unavailable"')),
    Case(
        "DockerCacheCloudControllerFails",
        _one("cloud_controller_failing_since_timestamp_seconds", "60xN"),
        "Since 1970-01-01 00:01:00 +0000 UTC.",
    ),
    Case(
        "DockerCacheCloudControllerFails",
        _one("cloud_controller_failing_since_timestamp_seconds", "60x9 0xN"),
    ),
    Case(
        "DockerCacheCloudControllerLimitsRequests",
        _one("cloud_controller_requests_total", "0+1xN", ', call="list-droplets", outcome="rate-limited"'),
        "In half an hour: 30.",
        begins=1,
    ),
    Case(
        "DockerCacheCloudControllerLimitsRequests",
        _one(
            "cloud_controller_requests_total", "0+1x20 20xN", ', call="list-droplets", outcome="rate-limited"'
        ),
    ),
    Case("DockerCacheLoggregatorAgentDown", _one("loggregator_agent_up", "0xN"), ""),
    Case("DockerCacheLoggregatorAgentDown", _one("loggregator_agent_up", "0x9 1xN")),
    Case("DockerCachePaused", _one("paused", "1xN"), ""),
    Case("DockerCachePaused", _one("paused", "1x120 0xN")),
    Case(
        "DockerCacheCertificateEndsSoon",
        _one("certificate_end_timestamp_seconds", f"{13 * _DAY}xN", ', file="bbs_client_cert_file"'),
        "It is that of `bbs_client_cert_file`, and ends in 12d 23h 0m 0s.",
        {"file": "bbs_client_cert_file"},
    ),
    Case(
        "DockerCacheCertificateEndsSoon",
        _one("certificate_end_timestamp_seconds", f"{17 * _DAY}xN", ', file="bbs_client_cert_file"'),
    ),
    Case(
        "DockerCacheCertificateEndsNow",
        _one("certificate_end_timestamp_seconds", f"{_DAY}xN", ', file="admin_server_cert_file"'),
        "It is that of `admin_server_cert_file`: 23h 55m 0s are left.",
        {"file": "admin_server_cert_file"},
    ),
    Case(
        "DockerCacheCertificateEndsNow",
        _one(
            "certificate_end_timestamp_seconds",
            f"{_DAY} {_DAY} {90 * _DAY}xN",
            ', file="admin_server_cert_file"',
        ),
    ),
    Case(
        "DockerCacheConfigNotReloaded",
        _two("docker_cache_config_last_reload_successful", "1xN", "0xN"),
        "It is b.",
        {"instance": "b"},
    ),
    Case(
        "DockerCacheConfigNotReloaded",
        _two("docker_cache_config_last_reload_successful", "1xN", "0 0 1xN"),
    ),
    Case(
        "DockerCacheInternalErrors",
        {
            **_one("pass_errors_total", "0+1xN", ', kind="internal-error"'),
            **_one("droplet_pass_errors_total", "0xN", ', kind="internal-error"'),
            **_one("job_failures_total", "0xN", ', outcome="again", kind="internal-error"'),
        },
        "Within an hour: 6.",
        begins=1,
    ),
    Case(
        "DockerCacheInternalErrors",
        {
            **_one("pass_errors_total", "0+1xN", ', kind="unavailable"'),
            **_one("droplet_pass_errors_total", "0xN", ', kind="internal-error"'),
            **_one("job_failures_total", "0xN", ', outcome="again", kind="internal-error"'),
        },
    ),
    Case(
        "DockerCacheEventLoopSlow",
        _one("event_loop_lag_seconds", "2.5xN"),
        "On a nothing else was done for 2.5s.",
        {"instance": "a"},
    ),
    Case("DockerCacheEventLoopSlow", _one("event_loop_lag_seconds", "2.5 2.5 0.2xN")),
    Case(
        "DockerCacheOpenFilesNearLimit",
        {'process_open_fds{instance="a"}': "950xN", 'process_max_fds{instance="a"}': "1000xN"},
        "a has 95% of them.",
        {"instance": "a"},
    ),
    Case(
        "DockerCacheOpenFilesNearLimit",
        {'process_open_fds{instance="a"}': "500xN", 'process_max_fds{instance="a"}': "1000xN"},
    ),
)


def tests() -> str:
    """Write the file of promtool's tests of alerts that are sent within an hour."""
    return _file(TESTS.name, 1, (case for case in CASES if _NAMED[case.alert].minutes <= _SHORT))


def slow_tests() -> str:
    """Write the file of those of alerts that are sent later, for which promtool looks more seldom."""
    return _file(SLOW_TESTS.name, 10, (case for case in CASES if _NAMED[case.alert].minutes > _SHORT))


def _file(name: str, step: int, cases: Iterable[Case]) -> str:
    """Write a file of two tests: in one there are all cases, and in the other one nobody is scraped."""
    lines = [
        f"# Tests of {RULES.name}, written by hack/update-docs from hack/alert_cases.py.",
        f"# Run them with: promtool test rules {name}",
        "rule_files:",
        f"  - {RULES.name}",
        f"evaluation_interval: {step}m",
        "tests:",
        *_test([(f"{case.alert}-{at}", case) for at, case in enumerate(cases)], step),
        *_nobody_scraped(step),
    ]
    return "\n".join((*lines, ""))


def _test(cases: Sequence[tuple[str, Case]], step: int) -> Iterator[str]:
    """Write the series of cases, and what each of their alerts says when."""
    fires = {
        platform: case.begins + _NAMED[case.alert].minutes
        for platform, case in cases
        if case.details is not None
    }
    end = max(fires.values()) + 10 * step
    yield from ("  - name: each alert", f"    interval: {step}m", "    input_series:")
    for platform, case in cases:
        target = f'job="{JOB}", platform="{platform}"'
        for series, values in {'up{instance="a"}': "1xN", **case.series}.items():
            yield f"      - series: {_quoted(f'{series[:-1]}, {target}}}')}"
            yield f"        values: {_quoted(values.replace('N', str(end // step)))}"
    yield "    alert_rule_test:"
    for platform, case in cases:
        if case.details is not None:
            yield from _none(case.alert, fires[platform] - step)
            yield from _fired(case, fires[platform], {**case.labels, "platform": platform})
    yield "    promql_expr_test: # no other alert than these"
    yield "      - expr: count by (alertname, platform) (ALERTS)"
    yield f"        eval_time: {end}m"
    yield "        exp_samples:"
    for platform, case in cases:
        if case.details is not None:
            yield f'          - labels: \'{{alertname="{case.alert}", platform="{platform}"}}\''
            yield "            value: 1"


def _nobody_scraped(step: int) -> Iterator[str]:
    """Write the test in which Prometheus knows no instance at all."""
    case = Case("DockerCacheDown", {}, "")
    yield from ("  - name: nobody is scraped", f"    interval: {step}m", "    input_series: []")
    yield "    alert_rule_test:"
    yield from _none(case.alert, 0)
    yield from _fired(case, 10, {})


def _none(alert: str, at: int) -> Iterator[str]:
    yield f"      - alertname: {alert}"
    yield f"        eval_time: {at}m"
    yield "        exp_alerts: []"


def _fired(case: Case, at: int, labels: Mapping[str, str]) -> Iterator[str]:
    alert = _NAMED[case.alert]
    yield f"      - alertname: {alert.name}"
    yield f"        eval_time: {at}m"
    yield "        exp_alerts:"
    yield "          - exp_labels:"
    for name, value in sorted({**labels, "job": JOB, "severity": str(alert.severity)}.items()):
        yield f"              {name}: {_quoted(value)}"
    yield "            exp_annotations:"
    yield f"              summary: {_quoted(alert.wrong)}"
    yield f"              description: {_quoted(alert.description(case.details))}"
    yield f"              runbook_url: {alert.runbook_url}"


def _quoted(text: str) -> str:
    """Quote a text for YAML."""
    return json.dumps(text) if "'" in text else f"'{text}'"
