"""The alert rules for Prometheus: what an operator is told, what it costs, and where to read on.

hack/update-docs writes them as deploy/prometheus/docker-cache.rules.yml, with promtool's tests of them from
`hack.alert_cases` beside them, and into the documentation as a table.

What a rule looks at holds whoever is active: gauges of the active instance are taken from whichever instance
has them, without the label `instance`. So an alert outlives a takeover.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus" / "docker-cache.rules.yml"
PAGES = "https://github.com/cloudfoundry-community/diego-docker-cache/blob/main/docs/pages"
JOB = "docker-cache"
"""The value of the label `job` of the daemon's scrapes, which the rules about `up` and processes need."""

_WIDTH = 110
_MINUTES = {"m": 1, "h": 60, "d": 1440}


class Severity(StrEnum):
    """Who should know."""

    CRITICAL = "critical"
    """Somebody, now: apps may not start, or nobody works for them."""
    WARNING = "warning"
    """Somebody, on the next working day: what apps run from is in order."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule.

    Attributes:
        after: How long it must be so, in Prometheus's notation.
        wrong: What is wrong, in a sentence without a full stop.
        cost: What that costs meanwhile, in sentences.
        details: Sentences with values, in Prometheus's template language.
        runbook: The page, and its heading, that says what to do.
    """

    name: str
    severity: Severity
    after: str
    wrong: str
    cost: str
    runbook: str
    expr: str
    details: str = ""

    @property
    def runbook_url(self) -> str:
        """Where the page is."""
        return f"{PAGES}/{self.runbook}"

    @property
    def minutes(self) -> int:
        """How long it must be so."""
        return int(self.after[:-1]) * _MINUTES[self.after[-1]]

    def description(self, details: str | None = None) -> str:
        """Say what it costs, and the values.

        Args:
            details: As they are with values; None leaves them as they are in the rule.
        """
        return " ".join(filter(None, (self.cost, self.details if details is None else details)))


def _any(gauge: str) -> str:
    """Take a gauge from whichever instance has it."""
    return f"max without (instance) (docker_cache_{gauge})"


_PULLS = "side='private', use='pull'"
_PUSHES = "side='private', use='push'"
_PRIVATE = "side='private'"
_SOURCE = "side='source'"


def _down(selector: str) -> str:
    """Find platforms whose registry does not do what it is asked."""
    return f"max without (instance, registry, side, use) (docker_cache_registry_up{{{selector}}} == 0)"


def _faults(selector: str) -> str:
    """Say, in Prometheus's template language, what a registry that is unhealthy says."""
    query = f'printf "docker_cache_registry_unhealthy{{registry=%q, {selector}}} == 1" $labels.registry'
    return f"{{{{ range query ({query}) }}}} It says: {{{{ .Labels.fault }}}}.{{{{ end }}}}"


_OF_TENANTS = (
    "not-found|denied|address-refused|bad-content|too-large|cannot-run-on-cells|credentials-lost|failed-bytes"
)
"""Kinds of failures that are mostly the fault of whoever pushed an app."""

_FAILED = "outcome='failed'"
_NOT_OF_TENANTS = f"{_FAILED}, kind!~'{_OF_TENANTS}'"


def _failed(selector: str) -> str:
    """Count the copies of the last hour that failed."""
    counter = f"docker_cache_job_failures_total{{{selector}}}"
    return f"sum without (instance, outcome, kind) (increase({counter}[1h]))"


def _internal(counter: str) -> str:
    """Count the faults of the program of the last hour that a counter knows."""
    selected = f"docker_cache_{counter}{{kind='internal-error'}}"
    return f"sum without (instance, outcome, kind) (increase({selected}[1h]))"


_NOBODY_WORKS = (
    "Apps run on, from wherever they run. What is pushed now comes from its source, and so does what is "
    "restarted, unless its droplet names its copy. No image is copied, and no migration goes on."
)

