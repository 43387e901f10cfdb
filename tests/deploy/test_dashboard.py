"""The dashboard for Grafana: it is what its description says, and its queries say what they should of a fleet."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.metrics import Metrics
from controller.metrics.families import Reach
from hack.alerts import JOB
from hack.grafana.description import COLUMNS, Kind, read_description
from hack.grafana.document import grafana_document
from hack.grafana.queries import FAULTS, RANKS, fault_rows, written_out
from tests.documents import PAGES
from tests.prometheus import promtool

FLEET = Path(__file__).parent / "fleet.prom"
STEP, STEPS = 15, 80
"""Seconds between two scrapes, and how many there are."""
END = STEP * STEPS
VERSIONS = ("1.4.0", "3.11.2")
"""Values of labels that no process of now has: those of another build."""
DESCRIPTION = read_description()


def test_panels_have_titles_of_their_own_and_do_not_overlap() -> None:
    panels = grafana_document(DESCRIPTION)["panels"]
    titles = [each["title"] for each in panels]
    cells = [
        (x, y)
        for at in (each["gridPos"] for each in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(titles) == len(set(titles))
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < COLUMNS
    assert [each["id"] for each in panels] == list(range(1, len(panels) + 1))


def test_pages_that_are_linked_are_there() -> None:
    linked = {panel.page for row in DESCRIPTION.row for panel in row.panel if panel.page}

    assert linked
    assert [page for page in linked if not (PAGES / page).is_file()] == []


def test_the_fleet_shows_what_daemons_show() -> None:
    """So that queries which find something there find it in a real one: by names, labels, and values of labels."""
    declared = {family.name: family for family in Metrics().declared}
    of_standby = {name_of(series) for series in read_instance("cache-1", is_active=False)}
    strange = []
    for series in read_instance("cache-0"):
        if not (name := name_of(series)).startswith("docker_cache_"):
            continue
        family = declared[name]
        labels = dict(re.findall(r'(\w+)="([^"]*)"', series))
        known = {label: labels.get(label) for label in family.labels}
        strange += [name] if labels.keys() - {"job", "instance", "le"} != known.keys() else []
        strange += [
            f"{name}: {value}"
            for label, value in known.items()
            if isinstance(values := family.labels[label], tuple) and value not in (*values, *VERSIONS)
        ]
        strange += [name] if (name in of_standby) is not (family.reach is Reach.EVERY) else []

    assert strange == []


@pytest.mark.usefixtures("servers")
def test_every_query_is_evaluated_and_finds_something_in_the_fleet(tmp_path: Path) -> None:
    """A query that Prometheus refuses, or that names what there is not, shows nothing for ever."""
    rules = [
        {"record": f"panel:{number}_{target['refId']}", "expr": filled(target["expr"])}
        for number, panel in enumerate(grafana_document(DESCRIPTION)["panels"])
        for target in panel.get("targets", ())
        if panel["title"] not in titles_of(Kind.FAULTS, Kind.HISTORY)
    ]
    found = [({"__name__": each["record"]}, 1.0) for each in rules]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    assert rules
    judge(
        tmp_path,
        [case(fleet(), {'group by (__name__) ({__name__=~"panel:.*"})': found})],
        rules="rules.json",
    )


YES, NOT_ALL, NO, NOBODY_KNOWS = 0.0, 1.0, 2.0, 3.0
PULLS = 'docker_cache_registry_up{registry="cache.example:8080",side="private",use="pull"}'
PUSHES = 'docker_cache_registry_up{registry="cache.example:8080",side="private",use="push"}'
SOURCE = 'docker_cache_registry_up{registry="docker.io",side="source",use="pull"}'
OTHER_SOURCE = 'docker_cache_registry_up{registry="ghcr.io",side="source",use="pull"}'

NEW: Mapping[str, str | None] = {
    "docker_cache_docker_lrps": None,
    "docker_cache_lrps": None,
    "docker_cache_source_lrps": None,
    "docker_cache_sweep_last_success_timestamp_seconds": "0",
    "docker_cache_lock_held": f"0x{STEPS - 2} 1 1",
    "docker_cache_ready": f"0x{STEPS - 2} 1 1",
}
"""What is different while a standby has just become active."""

BBS_AWAY: Mapping[str, str | None] = {
    'docker_cache_bbs_stream_connected{stream="tasks"}': "0",
    'docker_cache_bbs_stream_connected{stream="lrp-instances"}': "0",
    'docker_cache_sweeps_total{outcome="done"}': "40",
    "docker_cache_sweep_last_success_timestamp_seconds": "1050",
}
"""What is different two minutes after the BBS has gone."""

ANSWERS: Mapping[str, tuple[Mapping[str, str | None], float]] = {
    "all is well": ({}, YES),
    "apps wait during a pause": (
        {"docker_cache_paused": "1", 'docker_cache_lrps{state="waiting",reason="paused"}': "3"},
        NOT_ALL,
    ),
    "a source is away from which apps run": ({SOURCE: "0"}, NO),
    "a source is away from which no app runs": ({OTHER_SOURCE: "0"}, YES),
    "the private registry serves no pulls": ({PULLS: "0", PUSHES: "0"}, NO),
    "the private registry is full": ({PUSHES: "0"}, YES),
    "copies are incomplete": ({"docker_cache_copies_incomplete": "1"}, NO),
    "copies are lost": ({"docker_cache_copies_incomplete": "1", "docker_cache_copies_lost": "1"}, NO),
    "cells cannot pull": ({"docker_cache_cells_not_proven": "1"}, NO),
    "the BBS is not listed any more": (
        {"docker_cache_sweep_last_success_timestamp_seconds": "600"},
        NOBODY_KNOWS,
    ),
    "the BBS is away": (BBS_AWAY, NOBODY_KNOWS),
    "the database is away": (
        {"docker_cache_database_unavailable_since_timestamp_seconds": "600"},
        NOBODY_KNOWS,
    ),
    "the new active instance has not looked yet": (NEW, NOBODY_KNOWS),
    "Cloud Controller is away": (
        {"docker_cache_cloud_controller_failing_since_timestamp_seconds": "600"},
        YES,
    ),
}
"""What the overview answers, by what is different."""


@pytest.mark.usefixtures("servers")
def test_the_overview_answers_whether_apps_are_safe(tmp_path: Path) -> None:
    expr = answer()
    cases = [
        case(fleet(changes), {expr: [({}, expected)]}, name=name)
        for name, (changes, expected) in ANSWERS.items()
    ]
    standbys = read_instance("cache-0", is_active=False) | read_instance("cache-1", is_active=False)
    down = {f'up{{job="{JOB}",instance="cache-0"}}': f"0x{STEPS}"}
    cases += [
        case(standbys, {expr: [({}, NOBODY_KNOWS)]}, name="nobody is active"),
        case(down, {expr: [({}, NOBODY_KNOWS)]}, name="all are down"),
        case({'up{job="another"}': f"1x{STEPS}"}, {expr: [({}, NOBODY_KNOWS)]}, name="nobody is scraped"),
    ]

    judge(tmp_path, cases)


@pytest.mark.usefixtures("servers")
def test_the_table_of_faults_says_what_is_wrong_where_and_what_it_costs(tmp_path: Path) -> None:
    """Without the time for which an alert waits, and for all at the same time."""
    changes = {
        SOURCE: "0",
        OTHER_SOURCE: "0",
        "docker_cache_circuit_breaker_open": "1",
        PULLS: "0",
        PUSHES: "0",
        'docker_cache_certificate_end_timestamp_seconds{file="bbs_client_cert_file"}': "800000",
    }
    rows = [
        row("DockerCacheSourceRegistryDown", "docker.io"),
        row("DockerCacheSourceRegistryDown", "ghcr.io"),
        row("DockerCacheCircuitBreakerOpen"),
        row("DockerCachePrivateRegistryServesNoPulls", "cache.example:8080"),
        row("DockerCacheCertificateEndsSoon", "bbs_client_cert_file"),
    ]
    table = filled(fault_rows())

    judge(
        tmp_path,
        [
            case(fleet(changes), {table: rows}),
            case(fleet(BBS_AWAY), {table: [row("DockerCacheBbsNotListed")]}),
            *(case(fleet(each), {table: []}) for each in ({}, NEW)),
        ],
    )


Sample = tuple[Mapping[str, str], float]


def row(name: str, where: str = "") -> Sample:
    """Give what a row of the table shows of an alert."""
    (alert,) = (each for each in FAULTS if each.name == name)
    labels = {"wrong": alert.wrong, "cost": alert.cost, "alert": alert.after, "page": alert.runbook}
    return labels | ({"where": where} if where else {}), float(RANKS[alert.severity])


def answer() -> str:
    """Give the query of the first panel."""
    return filled(written_out(DESCRIPTION.row[0].panel[0].query[0].expr))


def titles_of(*kinds: Kind) -> set[str]:
    return {panel.title for row in DESCRIPTION.row for panel in row.panel if panel.kind in kinds}


def filled(expr: str) -> str:
    """Fill in what Grafana fills in."""
    for name, value in (("$job", JOB), ("$platform", ".*"), ("$__rate_interval", "1m"), ("$__range", "10m")):
        expr = expr.replace(name, value)
    return expr


def name_of(series: str) -> str:
    """Name the family of a series."""
    return re.sub(r"(_bucket)?\{.*", "", series)


Fleet = dict[str, str]
"""Values of series in promtool's notation, by the series."""


