"""What a person sees of a plan that is being applied."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from controller.commands.applying import ApplyView
from controller.commands.output import Output

NAMES = ["web", "[/x] shop", "[red]", "müller"]


def news(name: str, state: str, reason: str, done: int) -> dict[str, Any]:
    return {
        "process_guid": f"guid-of-{name}",
        "app_name": name,
        "state": state,
        "reason": reason,
        "detail": "",
        "done": done,
        "total": len(NAMES),
    }


@pytest.fixture
def terminal() -> Output:
    output = Output("table")
    for name in ("console", "notes"):
        setattr(output, name, Console(file=StringIO(), force_terminal=True, width=100))
    output.has_bars = True
    return output


def written(output: Output) -> str:
    files = [console.file for console in (output.console, output.notes)]
    return "".join(file.getvalue() for file in files if isinstance(file, StringIO))


def test_names_are_shown_as_tenants_wrote_them(terminal: Output) -> None:
    """What looks like markup is none: it ended the command."""
    view = ApplyView(terminal, len(NAMES))
    with view.showing():
        for name in NAMES:
            view.see(news(name, "migrating", "bridging", 0))
        for done, name in enumerate(NAMES, start=1):
            view.see(news(name, "done", "migrated", done))
    view.sum_up()

    assert "4 moved, 0 left as they were, 0 failed" in written(terminal)
    assert "[/x] shop" in written(terminal)


def test_what_was_not_moved_is_listed_with_its_meaning(terminal: Output) -> None:
    view = ApplyView(terminal, 2)
    with view.showing():
        view.see(news("web", "done", "migrated", 1))
        view.see(news("worker", "failed", "bridge-crashed", 2))
    view.sum_up()

    assert [row["app_name"] for row in view.not_done] == ["worker"]
    assert "1 moved, 0 left as they were, 1 failed" in written(terminal)
    assert "instances of its bridge crashed from the copy" in written(terminal)


def test_where_no_terminal_is_each_that_is_over_is_a_line() -> None:
    output = Output("table")
    output.console = Console(file=StringIO(), width=100)
    view = ApplyView(output, 2)
    with view.showing():
        view.see(news("web", "migrating", "bridging", 0))
        view.see(news("web", "done", "migrated", 1))

    assert written(output) == "1/4 web: migrated\n"
