"""What a person sees of droplets: in a plan, while it is applied, and in the status."""

import time
from dataclasses import replace
from typing import Any

import pytest

from controller.admin.documents import PlanDocument
from controller.admin.plan_messages import messages_from_plan
from controller.admin.rows import row_from_message
from controller.commands.apply_view import ApplyView
from controller.commands.cloud_controller_view import cloud_controller_pairs
from controller.commands.output import Output
from controller.commands.plan_view import is_pending, plan_rows, show_plan
from protos.admin import admin_pb2 as pb
from reconcile.droplet_plan import (
    DropletChange,
    DropletPlan,
    DropletSubject,
    PlannedDroplet,
    SkippedDroplet,
)
from reconcile.droplets import DropletGuid
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.plan import Plan
from reconcile.reasons import Reason
from reconcile.selection import NOBODY, Owner
from tests.controller.admin.test_messages import PROPOSAL

SOURCE = "registry.example/team/web:7"
COPY = "cache.internal:5000/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest"
WEB = DropletSubject(DropletGuid("d-web"), AppGuid("app-1"), Owner("acme", "prod", "web"), SOURCE)
OLDER = replace(WEB, droplet_guid=DropletGuid("d-older"), is_newest=False)
STOPPED = replace(
    WEB, droplet_guid=DropletGuid("d-stopped"), app_guid=AppGuid("app-2"), owner=NOBODY, is_running=False
)
CHANGES = (
    PlannedDroplet(WEB, DropletChange.PATCH, COPY, Reason.PATCHING_DROPLET),
    PlannedDroplet(OLDER, DropletChange.PATCH, None, Reason.NOT_CACHED),
    PlannedDroplet(STOPPED, DropletChange.PATCH, COPY, Reason.PATCHING_DROPLET),
)
NOTHING = replace(PROPOSAL, copies=(), migrations=(), skipped=())


def document(droplets: DropletPlan, goal: Goal = Goal.CACHE, plan: Plan = NOTHING) -> PlanDocument:
    return PlanDocument.from_messages(list(messages_from_plan(replace(plan, goal=goal, droplets=droplets))))


