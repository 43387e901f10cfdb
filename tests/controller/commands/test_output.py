"""How numbers, times and lists are written for people."""

import json
import time

import pytest

from controller.commands.output import Column, Output, ago, counted, moment, size, span, table


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (25_200, "25.2 kB"), (3e15, "3000.0 TB")],
)
def test_sizes_are_in_powers_of_ten(count: float | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_spans_are_in_their_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "plural", "text"),
    [
        (1, "apps", "1 app"),
        (1000, "apps", "1,000 apps"),
        (1, "images to copy", "1 image to copy"),
        (1, "entries", "1 entry"),
        (1, "source registries", "1 source registry"),
        (0, "copies", "0 copies"),
    ],
)
def test_counts_have_the_right_noun(count: int, plural: str, text: str) -> None:
    assert counted(count, plural) == text


def test_times_are_utc_and_never_is_said() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00"
    assert moment(None) == ""
    assert ago(None) == "never"
    assert ago(time.time() - 120) == "2 min ago"


def test_a_narrow_terminal_shows_fewer_columns() -> None:
    columns = [Column("app", lambda row: row["app"]), Column("guid", lambda row: row["guid"], least=120)]
    rows = [{"app": "web", "guid": "1"}]

    assert [each.header for each in table(rows, columns, width=80).columns] == ["app"]
    assert [each.header for each in table(rows, columns, width=160).columns] == ["app", "guid"]


def test_json_lines_are_plain_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever they go, they can be written there."""
    Output("json").rows([{"app": "müller"}, {"app": "web"}], [], what="apps")

    out = capsys.readouterr().out
    assert out.isascii()
    assert [json.loads(line) for line in out.splitlines()] == [{"app": "müller"}, {"app": "web"}]
