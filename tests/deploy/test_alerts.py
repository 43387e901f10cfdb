"""The alert rules: what promtool says of them, and whether they speak of metrics and pages that there are."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.metrics import Metrics
from controller.metrics.families import Family
from hack.alert_cases import CASES, SLOW_TESTS, TESTS
from hack.alerts import ALERTS, JOB, RULES, Alert
from hack.reference import FILES, PAGES
from tests.documents import ROOT, anchors, blocks, blocks_run_by
from tests.prometheus import SUFFIXES, Selector, promtool, selectors

OF_PROMETHEUS = {"up": {"job"}}
"""Series that Prometheus adds to each scrape, with the labels that it gives them."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_what_its_description_says(path: Path) -> None:
    """hack/update-docs writes it."""
    assert path.read_text() == FILES[path]()


@pytest.mark.usefixtures("servers")
def test_promtool_accepts_the_rules_and_each_alert_fires_as_its_tests_say() -> None:
    """By the commands of the page, which name the files that there are."""
    commands = [shlex.split(line) for block in blocks_run_by(__file__) for line in block.commands]

    assert {command[:3] for command in map(tuple, commands)} == {
        ("promtool", "check", "rules"),
        ("promtool", "test", "rules"),
    }
    for _, *words in [*commands, ["promtool", "check", "rules", "--lint=all", str(RULES)]]:
        judged = subprocess.run([promtool(), *words], cwd=ROOT, capture_output=True, text=True, check=False)

        assert judged.returncode == 0, judged.stdout + judged.stderr
    assert {ROOT / word for command in commands for word in command[3:]} == {RULES, TESTS, SLOW_TESTS}


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    names = {alert.name for alert in ALERTS}

    assert {case.alert for case in CASES if case.details is not None} == names
    assert {case.alert for case in CASES if case.details is None} == names


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_page_that_says_what_to_do_is_there(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")

    assert (PAGES / page).is_file()
    assert not anchor or anchor in anchors(PAGES / page)


@pytest.mark.usefixtures("servers")
def test_prometheus_accepts_the_config_that_is_shown(tmp_path: Path) -> None:
    page = PAGES / "how-to" / "alerts.md"
    (shown,) = (block.text for block in blocks(page) if block.language == "yaml")
    config = tmp_path / "prometheus.yml"
    config.write_text(shown.replace("/etc/prometheus/rules", str(RULES.parent)))

    judged = subprocess.run(
        [promtool(), "check", "config", config], capture_output=True, text=True, check=False
    )

    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert f"{len(ALERTS)} rules found" in judged.stdout
    assert f"job_name: {JOB}\n" in shown


def documented(name: str) -> Family | None:
    """Find the family of a series."""
    known = {family.name: family for family in Metrics().declared}
    return next((known[name.removesuffix(end)] for end in SUFFIXES if name.removesuffix(end) in known), None)


def wrong_in(selector: Selector) -> Iterator[str]:
    """Say what there is not of what a selector selects."""
    if selector.name in OF_PROMETHEUS or selector.name.startswith("process_"):
        if not selector.labels.keys() <= {"job"}:
            yield f"{selector}: it has no other label than those of its scrape"
        return
    family = documented(selector.name)
    if family is None:
        yield f"{selector.name}: there is no such metric"
        return
    for label, values in selector.labels.items():
        known = {"job": (JOB,), **family.labels}.get(label, ())
        if isinstance(known, tuple):
            yield from (f"{selector}: {label} is never {value}" for value in values if value not in known)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_metric_that_an_alert_looks_at_is_there_with_its_labels(alert: Alert) -> None:
    found = selectors(f"{alert.expr} {alert.details}")

    assert found
    assert [wrong for selector in found for wrong in wrong_in(selector)] == []


def test_each_series_of_the_tests_is_one_that_a_daemon_has() -> None:
    found = [selector for case in CASES for series in case.series for selector in selectors(series)]

    assert [
        wrong for each in found for wrong in wrong_in(Selector(each.name, each.without("instance")))
    ] == []