def shown(plan: PlanDocument, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_plan(Output("text"), plan)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


class TestPlan:
    def test_droplets_are_named_with_what_they_are_for_and_what_they_get(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan = document(DropletPlan(CHANGES, considered=3))

        lines = shown(plan, capsys)

        assert "3 droplets to patch" in lines
        assert f"web acme prod running app {SOURCE} {COPY} d-web" in lines
        assert f"web acme prod earlier revision {SOURCE} its copy d-older" in lines
        assert f"app-2 app not running {SOURCE} {COPY} d-stopped" in lines
        assert "3 droplets to patch, 0 skipped, 0 already name their copies" in lines
        assert is_pending(plan), "although no LRP is to be migrated"

    def test_the_way_back_says_what_comes_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        back = PlannedDroplet(
            replace(WEB, image=COPY), DropletChange.RESTORE, SOURCE, Reason.RESTORE_REQUESTED
        )
        pin = PlannedDroplet(STOPPED, DropletChange.PIN, SOURCE, Reason.RESTORE_REQUESTED)

        lines = shown(document(DropletPlan((back, pin), considered=2), Goal.SOURCE), capsys)

        assert "1 droplet to restore" in lines
        assert f"web acme prod running app {SOURCE} {COPY} d-web" in lines
        assert "1 app to pin to the sources that their droplets name" in lines
        assert (
            "1 droplet to restore, 0 skipped; the droplets of an app go first, its LRPs after them" in lines
        )

    def test_what_is_left_alone_is_explained_and_what_is_patched_is_counted(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        skipped = (
            SkippedDroplet(WEB, Reason.DROPLET_PATCHED),
            SkippedDroplet(STOPPED, Reason.IMAGE_CHANGED_EXTERNALLY, "it names x now"),
        )
        plan = document(DropletPlan(skipped=skipped, considered=2))

        lines = shown(plan, capsys)

        assert "1 droplet skipped" in lines
        assert "app-2 skipped image-changed-externally it names x now d-stopped" in lines
        assert any(line.startswith("image-changed-externally somebody else wrote") for line in lines)
        assert "0 droplets to patch, 1 skipped, 1 already name their copies" in lines
        assert not is_pending(plan)

    def test_a_silent_cloud_controller_is_a_problem_that_hinders_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = shown(document(DropletPlan(problems=("droplets may be missing: it is down",))), capsys)

        assert "DROPLETS: droplets may be missing: it is down; apps are migrated nevertheless" in lines

    def test_without_a_cloud_controller_nothing_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert not any("droplet" in line.lower() for line in shown(document(DropletPlan()), capsys))

    def test_as_json_each_droplet_is_a_row(self) -> None:
        skipped = (SkippedDroplet(STOPPED, Reason.OPTED_OUT),)

        rows = plan_rows(document(DropletPlan(CHANGES[:1], skipped, 2)))

        assert [row["kind"] for row in rows] == ["droplet", "skipped-droplet", "plan"]
        assert rows[0]["change"] == "patch"
        assert rows[0]["to_image"] == COPY


def droplet_event(name: str, state: str, reason: str, done: int) -> dict[str, Any]:
    event = pb.ApplyEvent(droplet_guid=f"d-{name}", app_guid=f"guid-{name}", app_name=name, total=1)
    event.droplets_done, event.droplets_total = done, 2
    return {**row_from_message(event), "state": state, "reason": reason}


def lrp_event(name: str, state: str, reason: str, done: int) -> dict[str, Any]:
    event = pb.ApplyEvent(process_guid=f"p-{name}", app_name=name, done=done, total=1)
    return {**row_from_message(event), "state": state, "reason": reason}


class TestApply:
    def test_droplets_are_counted_beside_apps(self, capsys: pytest.CaptureFixture[str]) -> None:
        view = ApplyView(Output("text"), 1, 2, goal="source")
        with view.showing():
            view.see(droplet_event("web", "migrating", "restoring-droplet", 0))
            view.see(droplet_event("web", "done", "restored", 1))
            assert view.progress == "1 of 2 droplets done, 0 of 1 done"
            view.see(lrp_event("web", "done", "restored", 1))
            view.see(droplet_event("batch", "failed", "cloud-controller-unavailable", 2))
        view.sum_up()

        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == [
            "1/2 droplet of web: restored",
            "1/1 web: restored",
            "2/2 droplet of batch: cloud-controller-unavailable",
        ]
        assert "1 droplet not changed" in lines
        assert lines[-2:] == ["1 migrated, 0 skipped, 0 failed", "1 droplet restored, 0 skipped, 1 failed"]

    def test_it_is_over_when_the_last_droplet_is(self) -> None:
        view = ApplyView(Output("json"), 0, 1)
        before = view.is_over

        view.see(droplet_event("web", "done", "restored", 1))

        assert (before, view.is_over) == (False, True)

    def test_without_droplets_nothing_is_said_of_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        view = ApplyView(Output("text"), 1)
        view.see(lrp_event("web", "done", "migrated", 1))
        view.sum_up()

        assert "droplet" not in capsys.readouterr().out


class TestStatus:
    def test_none_is_configured(self) -> None:
        assert cloud_controller_pairs(None) == []

    def test_one_that_answers(self) -> None:
        now = time.time()
        state = pb.CloudController(
            url="https://api.example",
            reachable_since=now - 7200,
            requests_left=1800,
            requests_renewed_at=now + 1200,
            updates_droplets=True,
            droplets_listed_at=now - 120,
            droplets_by_phase={"patched": 1200, "left": 5},
            waiting_by_reason={"copy-failed": 2, "waiting-for-copy": 3},
        )

        assert cloud_controller_pairs(row_from_message(state)) == [
            (
                "cloud controller",
                "https://api.example: reachable for 2 h 0 min, 1,800 requests left for 20 min",
            ),
            (
                "droplets",
                (
                    "1,200 patched, 5 left; listed 2 min ago; "
                    "not patched: 3 waiting-for-copy, 2 copy-failed, see `droplets`"
                ),
            ),
        ]

    def test_one_that_fails_and_whose_client_lacks_a_scope(self) -> None:
        state = pb.CloudController(
            url="https://api.example",
            failing_since=time.time() - 300,
            error="cloud-controller: CF-NotAuthorized: no",
            missing_scopes=["cloud_controller.write"],
        )

        (name, text), (scopes_name, scopes), (_, droplets) = cloud_controller_pairs(row_from_message(state))

        assert (name, scopes_name) == ("cloud controller", "MISSING SCOPES")
        assert "FAILING for 5 min: cloud-controller: CF-NotAuthorized: no; apps are cached" in text
        assert scopes.startswith("cloud_controller.write: ")
        assert droplets == "none; update_droplets is off: none is changed; listed never"
