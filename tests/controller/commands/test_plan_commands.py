"""How plans are saved, applied and interrupted, with a daemon that is made up."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click
import pytest

from controller.admin.admin_client import AdminClient
from controller.admin.documents import PlanDocument
from controller.admin.plan_messages import messages_from_plan
from controller.admin.request_options import Filters
from controller.commands import plan_commands
from controller.commands.apply_view import ApplyView
from controller.commands.confirmation import Interrupted
from controller.commands.output import Output
from controller.commands.plan_commands import Applying
from controller.commands.sessions import Target
from reconcile.droplet_plan import DropletPlan, DropletSubject, SkippedDroplet
from reconcile.droplets import DropletGuid
from reconcile.errors import ErrorCode, Invalid, NotFound, Unavailable
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.selection import NOBODY
from tests.controller.admin.test_messages import PROPOSAL

PLAN = PlanDocument.from_messages(list(messages_from_plan(PROPOSAL)))
BACK = PlanDocument.from_messages(list(messages_from_plan(replace(PROPOSAL, goal=Goal.SOURCE, copies=()))))
TOTAL = 3


def event(name: str, state: str, reason: str, done: int) -> dict[str, Any]:
    return {
        "process_guid": name,
        "droplet_guid": "",
        "app_name": name,
        "state": state,
        "reason": reason,
        "detail": "",
    } | {
        "done": done,
        "total": TOTAL,
    }


class Client:
    """A daemon that migrates two of three LRPs at a time; Ctrl-C is pressed when both are on their way."""

    def __init__(self, presses: int, *, ends_anyway: bool = False) -> None:
        self._presses, self._ends_anyway = presses, ends_anyway
        self.was_left = False

    async def apply(
        self, plan: PlanDocument, max_in_flight: int | None, stop: asyncio.Event
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield event("a", "migrating", "bridging", 0)
            yield event("b", "migrating", "bridging", 0)
            for _ in range(self._presses):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.05)
            await stop.wait()
            yield event("a", "done", "migrated", 1)
            yield event("b", "done", "migrated", 2)
            if self._ends_anyway:
                yield event("c", "done", "migrated", 3)
        except (asyncio.CancelledError, GeneratorExit):
            self.was_left = True
            raise


async def follow(client: Client) -> ApplyView:
    view = ApplyView(Output("text"), TOTAL)
    applying = Applying(Target(Path("x.json")), None, is_sure=True)
    await plan_commands._follow(cast(AdminClient, client), PLAN, applying, view)
    return view


async def test_the_first_ctrl_c_waits_for_what_has_begun(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(1)

    with pytest.raises(Interrupted) as caught:
        await follow(client)

    captured = capsys.readouterr()
    assert captured.err == (
        "0 of 3 done, 2 on their way: waiting for them (again Ctrl-C leaves them to the daemon)\n"
    )
    assert captured.out.splitlines() == ["1/3 a: migrated", "2/3 b: migrated"]
    assert caught.value.message == (
        "interrupted: 2 of 3 done, the others were not started; run the command again for the rest"
    )
    assert not client.was_left


async def test_the_second_ctrl_c_leaves_it_to_the_daemon() -> None:
    client = Client(2)

    with pytest.raises(Interrupted, match=r"0 of 3 done, 2 on their way; the daemon finishes those"):
        await follow(client)

    assert client.was_left


async def test_an_interruption_that_came_too_late_is_none() -> None:
    view = await follow(Client(1, ends_anyway=True))

    assert view.is_over


class LostClient(Client):
    """A daemon that is killed when one of three LRPs is migrated and another one is on its way."""

    def __init__(self, code: str) -> None:
        super().__init__(0)
        self._code = code

    async def apply(
        self, plan: PlanDocument, max_in_flight: int | None, stop: asyncio.Event
    ) -> AsyncGenerator[dict[str, Any], None]:
        yield event("a", "done", "migrated", 1)
        yield event("b", "migrating", "bridging", 1)
        raise Unavailable("admin", self._code, "Apply at h:1: the daemon ended; ask again")


async def apply_with(client: Client) -> Unavailable:
    applying = Applying(Target(Path("x.json")), None, is_sure=True)
    with pytest.raises(Unavailable) as caught:
        await plan_commands._apply(Output("text"), cast(AdminClient, client), PLAN, applying)
    return caught.value


async def test_a_daemon_that_ends_leaves_it_said_what_becomes_of_the_plan() -> None:
    """Its orders end with it, but for what has begun, and the same plan can be applied again."""
    error = await apply_with(LostClient(ErrorCode.CUT))

    assert error.detail == (
        "Apply at h:1: the daemon ended: 1 of 3 done, 1 on their way; the daemon finishes those that have begun, "
        "also after its next start or as another instance (`migrations` lists them), and starts no other for "
        "this plan; run the command again for the rest"
    )


async def test_another_error_says_what_it_said() -> None:
    assert (await apply_with(LostClient("http-503"))).detail == "Apply at h:1: the daemon ended; ask again"


async def test_afterwards_ctrl_c_means_what_it_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)

    await follow(Client(1, ends_anyway=True))

    assert signal.getsignal(signal.SIGINT) is before


class TestFiles:
    @pytest.fixture
    def context(self, monkeypatch: pytest.MonkeyPatch) -> click.Context:
        context = click.Context(plan_commands.reconcile)
        context.set_parameter_source("config_path", click.core.ParameterSource.ENVIRONMENT)
        return context

    @pytest.mark.parametrize(("plan", "command"), [(PLAN, "reconcile"), (BACK, "restore")])
    def test_a_saved_plan_says_what_applies_it(
        self,
        context: click.Context,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        plan: PlanDocument,
        command: str,
    ) -> None:
        file = tmp_path / "my plan.jsonl"
        with context:
            plan_commands._save_plan(Output("json"), file, plan, Target(Path("x.json"), is_direct=True))

        assert capsys.readouterr().err == (
            f"saved to {file}; apply it with: diego-docker-cache {command} --direct --apply '{file}'\n"
        )
        assert PlanDocument.from_text(file.read_text(), "") == plan

    def test_an_incomplete_plan_says_that_it_cannot_be_applied(
        self, context: click.Context, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        broken = PlanDocument.from_messages(list(messages_from_plan(replace(PROPOSAL, problems=("x",)))))
        with context:
            plan_commands._save_plan(Output("text"), tmp_path / "plan", broken, Target(Path("x.json")))

        assert "it is incomplete and cannot be applied" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("plan", "goal", "right"), [(PLAN, "source", "reconcile"), (BACK, "cache", "restore")]
    )
    def test_a_plan_of_the_other_command_is_refused_with_the_right_one(
        self, context: click.Context, tmp_path: Path, plan: PlanDocument, goal: str, right: str
    ) -> None:
        file = tmp_path / "plan.jsonl"
        file.write_text(plan.text())

        with context, pytest.raises(Invalid) as caught:
            plan_commands._read_plan(file, goal, Target(Path("x.json")))

        assert caught.value.code == "other-goal"
        assert f"diego-docker-cache {right} --apply {file}" in caught.value.detail


NOTHING = replace(PROPOSAL, considered=0)


@pytest.mark.parametrize(
    ("droplets", "is_unknown"),
    [
        (DropletPlan(), True),
        (DropletPlan(considered=1), False),
        (DropletPlan(problems=("it is down",)), False),
    ],
    ids=["nothing matches", "a droplet of an app that does not run", "perhaps a droplet"],
)
def test_an_app_that_does_not_run_is_known_by_its_droplet(droplets: DropletPlan, *, is_unknown: bool) -> None:
    plan = PlanDocument.from_messages(list(messages_from_plan(replace(NOTHING, droplets=droplets))))

    def report() -> bool:
        try:
            plan_commands._report_no_match(Output("json"), plan, Filters(apps=("batch",)))
        except NotFound:
            return True
        return False

    assert report() is is_unknown


@pytest.mark.parametrize(
    ("problems", "skipped", "said"),
    [
        (("droplets may be missing: it is down",), (), "it is down"),
        ((), (Reason.SOURCE_UNKNOWN,), "source-unknown"),
    ],
)
def test_a_restoration_that_may_have_missed_droplets_is_not_called_done(
    problems: tuple[str, ...], skipped: tuple[Reason, ...], said: str
) -> None:
    subject = DropletSubject(DropletGuid("d"), AppGuid("app"), NOBODY, "web")
    droplets = DropletPlan(
        skipped=tuple(SkippedDroplet(subject, reason) for reason in skipped), problems=problems
    )
    made = replace(NOTHING, goal=Goal.SOURCE, skipped=(), droplets=droplets)
    plan = PlanDocument.from_messages(list(messages_from_plan(made)))

    with pytest.raises(plan_commands.NotAllDone, match=said):
        plan_commands._refuse_not_restored(plan)
