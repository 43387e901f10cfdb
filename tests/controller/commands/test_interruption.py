"""What Ctrl-C says: what was done, what goes on without the command, and what to do for the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controller.cli import commands
from controller.commands import (
    control_commands,
    copy_commands,
    evict_command,
    listing_commands,
    plan_commands,
)
from controller.commands.evict_command import Deleting
from controller.commands.plan_commands import Applying
from controller.commands.sessions import Target

Interrupt = Callable[..., Result]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Runs a command that is interrupted before the daemon has answered."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    for module in (control_commands, copy_commands, evict_command, listing_commands, plan_commands):
        monkeypatch.setattr(module, "call", interrupted)
    return lambda *arguments: CliRunner().invoke(commands, [*arguments, "--config", "x.json"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reconcile",), "interrupted: nothing was changed"),
        (("restore", "--all"), "interrupted: nothing was changed"),
        (("cache", "r.example/a:1"), "interrupted: the copy may not have been requested; `jobs` lists"),
        (("evict", "--unused"), "interrupted: no copy was deleted"),
        (("verify",), "interrupted: no copy was verified; run the command again for the rest"),
    ],
)
def test_a_command_that_has_changed_nothing_says_so(
    arguments: tuple[str, ...], said: str, interrupt: Interrupt
) -> None:
    result = interrupt(*arguments)

    assert result.exit_code == 1  # of click; main makes it 5
    assert said in result.output


@pytest.mark.parametrize("command", ["status", "jobs"])
def test_what_is_shown_until_ctrl_c_ends_well_with_it(command: str, interrupt: Interrupt) -> None:
    result = interrupt(command, "--watch")

    assert (result.exit_code, result.output) == (0, "")


def test_a_status_that_was_not_shown_has_not_ended_well(interrupt: Interrupt) -> None:
    assert interrupt("status").exit_code == 1


def test_a_plan_that_is_being_applied_is_finished_by_the_daemon_where_it_has_begun() -> None:
    applying = Applying(Target(Path("x.json")), None, is_sure=True, has_begun=True)

    assert plan_commands._what_is_left(applying).startswith("no further migration is started")


def test_copies_that_were_deleted_are_counted() -> None:
    deleting = Deleting(chosen=5, deleted=2)

    assert evict_command._what_is_left(deleting) == (
        "2 of 5 copies were deleted, and perhaps one more; run the command again for the rest"
    )


def test_copies_that_were_verified_are_counted() -> None:
    assert copy_commands._read([{"done": 3, "total": 1200}]) == "3 of 1,200 copies were verified"
