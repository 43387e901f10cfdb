"""Which droplets a plan is about, with and without a Cloud Controller that answers."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from controller.admin.droplet_changes import OrderedDroplets
from controller.admin.droplet_planner import DropletPlanner, PlannedApps
from controller.admin.droplets import LeftDroplets, StoredDroplets
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_plan import (
    NO_DROPLETS,
    DecidedDroplet,
    DropletChange,
    DropletCriteria,
    DropletPlan,
    DropletScope,
)
from reconcile.droplets import DropletGuid, DropletOrder, DropletPhase, DropletRecord
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.selection import AppNames, Owner, Selection
from tests.reconcile.test_droplet_plan import APP, ON_COPY, ON_SOURCE, RECORD, SOURCE

STOPPED = AppGuid("app-stopped")
NAMES = AppNames((APP,), Owner("acme", "prod", "web"), "org-1", "space-1")
STOPPED_NAMES = AppNames((STOPPED,), Owner("acme", "prod", "batch"), "org-1", "space-1")
OF_STOPPED = replace(ON_SOURCE, guid=DropletGuid("d-stopped"), app_guid=STOPPED)
OLDER = replace(ON_SOURCE, guid=DropletGuid("d-older"), is_newest=False)
PATCHED = replace(RECORD, phase=DropletPhase.PATCHED)
DOWN = Unavailable("cloud-controller", "timeout", "it is down")


@dataclass
class Droplets:
    """Droplets as a test says, with a Cloud Controller that may be down."""

    decided: Sequence[DecidedDroplet] = ()
    records: tuple[DropletRecord, ...] = ()
    fault: DockerCacheError | None = None
    knows_names: bool = True
    updates: bool = True
    status: CloudControllerStatus | None = field(
        default_factory=lambda: CloudControllerStatus("https://api.example")
    )
    listed_at: float = 0.0
    scopes: list[DropletScope] = field(default_factory=list)

    @property
    def orders(self) -> OrderedDroplets:
        raise NotImplementedError

    async def list_records(self) -> tuple[DropletRecord, ...]:
        return self.records

    async def page_records(self, _: DropletGuid | None) -> tuple[DropletRecord, ...]:
        return self.records

    async def list_records_of(self, _: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        return self.records

    async def count_records(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        return {}

    async def name_apps(self, _: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        if self.fault is not None or not self.knows_names:
            raise self.fault or DOWN
        return {STOPPED: STOPPED_NAMES}

    async def decide_each(self, _: DropletOrder, scope: DropletScope) -> AsyncGenerator[DecidedDroplet, None]:
        self.scopes.append(scope)
        if self.fault is not None:
            raise self.fault
        for each in self.decided:
            is_in_apps = scope.apps is None or each.app_guid in scope.apps
            if is_in_apps and scope.chooses(each.app_guid, each.original):
                yield each


ALL = PlannedApps({APP: NAMES}, frozenset({APP}))


async def planned(
    droplets: Droplets,
    selection: Selection = Selection(),  # noqa: B008 - a frozen value
    goal: Goal = Goal.CACHE,
    apps: PlannedApps = ALL,
) -> DropletPlan:
    planner = DropletPlanner(droplets)
    order = DropletOrder(goal, since=1.0)
    return await planner.plan(selection, order, DropletCriteria(goal), apps)


async def test_droplets_of_apps_that_do_not_run_and_of_earlier_revisions_are_planned() -> None:
    plan = await planned(Droplets([ON_SOURCE, OF_STOPPED, OLDER]))

    assert [
        (each.subject.owner.app, each.subject.is_newest, each.subject.is_running) for each in plan.changes
    ] == [("batch", True, False), ("web", True, True), ("web", False, True)]
    assert plan.considered == 3
    assert plan.problems == ()


@pytest.mark.parametrize(
    ("selection", "apps"),
    [
        (Selection(apps=("batch",)), {STOPPED}),
        (Selection(apps=(STOPPED,)), {STOPPED}),
        (Selection(orgs=("ac*",)), {APP, STOPPED}),
        (Selection(spaces=("dev",)), set()),
        (Selection(process_guids=("p-1",)), {APP}),
        (Selection(images=("registry.example/team/*",)), {APP, STOPPED}),
        (Selection(images=("docker.io/*",)), set()),
    ],
    ids=["app by name", "app by GUID", "organization", "no space", "LRP", "image", "no image"],
)
async def test_a_filter_chooses_by_app_and_original_image(selection: Selection, apps: set[AppGuid]) -> None:
    plan = await planned(Droplets([ON_SOURCE, OF_STOPPED]), selection)

    assert {each.subject.app_guid for each in plan.changes} == apps


async def test_an_app_is_pinned_once_on_the_way_back() -> None:
    plan = await planned(Droplets([ON_SOURCE, OLDER, OF_STOPPED]), goal=Goal.SOURCE)

    assert [(each.change, each.subject.app_guid) for each in plan.changes] == [
        (DropletChange.PIN, STOPPED),
        (DropletChange.PIN, APP),
    ]


async def test_an_app_with_a_droplet_to_restore_needs_no_other_pin() -> None:
    plan = await planned(Droplets([ON_COPY, OLDER]), goal=Goal.SOURCE)

    assert [each.change for each in plan.changes] == [DropletChange.RESTORE]


async def test_a_silent_cloud_controller_is_a_problem_of_droplets_alone() -> None:
    plan = await planned(Droplets([ON_SOURCE], fault=DOWN))

    assert plan.changes == ()
    assert any("droplets may be missing" in problem for problem in plan.problems)


@pytest.mark.parametrize(
    ("selection", "is_problem"), [(Selection(), False), (Selection(orgs=("acme",)), True)], ids=str
)
async def test_without_names_a_plan_misses_something_only_where_names_choose(
    selection: Selection, *, is_problem: bool
) -> None:
    plan = await planned(Droplets([ON_SOURCE, OF_STOPPED], knows_names=False), selection)

    assert bool(plan.problems) is is_problem
    assert len(plan.changes) == (1 if is_problem else 2)


async def test_the_way_back_knows_patched_droplets_without_cloud_controller() -> None:
    left = replace(RECORD, droplet_guid=DropletGuid("d-left"), phase=DropletPhase.LEFT)
    plan = await planned(Droplets(records=(PATCHED, left), fault=DOWN), goal=Goal.SOURCE)

    (change,) = plan.changes
    assert (change.change, change.to_image) == (DropletChange.RESTORE, SOURCE)
    assert change.subject.is_newest
    assert plan.problems == ("droplets may be missing: cloud-controller: timeout: it is down",)


async def test_nothing_is_changed_where_the_operator_does_not_want_it() -> None:
    off = Droplets([ON_SOURCE], records=(PATCHED,), updates=False)

    assert await planned(off) == NO_DROPLETS
    back = await planned(off, goal=Goal.SOURCE)
    assert back.changes == ()
    assert back.problems == ("1 droplets name copies and stay so, since update_droplets is off",)


class TestWithoutCloudController:
    @pytest.mark.parametrize(("records", "is_said"), [((PATCHED,), True), ((), False)])
    async def test_the_way_back_says_what_it_cannot_put_back(
        self, records: tuple[DropletRecord, ...], *, is_said: bool
    ) -> None:
        planner = DropletPlanner(LeftDroplets(cast(StoredDroplets, Records(records)), None))

        plan = await planner.plan(
            Selection(), DropletOrder(Goal.SOURCE, 1.0), DropletCriteria(Goal.SOURCE), ALL
        )

        assert plan.changes == ()
        assert bool(plan.problems) is is_said

    async def test_a_plan_to_the_copies_says_nothing_of_droplets(self) -> None:
        planner = DropletPlanner(LeftDroplets(cast(StoredDroplets, Records((PATCHED,))), None))

        plan = await planner.plan(
            Selection(), DropletOrder(Goal.CACHE, 1.0), DropletCriteria(Goal.CACHE), ALL
        )

        assert plan == NO_DROPLETS


@dataclass
class Records:
    """The store's records."""

    records: tuple[DropletRecord, ...]

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        return self.records