def read_instance(instance: str, *, is_active: bool = True) -> Fleet:
    """Read what an instance shows; a standby knows nothing of apps and registries."""
    text = FLEET.read_text()
    if not is_active:
        text = text.partition("# The active instance alone:")[0]
        of_active = r"(?m)^(docker_cache_(?:ready|lock_held|lease_remaining_seconds|leadership_term)) .*"
        text = re.sub(of_active, r"\1 0", text)
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {in_fleet(series, instance): over_time(value) for series, _, value in lines}


def in_fleet(series: str, instance: str = "cache-0") -> str:
    """Add the labels that Prometheus adds to a series as an instance shows it."""
    name, _, labels = series.rstrip("}").partition("{")
    added = f'job="{JOB}",instance="{instance}"'
    return f"{name}{{{labels},{added}}}" if labels else f"{name}{{{added}}}"


def over_time(value: str) -> str:
    """Write a value of the file in promtool's notation."""
    if value.startswith("+"):
        return f"0{value}x{STEPS}"
    if " " in value:
        return value
    if value.startswith("NOW"):
        return f"{value.removeprefix('NOW')}+{STEP}x{STEPS}"
    return f"{value}x{STEPS}"


def fleet(changes: Mapping[str, str | None] | None = None) -> Fleet:
    """Give what an active instance and a standby show, with some series of the active one changed.

    None leaves out all series of a name.
    """
    shown = read_instance("cache-0")
    for series, value in (changes or {}).items():
        if value is None:
            shown = {each: its for each, its in shown.items() if not each.startswith(f"{series}{{")}
        else:
            assert in_fleet(series) in shown
            shown[in_fleet(series)] = over_time(value)
    return shown | read_instance("cache-1", is_active=False)


def case(series: Fleet, expected: Mapping[str, Iterable[Sample]], *, name: str = "fleet") -> dict[str, Any]:
    """Write what queries give for a fleet, as promtool reads it."""
    return {
        "name": name,
        "interval": f"{STEP}s",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{END}s",
                "exp_samples": [{"labels": label_text(labels), "value": value} for labels, value in samples],
            }
            for expr, samples in expected.items()
        ],
    }


def label_text(labels: Mapping[str, str]) -> str:
    """Write labels as a query does."""
    return f"{{{', '.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}}"


def judge(directory: Path, cases: list[dict[str, Any]], *, rules: str | None = None) -> None:
    """Let promtool judge cases."""
    document = {
        "rule_files": [rules] if rules else [],
        "evaluation_interval": f"{STEP}s",
        "tests": cases,
    }
    file = directory / "cases.json"
    file.write_text(json.dumps(document))
    ended = subprocess.run(
        [promtool(), "test", "rules", file], capture_output=True, text=True, check=False, cwd=directory
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