ALERTS = (
    Alert(
        "DockerCacheDown",
        Severity.CRITICAL,
        "5m",
        "No instance of the daemon answers",
        _NOBODY_WORKS,
        "how-to/incidents/daemon-down.md",
        f'sum without (instance) (up{{job="{JOB}"}}) == 0\nor\nabsent(up{{job="{JOB}"}})',
    ),
    Alert(
        "DockerCacheInstanceDown",
        Severity.WARNING,
        "10m",
        "An instance of the daemon does not answer, while another one does",
        "Nothing now. When the active instance ends as well, nobody takes over from it.",
        "how-to/incidents/daemon-down.md",
        f'up{{job="{JOB}"}} == 0\nand ignoring (instance)\nsum without (instance) (up{{job="{JOB}"}}) > 0',
        "It is {{ $labels.instance }}.",
    ),
    Alert(
        "DockerCacheNoActiveInstance",
        Severity.CRITICAL,
        "3m",
        "Instances of the daemon run, and none of them is active",
        _NOBODY_WORKS,
        "how-to/several-instances.md#when-no-instance-becomes-active",
        "sum without (instance) (docker_cache_lock_held) == 0",
    ),
    Alert(
        "DockerCacheSeveralActiveInstances",
        Severity.CRITICAL,
        "3m",
        "Several instances of the daemon are active",
        "They do not share a lock. The one that finds the marker of the other on the BBS stands by.",
        "how-to/incidents/two-daemons.md",
        "sum without (instance) (docker_cache_lock_held) > 1",
        "There are {{ $value }}.",
    ),
    Alert(
        "DockerCacheTakeoverStuck",
        Severity.CRITICAL,
        "15m",
        "The active instance of the daemon does not begin its work",
        _NOBODY_WORKS,
        "how-to/incidents/daemon-down.md#it-runs-and-does-not-begin-to-work",
        "docker_cache_lock_held == 1 and docker_cache_ready == 0\n"
        "unless docker_cache_other_stores > 0\n"
        "unless docker_cache_database_unavailable_since_timestamp_seconds > 0\n"
        "unless ignoring (outcome) docker_cache_sweeps_total > 0",
        "It is {{ $labels.instance }}.",
    ),
    Alert(
        "DockerCacheRestartsOften",
        Severity.WARNING,
        "5m",
        "The daemon ends and is started again and again",
        "Copies begin anew each time, and migrations wait until they are taken up again.",
        "how-to/incidents/daemon-down.md#it-is-started-again-and-again",
        f'changes(process_start_time_seconds{{job="{JOB}"}}[1h]) > 3',
        "{{ $labels.instance }} was started {{ $value }} times within an hour.",
    ),
    Alert(
        "DockerCacheOtherStore",
        Severity.WARNING,
        "5m",
        "A daemon with another database works on the same BBS",
        "This one stands by and changes nothing there. Apps are migrated by the config of the other one.",
        "how-to/incidents/two-daemons.md",
        f"{_any('other_stores')} > 0",
    ),
    Alert(
        "DockerCacheBbsNotListed",
        Severity.CRITICAL,
        "5m",
        "The BBS has not been listed for more than five minutes, or five times `sync_interval`",
        "Apps run on. The daemon does not see what is pushed, started or scaled, and no migration goes on.",
        "how-to/incidents/bbs.md",
        f"time() - {_any('sweep_last_success_timestamp_seconds')}\n"
        f"> (clamp_min(5 * {_any('sweep_interval_seconds')}, 300)"
        f" or 0 * {_any('sweep_last_success_timestamp_seconds')} + 300)\n"
        "and\nmax without (instance, outcome) (docker_cache_sweeps_total) > 0\n"
        f"unless\n{_any('other_stores')} > 0\n"
        f"unless\n{_any('database_unavailable_since_timestamp_seconds')} > 0",
    ),
    Alert(
        "DockerCacheBbsEventsLost",
        Severity.WARNING,
        "10m",
        "An event stream of the BBS cannot be opened, while the BBS can be listed",
        "Apps that are pushed start from their source and are migrated after the next sweep, up to "
        "`sync_interval` later.",
        "how-to/incidents/bbs.md#events-are-lost",
        "min without (instance) (docker_cache_bbs_stream_connected) == 0\n"
        "and ignoring (stream)\n"
        f"time() - {_any('sweep_last_success_timestamp_seconds')} <= 300",
        "It is the stream {{ $labels.stream }}.",
    ),
    Alert(
        "DockerCacheBbsRecordsUnreadable",
        Severity.WARNING,
        "5m",
        "Events or LRPs of the BBS cannot be read",
        "LRPs that cannot be read are left as they are. After such an event everything is listed anew.",
        "how-to/incidents/bbs.md#records-cannot-be-read",
        "sum without (instance) (increase(docker_cache_bbs_broken_events_total[30m])) > 0",
        "In half an hour: {{ $value | humanize }}.",
    ),
    Alert(
        "DockerCachePrivateRegistryServesNoPulls",
        Severity.CRITICAL,
        "2m",
        "The private registry serves no pulls",
        "Instances that run keep running. New instances of migrated apps may not start, and no app is "
        "migrated.",
        "how-to/incidents/private-registry-down.md",
        f"min without (instance) (docker_cache_registry_up{{{_PULLS}}}) == 0",
        "It is {{ $labels.registry }}." + _faults(_PULLS),
    ),
    Alert(
        "DockerCachePrivateRegistryTakesNoPushes",
        Severity.WARNING,
        "5m",
        "The private registry takes no pushes, while it serves pulls",
        "Apps that run from copies are not touched. Nothing is copied, so apps that are pushed run from "
        "their source.",
        "how-to/incidents/private-registry-full.md",
        f"min without (instance) (docker_cache_registry_up{{{_PUSHES}}}) == 0\n"
        "unless ignoring (use)\n"
        f"min without (instance) (docker_cache_registry_up{{{_PULLS}}}) == 0",
        "It is {{ $labels.registry }}." + _faults(_PUSHES),
    ),
    Alert(
        "DockerCacheSourceRegistryDown",
        Severity.WARNING,
        "15m",
        "A source registry does not serve images",
        "Apps that run from copies do not notice. Nothing from this registry is copied, and apps that "
        "still run from it "
        "start no new instance where a cell has to pull.",
        "how-to/incidents/source-gone.md",
        f"min without (instance) (docker_cache_registry_up{{{_SOURCE}}}) == 0",
        "It is {{ $labels.registry }}."
        + _faults(_SOURCE)
        + '{{ range query (printf "max(docker_cache_source_lrps{registry=%q})" $labels.registry) }}'
        " {{ .Value }} LRPs still run from it.{{ end }}",
    ),
    Alert(
        "DockerCacheSourceRegistryLimitsRequests",
        Severity.WARNING,
        "1h",
        "A source registry refuses requests since there are too many",
        "Copies from this registry wait. Apps run from their source meanwhile, where cells meet the same "
        "limit.",
        "how-to/incidents/source-gone.md#what-you-can-do",
        "sum without (instance) "
        '(increase(docker_cache_registry_errors_total{side="source", kind="rate-limited"}[30m])) > 0',
        "It is {{ $labels.registry }}, with {{ $value | humanize }} refusals in half an hour.",
    ),
    Alert(
        "DockerCacheCopiesLost",
        Severity.CRITICAL,
        "5m",
        "The private registry has lost something of copies that no source has any more",
        "Apps whose source has another image now go back there. All others serve for as long as their "
        "instances run, "
        "and start no new one: do not restart them.",
        "how-to/incidents/copy-missing.md#what-you-can-do",
        f"{_any('copies_lost')} > 0",
        "Copies: {{ $value }}.",
    ),
    Alert(
        "DockerCacheCopiesIncomplete",
        Severity.CRITICAL,
        "15m",
        "The private registry has lost something of copies, and it is not sent again",
        "Instances that run are not affected. No new instance starts from these copies where a cell has to "
        "pull.",
        "how-to/incidents/copy-missing.md",
        "max without (instance) (docker_cache_copies_incomplete - docker_cache_copies_lost) > 0",
        "Copies: {{ $value }}.",
    ),
    Alert(
        "DockerCacheCopiesUnknown",
        Severity.WARNING,
        "15m",
        "Apps run from copies that the database does not know",
        "Nobody watches over these copies, and their apps cannot be restored to their sources.",
        "how-to/backup.md#without-a-backup",
        f"{_any('unknown_copies')} > 0",
        "Copies: {{ $value }}.",
    ),
    Alert(
        "DockerCacheCellsCannotPull",
        Severity.CRITICAL,
        "10m",
        "Cells are not known to pull from the private registry",
        "No app is migrated. New instances of apps that were migrated before may not start.",
        "how-to/incidents/cells-cannot-pull.md",
        f"{_any('cells_not_proven')} > 0\nunless\n{_down(_PULLS)}",
        "Sets of placement tags: {{ $value }}.",
    ),
    Alert(
        "DockerCacheCellsCannotPullForDroplets",
        Severity.WARNING,
        "30m",
        "Cells cannot pull from the private registry as Cloud Controller lets them",
        "Droplets stay as they are, so that each push, restart or change of memory needs a migration. "
        "Migrations work.",
        "how-to/cloud-controller.md#let-cells-pull-what-cloud-controller-desires",
        "max without (instance) "
        "(docker_cache_foreign_logins_not_proven > 0 unless docker_cache_cells_not_proven > 0)",
    ),
    Alert(
        "DockerCacheLoginsOutdated",
        Severity.WARNING,
        "6h",
        "LRPs have another login for the private registry than the configured one",
        "When the old login ends, these LRPs start no new instance where a cell has to pull.",
        "how-to/rotate.md#the-cells-login-for-the-private-registry",
        f"{_any('outdated_logins')} > 0",
        "LRPs: {{ $value }}.",
    ),
    Alert(
        "DockerCacheCircuitBreakerOpen",
        Severity.WARNING,
        "5m",
        "The circuit breaker is open: migrations of several organizations failed in a row",
        "No app is migrated. Apps stay where they are, and their images are copied as before.",
        "how-to/incidents/app-not-migrated.md#the-circuit-breaker-is-open",
        f"{_any('circuit_breaker_open')} == 1",
    ),
    Alert(
        "DockerCacheMigrationsSetAside",
        Severity.WARNING,
        "1h",
        "Migrations of an organization, or to a copy, failed in a row",
        "Further ones like them wait. All others go on.",
        "how-to/incidents/app-not-migrated.md",
        "max without (instance) "
        "(docker_cache_migrations_set_aside > 0 unless docker_cache_circuit_breaker_open == 1)",
        "Organizations and copies: {{ $value }}.",
    ),
    Alert(
        "DockerCacheMigrationStuck",
        Severity.WARNING,
        "5m",
        "A migration has been under way for more than an hour",
        "Its bridge serves the app, and takes its memory and disk on the cells a second time.",
        "how-to/incidents/app-not-migrated.md#a-migration-takes-long",
        f"{_any('migration_oldest_age_seconds')} > 3600",
        "It is in the phase {{ $labels.phase }}, and began {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "DockerCacheCopiesFail",
        Severity.WARNING,
        "15m",
        "More copies fail than are finished, and not only by the fault of those who pushed",
        "Apps whose copy failed run from their source. A copy is asked for again an hour after it failed.",
        "how-to/incidents/copies-fail.md",
        f"{_failed(_NOT_OF_TENANTS)} > 5\n"
        "and\n"
        f"{_failed(_FAILED)} > "
        "sum without (instance, outcome) (increase(docker_cache_job_attempts_total{outcome='cached'}[1h]))\n"
        f"unless\n{_down(_PRIVATE)}",
        "Within an hour: {{ $value | humanize }}.",
    ),
    Alert(
        "DockerCacheCopiesWait",
        Severity.WARNING,
        "30m",
        "Copies of images that are being staged wait for a slot",
        "Apps that are pushed now start from their source and are migrated later.",
        "how-to/incidents/copies-fail.md#copies-wait",
        'max without (instance) (docker_cache_jobs_waiting{urgency="staging"}) > 0',
        "Copies: {{ $value }}.",
    ),
    Alert(
        "DockerCacheDatabaseUnavailable",
        Severity.CRITICAL,
        "2m",
        "The database does not answer",
        "Apps run on. Nothing is begun, and what is under way waits at its next record.",
        "how-to/database-server.md#when-the-server-is-away",
        f"{_any('database_unavailable_since_timestamp_seconds')} > 0",
        "Since {{ $value | humanizeTimestamp }}.",
    ),
    Alert(
        "DockerCacheDatabaseErrors",
        Severity.WARNING,
        "15m",
        "The database answers and does not do what it is asked",
        "What could not be recorded is tried again. Copies and migrations go on slowly, or not at all.",
        "how-to/incidents/daemon-down.md#the-database-fails",
        "sum without (instance, kind) "
        '(increase(docker_cache_store_errors_total{kind=~"unavailable|other"}[15m])) > 3\n'
        "unless\n"
        f"{_any('database_unavailable_since_timestamp_seconds')} > 0",
        "Errors in a quarter of an hour: {{ $value | humanize }}.",
    ),
    Alert(
        "DockerCacheCloudControllerFails",
        Severity.WARNING,
        "15m",
        "Cloud Controller does not do what it is asked",
        "Nothing is hurt. Droplets stay as they are, so what Cloud Controller starts anew comes from its "
        "source once more.",
        "how-to/incidents/cloud-controller.md",
        f"{_any('cloud_controller_failing_since_timestamp_seconds')} > 0",
        "Since {{ $value | humanizeTimestamp }}.",
    ),
    Alert(
        "DockerCacheCloudControllerLimitsRequests",
        Severity.WARNING,
        "1h",
        "Cloud Controller refuses requests since there are too many",
        "Droplets are updated later, those of apps that were just pushed first. Migrations do not wait.",
        "how-to/cloud-controller.md#how-much-it-asks",
        "sum without (instance, call, outcome) "
        "(increase(docker_cache_cloud_controller_requests_total{outcome='rate-limited'}[30m])) > 0",
        "In half an hour: {{ $value | humanize }}.",
    ),
    Alert(
        "DockerCacheLoggregatorAgentDown",
        Severity.WARNING,
        "15m",
        "The Loggregator agent takes no lines",
        "App developers do not read in `cf logs` what happens to their images. Nothing else is concerned.",
        "how-to/app-logs.md#when-the-agent-is-away",
        f"{_any('loggregator_agent_up')} == 0",
    ),
    Alert(
        "DockerCachePaused",
        Severity.WARNING,
        "1d",
        "The daemon has been paused for a day",
        "Nothing is copied or migrated but what an operator orders: apps that are pushed run from their "
        "source.",
        "how-to/alerts.md#the-daemon-is-paused",
        f"{_any('paused')} == 1",
    ),
    Alert(
        "DockerCacheCertificateEndsSoon",
        Severity.WARNING,
        "1h",
        "A certificate that the daemon uses ends within two weeks",
        "When it has ended, the daemon reaches nobody, or nobody the daemon, where it is used.",
        "how-to/rotate.md#certificates",
        "min without (instance) (docker_cache_certificate_end_timestamp_seconds) - time() < 14 * 86400\n"
        "unless\n"
        "min without (instance) (docker_cache_certificate_end_timestamp_seconds) - time() < 2 * 86400",
        "It is that of `{{ $labels.file }}`, and ends in {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "DockerCacheCertificateEndsNow",
        Severity.CRITICAL,
        "5m",
        "A certificate that the daemon uses ends within two days, or has ended",
        "When it has ended, the daemon reaches nobody, or nobody the daemon, where it is used.",
        "how-to/rotate.md#certificates",
        "min without (instance) (docker_cache_certificate_end_timestamp_seconds) - time() < 2 * 86400",
        "It is that of `{{ $labels.file }}`: {{ $value | humanizeDuration }} are left.",
    ),
    Alert(
        "DockerCacheConfigNotReloaded",
        Severity.WARNING,
        "5m",
        "The daemon refused its config at the last SIGHUP",
        "It runs on with the earlier config, and would not start with the one in the file.",
        "how-to/alerts.md#the-config-was-not-reloaded",
        "docker_cache_config_last_reload_successful == 0",
        "It is {{ $labels.instance }}.",
    ),
    Alert(
        "DockerCacheInternalErrors",
        Severity.WARNING,
        "5m",
        "The daemon met a fault of its own program",
        "What it was about is tried again, and everything else goes on.",
        "how-to/incidents/daemon-down.md#the-program-has-a-fault",
        f"{_internal('pass_errors_total')}\n"
        f"+ {_internal('droplet_pass_errors_total')}\n"
        f"+ {_internal('job_failures_total')} > 0",
        "Within an hour: {{ $value | humanize }}.",
    ),
    Alert(
        "DockerCacheEventLoopSlow",
        Severity.WARNING,
        "15m",
        "The daemon is too busy to do its work in time",
        "Events are read late, migrations take longer, and an active instance may lose its lock.",
        "how-to/incidents/daemon-down.md#it-runs-and-is-slow",
        "docker_cache_event_loop_lag_seconds > 1",
        "On {{ $labels.instance }} nothing else was done for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "DockerCacheOpenFilesNearLimit",
        Severity.WARNING,
        "15m",
        "The daemon has almost as many open files as it may have",
        "When it may open no more, copies fail and calls are not answered.",
        "how-to/incidents/daemon-down.md#it-runs-and-is-slow",
        f'process_open_fds{{job="{JOB}"}} / process_max_fds{{job="{JOB}"}} > 0.8',
        "{{ $labels.instance }} has {{ $value | humanizePercentage }} of them.",
    ),
)


