"""What a plan says of a droplet, from the decision about it."""

from dataclasses import replace

import pytest

from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_plan import (
    DecidedDroplet,
    DropletChange,
    DropletCriteria,
    DropletSubject,
    PlannedDroplet,
    SkippedDroplet,
    plan_droplet,
    references_of,
)
from reconcile.droplets import BuildGuid, DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, requester_of_operator
from reconcile.references import CacheGuid, parse_image_reference
from reconcile.selection import NOBODY
from tests.reconcile.test_decide import READY

SOURCE = "registry.example/team/web:7"
COPY = "cache.internal:5000/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest"
REFERENCE = parse_image_reference(SOURCE)
APP = AppGuid("app-1")
DROPLET = DropletGuid("droplet-1")
SUBJECT = DropletSubject(DROPLET, APP, NOBODY, SOURCE)
RECORD = DropletRecord(
    DROPLET,
    APP,
    BuildGuid("build-1"),
    original=SOURCE,
    username="",
    cache_guid=CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77"),
    registry="cache.internal:5000",
    target=COPY,
    phase=DropletPhase.PATCHING,
    reason=Reason.PATCHING_DROPLET,
    created_at=1.0,
    updated_at=2.0,
)
REQUEST = CacheRequest(APP, REFERENCE, requester_of_operator("x"), 0, Reason.NOT_CACHED)
assert READY.image is not None
PATCH = PatchDroplet(RECORD, READY.image)
RESTORE = RestoreDroplet(replace(RECORD, phase=DropletPhase.RESTORING), Reason.RESTORE_REQUESTED)
TO_COPY = DropletCriteria(Goal.CACHE)
TO_SOURCE = DropletCriteria(Goal.SOURCE)
ON_SOURCE = DecidedDroplet(DROPLET, APP, SOURCE, PATCH)
ON_COPY = DecidedDroplet(DROPLET, APP, COPY, RESTORE, names_copy=True, record=RECORD)


@pytest.mark.parametrize(
    ("action", "planned"),
    [
        (PATCH, PlannedDroplet(SUBJECT, DropletChange.PATCH, COPY, Reason.PATCHING_DROPLET)),
        (
            RequestCopy(REQUEST),
            PlannedDroplet(SUBJECT, DropletChange.PATCH, None, Reason.NOT_CACHED, REFERENCE),
        ),
        (
            Leave(Reason.WAITING_FOR_COPY),
            PlannedDroplet(SUBJECT, DropletChange.PATCH, None, Reason.WAITING_FOR_COPY),
        ),
        (
            VerifyDropletCopy(READY.image, COPY),
            PlannedDroplet(SUBJECT, DropletChange.PATCH, COPY, Reason.COPY_NEEDS_VERIFICATION),
        ),
        (Leave(Reason.OPTED_OUT, "why"), SkippedDroplet(SUBJECT, Reason.OPTED_OUT, "why")),
        (SaveDropletRecord(RECORD), SkippedDroplet(SUBJECT, Reason.PATCHING_DROPLET)),
        (ForgetDroplet(), None),
    ],
)
def test_what_is_decided_is_planned(
    action: DropletAction, planned: PlannedDroplet | SkippedDroplet | None
) -> None:
    assert plan_droplet(replace(ON_SOURCE, action=action), SUBJECT, TO_COPY) == planned


def test_the_way_back_names_the_original() -> None:
    planned = plan_droplet(ON_COPY, SUBJECT, TO_SOURCE)

    assert planned == PlannedDroplet(SUBJECT, DropletChange.RESTORE, SOURCE, Reason.RESTORE_REQUESTED)


def test_a_pinned_app_is_left_alone_unless_the_plan_includes_it() -> None:
    pinned = replace(ON_SOURCE, is_pinned=True)

    skipped = plan_droplet(pinned, SUBJECT, TO_COPY)
    planned = plan_droplet(pinned, SUBJECT, replace(TO_COPY, include_pinned=True))

    assert isinstance(skipped, SkippedDroplet)
    assert skipped.reason is Reason.PINNED_TO_SOURCE
    assert isinstance(planned, PlannedDroplet)
    assert planned.is_pinned


def test_the_way_back_pins_the_app_of_a_droplet_on_its_source() -> None:
    """Otherwise it would be patched a moment later, and restoring again had something to do."""
    planned = plan_droplet(ON_SOURCE, SUBJECT, TO_SOURCE)

    assert isinstance(planned, PlannedDroplet)
    assert planned.change is DropletChange.PIN


@pytest.mark.parametrize(
    ("decided", "criteria"),
    [
        (replace(ON_SOURCE, is_pinned=True), TO_SOURCE),
        (ON_SOURCE, replace(TO_SOURCE, covered_apps=frozenset({APP}))),
        (replace(ON_SOURCE, app_guid=AppGuid("")), TO_SOURCE),
    ],
    ids=["pinned already", "pinned with its LRPs", "of no app"],
)
def test_the_way_back_pins_no_app_that_needs_no_pin(
    decided: DecidedDroplet, criteria: DropletCriteria
) -> None:
    assert plan_droplet(decided, SUBJECT, criteria) is None


def test_no_login_is_shown() -> None:
    subject = replace(SUBJECT, image="robot:marker-pw@registry.example/team/web:7")

    assert "marker-pw" not in repr(subject) + subject.shown_image
    assert subject.shown_image.endswith("@registry.example/team/web:7")


@pytest.mark.parametrize("text", ["", "Upper/Case", "a b"])
def test_a_text_that_is_no_reference_matches_no_filter(text: str) -> None:
    assert references_of(text) == ()
