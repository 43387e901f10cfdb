"""What of a plan is done, is under way or has changed when it is applied."""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from typing import cast

import pytest

from controller.admin.plan_comparison import PlannedLrps, compare
from controller.admin.survey import LrpListing, Survey, SurveyedLrp
from reconcile.errors import Conflict
from reconcile.lrps import DesiredLrp, ProcessGuid
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.plan import Plan, PlannedMigration, planned_action
from reconcile.reasons import Reason
from reconcile.references import source_from_rootfs
from tests.reconcile.test_decide import GUID, LRP, NOW, PROCESS, READY, RULES
from tests.reconcile.test_plan import MIGRATED, ORIGINAL_SOURCE, PLANNED, SUBJECT, TO

IN_FLIGHT = Migration(PROCESS, GUID, Phase.BRIDGING, LRP, 1, "run-1", NOW - 1, strategy=Strategy.BRIDGE)
ON_SOURCE = READY
ON_COPY = replace(READY, lrp=MIGRATED, original_source=ORIGINAL_SOURCE, current_copy=READY.image)
BACK = replace(
    PLANNED,
    subject=replace(SUBJECT, rootfs=TO),
    to_rootfs=LRP.rootfs,
    strategy=Strategy.RECREATE,
    reason=Reason.RESTORE_REQUESTED,
)
MOVING = replace(BACK, subject=SUBJECT, reason=Reason.BRIDGING)
"""It was on its way to the copy when the plan was made."""


@dataclass
class OneLrp:
    """A survey that finds one LRP, or none."""

    observed: Observed | None
    rules: Rules = RULES

    async def list_some(self, guids: Iterable[ProcessGuid]) -> LrpListing:
        assert set(guids) == {PROCESS}
        return LrpListing((PROCESS,), {})

    async def decide_each(
        self, _listed: object, _selection: object, order: Order, _counts: object
    ) -> AsyncGenerator[SurveyedLrp, None]:
        if self.observed is None:
            return
        seen = replace(self.observed, order=order)
        lrp = seen.lrp or LRP
        source = source_from_rootfs(lrp.rootfs)
        assert source is not None
        yield SurveyedLrp(lrp, seen, planned_action(seen, RULES), (source,))


async def compared(
    observed: Observed | None, *, planned: PlannedMigration | None = None, goal: Goal = Goal.SOURCE
) -> PlannedLrps:
    """Compare a plan with one migration, or with one pin."""
    migrations = () if planned is None else (planned,)
    pins = (SUBJECT,) if planned is None else ()
    plan = Plan(goal, "cache", NOW, migrations=migrations, pins=pins)
    return await compare(plan, cast(Survey, OneLrp(observed)), now=NOW)


@pytest.mark.parametrize("planned", [BACK, MOVING])
@pytest.mark.parametrize("lrp", [LRP, MIGRATED, None])
async def test_one_that_is_on_its_way_to_the_copy_is_restored(
    planned: PlannedMigration, lrp: DesiredLrp | None
) -> None:
    found = await compared(replace(READY, lrp=lrp, migration=IN_FLIGHT), planned=planned)

    assert set(found.migrations) == found.in_flight == {PROCESS}
    assert found.done == frozenset()


async def test_one_that_came_to_its_copy_meanwhile_is_restored() -> None:
    found = await compared(ON_COPY, planned=MOVING)

    assert (found.in_flight, found.done) == (frozenset(), frozenset())


async def test_one_that_turned_round_meanwhile_is_done() -> None:
    assert (await compared(ON_SOURCE, planned=MOVING)).done == {PROCESS}


async def test_one_that_is_being_restored_already_is_in_flight() -> None:
    restore = replace(IN_FLIGHT, goal=Goal.SOURCE)

    found = await compared(replace(ON_COPY, migration=restore), planned=BACK)

    assert found.in_flight == {PROCESS}
    assert found.done == frozenset()


async def test_one_that_is_back_on_its_source_but_on_its_way_from_there_again_is_not_done() -> None:
    found = await compared(replace(ON_SOURCE, migration=IN_FLIGHT), planned=BACK)

    assert found.done == frozenset()


async def test_one_that_was_being_restored_is_migrated_as_planned_or_done() -> None:
    planned = replace(PLANNED, reason=Reason.REMOVED, to_rootfs=None)

    assert (await compared(ON_SOURCE, planned=planned, goal=Goal.CACHE)).done == frozenset()
    assert (await compared(ON_COPY, planned=planned, goal=Goal.CACHE)).done == {PROCESS}


async def test_one_that_stays_on_its_source_is_only_pinned() -> None:
    assert (await compared(ON_SOURCE)).migrations == {}


async def test_one_that_was_to_stay_but_is_leaving_its_source_is_restored() -> None:
    found = await compared(replace(ON_SOURCE, migration=IN_FLIGHT))

    assert found.migrations[PROCESS].is_in_flight
    assert found.in_flight == {PROCESS}


async def test_one_that_has_left_its_source_is_restored() -> None:
    found = await compared(ON_COPY)

    assert (found.migrations[PROCESS].to_rootfs, found.in_flight) == (LRP.rootfs, frozenset())


async def test_one_that_has_left_its_source_and_cannot_go_back_makes_the_plan_stale() -> None:
    with pytest.raises(Conflict, match="p-1 left its source: source-unknown"):
        await compared(replace(ON_COPY, original_source=None))


async def test_one_that_was_to_be_pinned_may_be_gone() -> None:
    assert (await compared(None)).migrations == {}


async def test_one_that_was_to_be_migrated_may_not() -> None:
    with pytest.raises(Conflict, match="p-1 is gone"):
        await compared(None, planned=BACK)


async def test_a_login_that_was_updated_meanwhile_is_done() -> None:
    planned = replace(
        PLANNED, subject=replace(SUBJECT, rootfs=TO), strategy=Strategy.UPDATE, reason=Reason.LOGIN_OUTDATED
    )
    renewed = replace(ON_COPY, lrp=replace(MIGRATED, credentials=RULES.pull_credentials))

    assert (await compared(renewed, planned=planned, goal=Goal.CACHE)).done == {PROCESS}
    outdated = replace(renewed, lrp=replace(MIGRATED, credentials=LRP.credentials), stores_logins=True)
    assert (await compared(outdated, planned=planned, goal=Goal.CACHE)).done == set()
