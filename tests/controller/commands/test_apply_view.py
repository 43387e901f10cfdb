"""What a person sees of a plan that is being applied."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from controller.commands.apply_bars import STEPS
from controller.commands.apply_view import ApplyView
from controller.commands.output import Output
from reconcile.reasons import AppState, Reason

NAMES = ["web", "[/x] shop", "[red]", "müller"]


def event(name: str, state: str, reason: str, done: int) -> dict[str, Any]:
    return {
        "process_guid": f"guid-of-{name}",
        "droplet_guid": "",
        "app_name": name,
        "state": state,
        "reason": reason,
        "detail": "",
        "done": done,
        "total": len(NAMES),
    }


@pytest.fixture
def terminal() -> Output:
    output = Output("text")
    output.has_bars = True
    output.bars = Console(file=StringIO(), force_terminal=True, width=100)
    return output


def test_names_are_shown_as_tenants_wrote_them(terminal: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like markup is none: it ended the command."""
    view = ApplyView(terminal, len(NAMES))
    with view.showing():
        for name in NAMES:
            view.see(event(name, "migrating", "bridging", 0))
        for done, name in enumerate(NAMES, start=1):
            view.see(event(name, "done", "migrated", done))
    view.sum_up()

    assert "4 migrated, 0 skipped, 0 failed" in capsys.readouterr().out
    assert isinstance(terminal.bars.file, StringIO)
    assert "[/x] shop" in terminal.bars.file.getvalue()


def test_what_was_not_migrated_is_listed_with_its_meaning(
    terminal: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ApplyView(terminal, 3)
    with view.showing():
        view.see(event("web", "done", "migrated", 1))
        view.see(event("worker", "failed", "bridge-crashed", 2))
        view.see(event("tool", "skipped", "plan-is-stale", 3))
    view.sum_up()

    out = capsys.readouterr().out
    assert [row["app_name"] for row in view.not_done] == ["worker", "tool"]
    assert "2 apps not migrated" in out
    assert "1 migrated, 1 skipped, 1 failed" in out
    assert "instances of its bridge crashed; it stays as it was for an hour at least" in out


def test_where_no_terminal_is_each_that_is_over_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = ApplyView(Output("text"), 2)
    with view.showing():
        view.see(event("web", "migrating", "bridging", 0))
        view.see(event("web", "done", "migrated", 1))

    assert capsys.readouterr().out == "1/4 web: migrated\n"


def test_an_interruption_says_how_many_are_done_and_on_their_way(capsys: pytest.CaptureFixture[str]) -> None:
    view = ApplyView(Output("text"), 90)
    view.see(event("web", "done", "migrated", 1))
    for name in ("a", "b", "c"):
        view.see(event(name, "copying", "waiting-for-copy", 1))
        view.see(event(name, "migrating", "prepared", 1))
    view.see(event("c", "failed", "bridge-crashed", 2))
    view.report_interruption("waiting for them")

    assert capsys.readouterr().err == "2 of 90 done, 2 on their way: waiting for them\n"
    assert not view.is_over


def test_an_interruption_with_nothing_on_its_way_waits_for_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ApplyView(Output("text"), 90).report_interruption("waiting for them")

    assert capsys.readouterr().err == "0 of 90 done\n"


def test_the_steps_of_a_bar_are_reasons_of_a_migration() -> None:
    assert {Reason(step).state for step in STEPS} == {AppState.MIGRATING}
