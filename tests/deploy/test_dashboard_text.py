"""The dashboard as text: what Grafana would show of what a Prometheus says."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from hack.grafana.description import Dashboard
from hack.grafana.document import grafana_document
from hack.grafana.prometheus import Series
from hack.grafana.text import PanelQueries, show

NOW = 1_000.0
Labelled = Sequence[tuple[Mapping[str, str], float]]


class Recorded:
    """A Prometheus that has an answer to each query, the same at each moment of the last half."""

    def __init__(self, answer: Callable[[str], Labelled]) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def ask(self, expr: str, at: float) -> list[Series]:
        self.asked.append(expr)
        return [Series(labels, [(at, value)]) for labels, value in self._answer(expr)]

    def ask_over_time(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        times = [at for at in _times(start, end, step) if at > (start + end) / 2]
        return [Series(labels, [(at, value) for at in times]) for labels, value in self._answer(expr)]


def _times(start: float, end: float, step: float) -> list[float]:
    return [start + number * step for number in range(int((end - start) / step) + 1)]


def shown(answer: Callable[[str], Labelled], **panel: object) -> list[str]:
    """Show a dashboard of one panel."""
    described = {"title": "Panel", "width": 6, "description": "What this panel is there for.", **panel}
    dashboard = Dashboard.model_validate(
        {
            "uid": "one",
            "title": "One",
            "description": "A dashboard of one panel.",
            "refresh": "30s",
            "since": "1h",
            "row": [{"title": "Row", "panel": [described]}],
        }
    )
    text = show(grafana_document(dashboard), PanelQueries(Recorded(answer), "docker-cache", NOW, 8.0))
    title, *lines = text.splitlines()
    assert title == "== Row =="
    return lines


@pytest.mark.parametrize(
    ("look", "value", "expected"),
    [
        ({}, 12.0, "12"),
        ({}, 120_000.0, "120 K"),
        ({"unit": "percentunit", "decimals": 1}, 0.957, "95.7 %"),
        ({"unit": "bytes"}, 9_000_000_000.0, "8.38 GiB"),
        ({"unit": "s"}, 90.0, "1.5 min"),
        ({"unit": "s"}, float("inf"), "Inf"),
        ({"base": "green", "from": {"yellow": 1, "red": 10}}, 0.0, "[green] 0"),
        ({"base": "green", "from": {"yellow": 1, "red": 10}}, 9.0, "[yellow] 9"),
        ({"base": "green", "from": {"yellow": 1, "red": 10}}, 10.0, "[red] 10"),
        ({"texts": {"1": {"text": "Yes", "colour": "green"}}}, 1.0, "[green] Yes"),
    ],
)
def test_a_number_has_its_unit_and_its_colour(look: object, value: float, expected: str) -> None:
    lines = shown(lambda _: [({}, value)], kind="number", look=look, query=[{"expr": "up"}])

    assert lines == [f"Panel: {expected}"]


def test_numbers_have_their_names_and_nothing_says_what_it_means() -> None:
    query = [{"expr": "up", "legend": "at {{instance}}"}]
    both = [({"instance": "a"}, 1.0), ({"instance": "b"}, 0.0)]

    assert shown(lambda _: both, kind="number", query=query) == ["Panel: at a 1 · at b 0"]
    assert shown(lambda _: [], kind="number", query=query, empty="nobody") == ["Panel: (nobody)"]


def test_a_table_has_a_row_for_each_set_of_labels_and_a_column_for_each_query() -> None:
    answers: Mapping[str, Labelled] = {
        "first": [({"registry": "docker.io"}, 4.0), ({"registry": "ghcr.io"}, 1.0)],
        "second": [({"registry": "ghcr.io"}, 0.0)],
    }
    query = [
        {"expr": "first", "column": "LRPs"},
        {"expr": "second", "column": "Health", "look": {"texts": {"0": {"text": "away", "colour": "red"}}}},
    ]

    lines = shown(lambda expr: answers[expr], kind="table", labels={"registry": "Registry"}, query=query)

    assert lines == [
        "Panel:",
        "  Registry   LRPs  Health",
        "  docker.io  4",
        "  ghcr.io    1     [red] away",
    ]


def test_lines_are_as_high_as_their_values_and_begin_when_they_do() -> None:
    query = [{"expr": "up", "legend": "{{instance}}"}]
    both = [({"instance": "a"}, 8.0), ({"instance": "b"}, 4.0)]

    lines = shown(lambda _: both, kind="lines", query=query)

    assert lines == ["Panel:", "  |    ████|  8  a", "  |    ▄▄▄▄|  4  b"]


def test_the_worst_fault_stands_first() -> None:
    texts = {"cost": "Much.", "alert": "5m", "page": "page.md"}
    rows = [({"wrong": "This", **texts}, 1.0), ({"wrong": "That", "where": "docker.io", **texts}, 2.0)]

    _, titles, first, second = shown(lambda _: rows, kind="faults")

    assert words(titles) == "Severity What is wrong Where What it costs Alert after What to do"
    assert words(first) == "[red] critical That docker.io Much. 5m page.md"
    assert words(second) == "[yellow] warning This Much. 5m page.md"


def words(line: str) -> str:
    """Give a line without the spaces that align it."""
    return " ".join(line.split())