def rules() -> str:
    """Write the rule file."""
    lines = [
        "# Alert rules of diego-docker-cache, written by hack/update-docs from hack/alerts.py.",
        "# How to use and change them: docs/pages/how-to/alerts.md. Their tests lie beside them.",
        "groups:",
        "  - name: docker-cache",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            "        expr: |-",
            *(f"          {line}" for line in alert.expr.splitlines()),
            f"        for: {alert.after}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.wrong)}",
            "          description: >-",
            *_folded(alert.description(), " " * 12),
            f"          runbook_url: {alert.runbook_url}",
        ]
    return "\n".join((*lines, ""))


def _folded(text: str, indent: str) -> list[str]:
    """Part a text into lines; what stands in braces stays in one."""
    held = re.sub(r"{{.*?}}", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(held, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [indent + line.replace("\0", " ") for line in lines]


def table(page: Path) -> Iterator[str]:
    """Write the rules as a table of a page, whose links lead to the pages that say what to do."""
    yield "| alert | severity | after | what is wrong | what it costs |"
    yield "| --- | --- | --- | --- | --- |"
    pages = ROOT / "docs" / "pages"
    for alert in ALERTS:
        target, _, anchor = alert.runbook.partition("#")
        link = Path(*[".."] * len(page.relative_to(pages).parent.parts), target).as_posix()
        where = f"{link}#{anchor}" if anchor else link
        cells = (f"[`{alert.name}`]({where})", alert.severity, alert.after, alert.wrong, alert.cost)
        yield f"| {' | '.join(cells)} |"
