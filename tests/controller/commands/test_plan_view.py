"""How a plan says that some of its apps are just being migrated."""

from dataclasses import replace

import pytest

from controller.admin.documents import PlanDocument
from controller.admin.plan_messages import messages_from_plan
from controller.commands.output import Output
from controller.commands.plan_view import is_pending, show_plan
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from tests.controller.admin.test_messages import MOVE, PROPOSAL

MOVING = replace(MOVE, copy=None, reason=Reason.BRIDGING)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (Goal.SOURCE, "1 of these are being migrated now: they turn back, or are restored after that"),
        (Goal.CACHE, "1 of these are being restored now: they are migrated after that"),
    ],
)
def test_a_plan_says_how_many_apps_are_on_their_way(
    goal: Goal, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(PROPOSAL, goal=goal, copies=(), migrations=(MOVE, MOVING))

    show_plan(Output("text"), PlanDocument.from_messages(list(messages_from_plan(plan))))

    assert said in capsys.readouterr().out.splitlines()


def test_a_plan_of_apps_that_stand_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    plan = PlanDocument.from_messages(list(messages_from_plan(PROPOSAL)))

    show_plan(Output("text"), plan)

    assert is_pending(plan)
    assert "of these" not in capsys.readouterr().out
