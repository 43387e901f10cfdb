"""What an LRP is called in a listing, and what is said of instances that do not run."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from controller.admin.listing import AppRow, app_row, count_by_state
from controller.admin.survey import Survey, SurveyedLrp
from reconcile.lrps import ActualLrp, ActualLrpState
from reconcile.migrations import Goal, Migration, OriginalSource, Phase
from reconcile.observed import Observed
from reconcile.plan import planned_action
from reconcile.reasons import AppState, Reason
from reconcile.records import LrpRecord
from reconcile.steps import RetireInstances
from tests.reconcile.test_causes import NO_DISK, UNKNOWN, crashed, waiting
from tests.reconcile.test_decide import BRIDGING, GUID, IMAGE, LRP, NOW, PROCESS, READY, RECORD, RULES, row

COPY = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID), instances=1)
ON_COPY = Observed(PROCESS, now=NOW, process_age=1000.0, run_id="run-1", lrp=COPY, current_copy=IMAGE)
SURVEY = cast(Survey, SimpleNamespace(rules=RULES))


def shown(observed: Observed) -> AppRow:
    lrp = observed.lrp or COPY
    return app_row(SurveyedLrp(lrp, observed, planned_action(observed, RULES)), SURVEY)


@pytest.mark.parametrize(
    ("instance", "detail"),
    [
        (row(ActualLrpState.CLAIMED), ""),
        (row(ActualLrpState.UNCLAIMED), ""),
        (crashed("Exited with status 3"), "crashed from its copy: Exited with status 3"),
        (waiting(NO_DISK), "no cell has room: insufficient resources: disk"),
        (
            crashed(UNKNOWN),
            "cells cannot pull from its copy: reading manifest latest in r: manifest unknown",
        ),
    ],
)
def test_an_app_on_its_copy_that_does_not_run_is_not_called_cached(instance: ActualLrp, detail: str) -> None:
    app = shown(replace(ON_COPY, instances=(instance,)))

    assert (app.reason, app.state, app.detail) == (Reason.NOT_RUNNING, AppState.WAITING, detail)
    assert app.running == 0
    assert app.to_rootfs == COPY.rootfs


def test_an_app_on_its_copy_without_instance_rows_is_not_called_cached() -> None:
    assert shown(ON_COPY).reason is Reason.NOT_RUNNING


def test_an_app_on_its_copy_of_which_no_instance_is_wanted_is_said_to_be_so() -> None:
    none = replace(ON_COPY, lrp=replace(COPY, instances=0), instances=(row(ActualLrpState.RUNNING),))

    assert (shown(none).reason, shown(none).state) == (Reason.NO_INSTANCES, AppState.WAITING)


@pytest.mark.parametrize(("record", "reason"), [(None, Reason.ALREADY_CACHED), (RECORD, Reason.MIGRATED)])
def test_an_app_is_cached_when_one_of_its_instances_runs_from_its_copy(
    record: LrpRecord | None, reason: Reason
) -> None:
    instances = (replace(row(ActualLrpState.RUNNING), routable=False), crashed("Exited", index=1))
    app = shown(replace(ON_COPY, lrp=replace(COPY, instances=2), instances=instances, record=record))

    assert (app.reason, app.state) == (reason, AppState.CACHED)
    assert app.detail == "crashed from its copy: Exited (1 of 2 instances)"


@pytest.mark.parametrize("others", [(), (row(ActualLrpState.RUNNING, index=1),)], ids=["down", "one runs"])
@pytest.mark.parametrize("reason", [Reason.COPY_AND_SOURCE_LOST, Reason.COPY_INCOMPLETE])
def test_an_app_whose_source_has_no_image_either_is_not_said_to_be_back_on_it(
    reason: Reason, others: tuple[ActualLrp, ...]
) -> None:
    """Each look decides anew to ask the source: what it said last is what there is to know."""
    lost = replace(IMAGE, missing="its manifest", missing_since=NOW - 60, lost_since=NOW - 50)
    said = "its source says: manifest unknown"
    record = replace(RECORD, reason=reason, detail=said, rootfs=str(COPY.rootfs), updated_at=NOW - 40)
    original = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)
    observed = replace(ON_COPY, current_copy=lost, record=record, original_source=original)
    lrp = replace(COPY, instances=2)
    survey = cast(Survey, SimpleNamespace(rules=BRIDGING))
    observed = replace(observed, lrp=lrp, instances=(crashed(UNKNOWN), *others))

    app = app_row(SurveyedLrp(lrp, observed, planned_action(observed, BRIDGING)), survey)

    assert (app.reason, app.state) == (reason, reason.state)
    assert app.detail.startswith(said)


def test_an_app_on_its_source_says_why_its_instances_do_not_run() -> None:
    app = shown(replace(READY, instances=(crashed("Exited"), crashed("Exited", index=1))))

    assert (app.reason, app.detail) == (Reason.RUNS_FROM_SOURCE, "crashed from its source: Exited")


def test_an_app_whose_migration_failed_says_why_and_what_its_instances_do_now() -> None:
    said = "bridge: no cell has room: insufficient resources: disk"
    failed = replace(RECORD, reason=Reason.BRIDGE_TIMEOUT, detail=said, updated_at=NOW)
    app = shown(replace(READY, record=failed, instances=(crashed("Exited"),)))

    assert app.reason is Reason.BRIDGE_TIMEOUT
    assert app.detail == f"{said}; crashed from its source: Exited (1 of 2 instances)"


def test_instances_that_are_ended_are_described_by_the_reason_why_they_are() -> None:
    for reason in (Reason.COPY_REPAIRED, Reason.RETIRED_STALE_INSTANCES):
        failed = crashed(UNKNOWN)
        observed = replace(ON_COPY, instances=(failed,))

        app = app_row(SurveyedLrp(COPY, observed, RetireInstances((failed,), reason)), SURVEY)

        assert app.reason is reason


def test_an_open_migration_is_described_by_its_last_pass() -> None:
    migration = Migration(PROCESS, GUID, Phase.BRIDGING, LRP, 1, "run-1", NOW, goal=Goal.CACHE)
    said = "bridge: no cell has room: insufficient resources: disk"
    recorded = replace(RECORD, reason=Reason.BRIDGING, detail=said)
    open_one = replace(READY, migration=migration, record=recorded, instances=(crashed("Exited"),))

    assert shown(open_one).detail == said
    unsaid = replace(open_one, record=replace(recorded, detail=""))
    assert shown(unsaid).detail == "crashed from its source: Exited (1 of 2 instances)"


def test_lrps_that_are_gone_do_not_count() -> None:
    counts = {Reason.MIGRATED: 2, Reason.ALREADY_CACHED: 1, Reason.NOT_DESIRED: 4, Reason.DENIED: 1}

    assert count_by_state(counts) == {AppState.CACHED: 3, AppState.SKIPPED: 1}
