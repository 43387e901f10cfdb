"""Where text and JSON go, and what a terminal gets that a pipe does not."""

import json
import sys
from typing import Any

import pytest

from controller.commands.output import Output, View
from controller.commands.tables import Column

COLUMNS = (
    Column("app", lambda row: row["app"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("size", lambda row: str(row["size"]), is_number=True, value=lambda row: row["size"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
)
ROWS = [
    {"app": "web", "state": "cached", "size": 9, "detail": "x" * 100},
    {"app": "müller", "state": "failed", "size": 10, "detail": ""},
]


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let standard output be a terminal of 80 columns with colours; called within a test, which captures it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_piped_text_is_plain_whole_and_without_frames(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text").listing(ROWS, COLUMNS, what="apps")

    assert shown(capsys) == [
        "2 apps",
        "APP     STATE   SIZE  DETAIL",
        f"web     cached     9  {'x' * 100}",
        "müller  failed    10",
    ]


def test_json_is_written_only_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it goes, it can be written there."""
    Output("json").listing(ROWS, COLUMNS, what="apps")

    out = capsys.readouterr().out
    assert out.isascii()
    assert [json.loads(line) for line in out.splitlines()] == ROWS


def test_a_terminal_has_colours_and_lines_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    output = Output("text")

    assert output.has_colours
    assert output.styled("failed", "failed") != "failed"
    assert all(len(line) <= 80 for line in output.table(ROWS, COLUMNS)[1:] if "\x1b" not in line)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Output("text").table(ROWS, COLUMNS)
    assert max(map(len, plain)) == 80
    assert plain[1].endswith("x…")


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colours_gets_none(
    monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    pretend_terminal(monkeypatch)
    monkeypatch.setenv(*variable)

    assert not Output("text").has_colours


def test_what_is_no_terminal_gets_no_colours_and_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output("text")

    assert (output.has_colours, output.has_bars, output.width) == (False, False, None)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(is_wide=True), ["APP     STATE   SIZE  DETAIL", f"web     cached     9  {'x' * 100}"]),
        (View(columns=("size", "app")), ["SIZE  APP", "   9  web"]),
    ],
)
def test_a_view_names_the_columns(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    view: View,
    expected: Any,
) -> None:
    pretend_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")

    Output("text", view).listing(ROWS, COLUMNS, what="apps")

    assert shown(capsys)[1:3] == expected


@pytest.mark.parametrize(
    ("view", "order"),
    [
        (View(), ["web", "müller"]),
        (View(sort="app"), ["müller", "web"]),
        (View(sort="size"), ["web", "müller"]),
        (View(sort="size", is_descending=True), ["müller", "web"]),
    ],
)
@pytest.mark.parametrize("wanted", ["text", "json"])
def test_a_view_sorts_rows_by_their_values_in_both_formats(
    capsys: pytest.CaptureFixture[str], view: View, order: list[str], wanted: Any
) -> None:
    Output(wanted, view).listing(ROWS, COLUMNS, what="apps")

    lines = shown(capsys)
    found = (
        [json.loads(line)["app"] for line in lines]
        if wanted == "json"
        else [line.split()[0] for line in lines[2:]]
    )
    assert found == order


def test_a_table_that_changes_in_its_place_is_sorted_and_has_the_columns_of_the_view() -> None:
    output = Output("text", View(columns=("size", "app"), sort="size", is_descending=True))

    assert output.table(ROWS, COLUMNS) == ["SIZE  APP", "  10  müller", "   9  web"]


def test_rows_without_a_value_come_last() -> None:
    column = Column("when", lambda row: "", value=lambda row: row["at"])
    rows: list[dict[str, float | None]] = [{"at": None}, {"at": 2.0}, {"at": 1.0}]

    assert sorted(rows, key=column.sort_key) == [{"at": 1.0}, {"at": 2.0}, {"at": None}]


def test_a_long_text_beside_a_name_is_wrapped_between_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    guid = "0123456789abcdef-0123456789abcdef-0123456789abcdef"

    lines = Output("text").pair_lines([("daemon", f"watches the BBS, and {guid} is a name"), ("x", "y")])

    assert lines == ["daemon  watches the BBS, and", f"        {guid}", "        is a name", "x       y"]


def test_notes_go_to_standard_error_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text").note("a")
    Output("json").note("b\x1b")

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a\nb\\x1b\n")


def test_a_note_above_bars_shows_a_reference_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tag such as `:rocket:` is no emoji."""
    output = Output("text")
    _ = output.bars

    output.note("docker.io/org/app:rocket: copying")

    assert capsys.readouterr().err == "docker.io/org/app:rocket: copying\n"


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x9b2J", "\u202e", "\x1b]52;c;eA==\x07", "\x1b]8;;http://x\x1b\\"]
)
def test_no_text_of_a_tenant_reaches_a_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    pretend_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    output, name = Output("text"), f"a{hostile}b"

    output.listing([{**ROWS[0], "app": name, "state": name, "detail": name}], COLUMNS, what="apps")
    output.pairs([(name, name)])
    output.say(f"1/1 {name}: failed")
    output.finding(name, name, name, name)
    output.note(name)

    captured = capsys.readouterr()
    assert all(line.isprintable() for line in (captured.out + captured.err).split("\n"))
    assert (captured.out + captured.err).count("b") >= 9, "nothing is lost"
