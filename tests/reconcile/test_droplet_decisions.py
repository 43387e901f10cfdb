"""What is decided about a droplet on which observation."""

from dataclasses import replace

import pytest

from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    ObservedDroplet,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_decisions import GONE_FOR, decide_droplet, droplet_of_build, predict_droplet_action
from reconcile.droplets import (
    LATE_EFFECT,
    Build,
    BuildState,
    DropletGuid,
    DropletOrder,
    DropletPhase,
    DropletRecord,
    Package,
    PackageGuid,
)
from reconcile.known_records import StagedCopy
from reconcile.lrps import Credentials, Secret
from reconcile.migration_choice import RETRY_FAILED_AFTER, ROUNDS_FORGOTTEN_AFTER
from reconcile.migrations import Goal
from reconcile.policy import CacheMode, Policy, UnseenStagings
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import CachedImage, JobState, requester_of_droplet
from reconcile.references import CacheGuid, CacheRepositories, parse_image_reference
from reconcile.staging import OwnerChoice
from tests.reconcile.droplet_samples import (
    ADDRESS,
    BINDING,
    BUILD,
    DROPLET,
    FORMER,
    FORMER_TARGET,
    IMAGE,
    JOB,
    ORIGINAL,
    OTHER,
    OTHER_DIGEST,
    OTHER_GUID,
    PATCHED,
    PUSHED,
    RULES,
    SOURCE,
    STAGED_NOW,
    TARGET,
    droplet,
    record,
)
from tests.reconcile.test_decide import APP, DIGEST, GUID, NOW


def reason_of(observed: ObservedDroplet) -> Reason:
    """Decide, and expect that the droplet is left."""
    action = decide_droplet(observed, RULES)
    assert isinstance(action, Leave), action
    return action.reason


def saved(action: DropletAction) -> DropletPhase:
    """Expect that nothing is sent, and give the phase that is saved."""
    assert isinstance(action, SaveDropletRecord), action
    return action.record.phase


TO_SOURCE = DropletOrder(Goal.SOURCE, since=NOW - 1)
TO_CACHE = DropletOrder(Goal.CACHE, since=NOW - 1)


def test_a_droplet_that_holds_what_was_staged_gets_the_name_of_its_copy() -> None:
    action = decide_droplet(STAGED_NOW, RULES)

    assert isinstance(action, PatchDroplet)
    assert action.text == TARGET
    assert action.image == IMAGE
    begun = action.record
    assert (begun.phase, begun.original, begun.target) == (DropletPhase.PATCHING, ORIGINAL, TARGET)
    assert (begun.cache_guid, begun.registry, begun.build_guid) == (GUID, ADDRESS, BUILD)
    assert (begun.attempts, begun.rounds) == (1, 0)


def test_a_droplet_that_names_its_copy_needs_nothing() -> None:
    """Trap 10: writing the same text again is of no use."""
    assert reason_of(PATCHED) is Reason.DROPLET_PATCHED


@pytest.mark.parametrize("image", [OTHER, "registry.example.com/team/other:1", "busybox"])
def test_a_droplet_with_another_image_than_the_staged_one_is_left(image: str) -> None:
    assert reason_of(replace(STAGED_NOW, droplet=droplet(image))) is Reason.IMAGE_CHANGED_EXTERNALLY


@pytest.mark.parametrize("phase", DropletPhase)
def test_a_droplet_into_which_somebody_wrote_another_image_is_left(phase: DropletPhase) -> None:
    observed = replace(STAGED_NOW, droplet=droplet(OTHER), record=record(phase), binding=None, job=None)

    assert reason_of(observed) is Reason.IMAGE_CHANGED_EXTERNALLY
    assert reason_of(replace(observed, order=TO_SOURCE)) is Reason.IMAGE_CHANGED_EXTERNALLY


@pytest.mark.parametrize("image", [None, "", "Team/app", "docker://busybox", "user:pw@registry.example/a/b"])
def test_a_droplet_whose_text_names_no_image_is_left(image: str | None) -> None:
    assert reason_of(replace(STAGED_NOW, droplet=droplet(image))) is Reason.NOT_CACHEABLE
    changed = replace(STAGED_NOW, droplet=droplet(image), record=record())
    assert reason_of(changed) is Reason.IMAGE_CHANGED_EXTERNALLY


@pytest.mark.parametrize("state", ["EXPIRED", "FAILED", "STAGING", "COPYING", "AWAITING_UPLOAD"])
def test_a_droplet_that_is_not_staged_is_never_written_into(state: str) -> None:
    """Trap 10: Cloud Controller would answer with 500, as it does while it is down."""
    for observed in (STAGED_NOW, PATCHED, replace(PATCHED, order=TO_SOURCE)):
        assert observed.droplet is not None
        expired = replace(observed, droplet=replace(observed.droplet, state=state))
        assert reason_of(expired) is Reason.DROPLET_NOT_STAGED


def test_a_droplet_of_a_buildpack_is_never_written_into() -> None:
    assert reason_of(replace(STAGED_NOW, droplet=droplet(None, is_docker=False))) is Reason.NOT_DOCKER


@pytest.mark.parametrize(
    ("copy", "reason"),
    [
        (replace(IMAGE, missing_since=NOW - 5, missing="a blob"), Reason.COPY_INCOMPLETE),
        (replace(IMAGE, missing_since=NOW - 5, lost_since=NOW - 1), Reason.COPY_LOST),
    ],
)
def test_a_copy_that_is_not_there_is_never_named(copy: CachedImage, reason: Reason) -> None:
    assert reason_of(replace(STAGED_NOW, image=copy)) is reason


def test_a_copy_that_is_not_verified_is_read_back_before_it_is_named() -> None:
    copy = replace(IMAGE, needs_verification_since=NOW - 5)
    obstacle = Leave(Reason.DROPLET_PULLS_NOT_PROVEN, "no canary has run", 5.0)
    doubted = replace(STAGED_NOW, image=copy)

    assert decide_droplet(doubted, RULES) == VerifyDropletCopy(copy, TARGET)
    assert decide_droplet(replace(doubted, obstacle=obstacle), RULES) == obstacle


def test_what_speaks_against_all_droplets_keeps_one_from_being_patched_but_not_from_being_restored() -> None:
    obstacle = Leave(Reason.DROPLET_PULLS_NOT_PROVEN, "no canary has run", 5.0)

    assert decide_droplet(replace(STAGED_NOW, obstacle=obstacle), RULES) == obstacle
    assert decide_droplet(replace(STAGED_NOW, obstacle=obstacle, order=TO_CACHE), RULES) == obstacle
    restoring = decide_droplet(replace(PATCHED, obstacle=obstacle, is_pinned=True), RULES)
    assert isinstance(restoring, RestoreDroplet)


def test_a_name_that_cloud_controller_would_refuse_is_never_written() -> None:
    """Trap 8."""
    rules = replace(RULES, cache=CacheRepositories(ADDRESS, "a/" * 105 + "{guid}:latest"))

    action = decide_droplet(STAGED_NOW, rules)

    assert isinstance(action, Leave)
    assert action.reason is Reason.COPY_NAME_REFUSED
    assert "255" in action.detail


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (JobState.QUEUED, Reason.WAITING_FOR_COPY),
        (JobState.COPYING, Reason.WAITING_FOR_COPY),
        (JobState.FAILED, Reason.COPY_FAILED),
    ],
)
def test_a_copy_that_is_not_finished_is_waited_for(state: JobState, reason: Reason) -> None:
    observed = replace(STAGED_NOW, job=replace(JOB, state=state, cache_guid=None), image=None)

    assert reason_of(observed) is reason


def test_a_copy_that_failed_long_ago_is_requested_again_in_the_name_of_the_droplet() -> None:
    failed = replace(JOB, state=JobState.FAILED, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    action = decide_droplet(replace(STAGED_NOW, job=failed, image=None), RULES)

    assert isinstance(action, RequestCopy)
    assert action.reason is Reason.RETRYING_COPY
    assert action.request.requester == requester_of_droplet(DROPLET)
    assert action.request.staged_at == BINDING.staged_at


def test_the_copy_that_the_droplet_itself_asked_for_is_its_copy() -> None:
    """Otherwise a staging whose copy failed once would be asked for anew in each pass."""
    own = replace(BINDING, requester=requester_of_droplet(DROPLET))

    assert isinstance(decide_droplet(replace(STAGED_NOW, binding=own, build_guid=None), RULES), PatchDroplet)
    waiting = replace(JOB, state=JobState.FAILED, cache_guid=None)
    assert reason_of(replace(STAGED_NOW, binding=own, job=waiting, image=None)) is Reason.COPY_FAILED


def test_a_droplet_with_another_image_than_it_asked_a_copy_for_is_left() -> None:
    own = replace(BINDING, requester=requester_of_droplet(DROPLET))

    assert (
        reason_of(replace(STAGED_NOW, binding=own, droplet=droplet(OTHER))) is Reason.IMAGE_CHANGED_EXTERNALLY
    )


UNKNOWN_BUILD = replace(STAGED_NOW, build_guid=None)


def test_the_newest_staging_counts_for_a_droplet_like_the_current_one() -> None:
    assert isinstance(decide_droplet(UNKNOWN_BUILD, RULES), PatchDroplet)


def test_a_staging_counts_only_while_the_current_droplet_has_the_same_image() -> None:
    action = decide_droplet(replace(UNKNOWN_BUILD, has_current_reference=False), RULES)

    assert isinstance(action, RequestCopy)
    assert action.reason is Reason.NOT_CACHED


def test_a_droplet_of_a_later_staging_does_not_get_the_copy_of_an_earlier_one() -> None:
    late = replace(droplet(), created_at=NOW + 7200)
    action = decide_droplet(replace(UNKNOWN_BUILD, droplet=late), RULES)

    assert isinstance(action, RequestCopy)
    assert action.reason is Reason.STAGING_MAY_HAVE_BEEN_MISSED
    assert action.request.staged_at == int(late.created_at * 1e9)


OF_LRP = replace(
    UNKNOWN_BUILD, binding=replace(BINDING, requester="lrp:web-1", staged_at=0), username="robot"
)
"""A droplet of an app that runs from its source, which needs a login, and whose staging nobody saw."""


@pytest.mark.parametrize("state", [JobState.CACHED, JobState.COPYING])
def test_the_copy_of_what_runs_is_that_of_the_droplet_when_it_was_requested_later(state: JobState) -> None:
    earlier = replace(droplet(), created_at=JOB.created_at - 3600)
    job = replace(JOB, state=state, cache_guid=GUID if state is JobState.CACHED else None)
    image = IMAGE if state is JobState.CACHED else None
    action = decide_droplet(replace(OF_LRP, droplet=earlier, job=job, image=image), RULES)

    if state is JobState.CACHED:
        assert isinstance(action, PatchDroplet)
    else:
        assert action == Leave(Reason.WAITING_FOR_COPY)


def test_a_copy_that_was_requested_before_a_droplet_was_made_is_not_that_of_its_tag() -> None:
    assert reason_of(OF_LRP) is Reason.SOURCE_CREDENTIALS_UNKNOWN


UNSEEN = replace(STAGED_NOW, build_guid=None, binding=None, job=None, image=None)


def test_a_droplet_whose_staging_was_not_seen_gets_what_its_tag_means_now_or_waits() -> None:
    action = decide_droplet(UNSEEN, RULES)
    assert isinstance(action, RequestCopy)
    assert (action.request.app_guid, action.request.source) == (APP, SOURCE)

    waiting = decide_droplet(UNSEEN, replace(RULES, unseen_stagings=UnseenStagings.WAIT))
    assert isinstance(waiting, Leave)
    assert waiting.reason is Reason.WAITING_FOR_STAGING


def test_content_that_a_digest_pins_is_requested_and_used_whatever_stagings_were_seen() -> None:
    pinned = f"registry.example.com/team/app@{DIGEST}"
    source = parse_image_reference(pinned).canonical()
    unseen = replace(UNSEEN, droplet=droplet(pinned))
    waiting = replace(RULES, unseen_stagings=UnseenStagings.WAIT)
    action = decide_droplet(unseen, waiting)
    assert isinstance(action, RequestCopy)
    assert action.request.source == source

    known = replace(unseen, newest=StagedCopy(replace(BINDING, source=source), IMAGE))
    assert isinstance(decide_droplet(known, waiting), PatchDroplet)
    other = replace(IMAGE, root_digest=OTHER_DIGEST, platform_digest=OTHER_DIGEST)
    of_other = replace(unseen, newest=StagedCopy(replace(BINDING, source=source), other))
    assert isinstance(decide_droplet(of_other, waiting), RequestCopy)


def test_an_image_behind_a_login_is_not_asked_for_without_its_password() -> None:
    private = replace(UNSEEN, username="robot")
    assert reason_of(private) is Reason.SOURCE_CREDENTIALS_UNKNOWN

    login = Credentials("robot", Secret("pw"))
    action = decide_droplet(replace(private, credentials=login), RULES)
    assert isinstance(action, RequestCopy)
    assert action.request.credentials == login


def test_an_order_that_covers_only_copies_requests_none() -> None:
    only = replace(TO_CACHE, only_cached=True)

    assert reason_of(replace(UNSEEN, order=only)) is Reason.NOT_CACHED


@pytest.mark.parametrize(
    ("policy", "choice", "reason"),
    [
        (Policy(deny=("registry.example.com/*",)), None, Reason.DENIED),
        (Policy(allow=("docker.io/*",)), None, Reason.NOT_ALLOWED),
        (Policy(CacheMode.OPT_OUT), OwnerChoice.OPT_OUT, Reason.OPTED_OUT),
        (Policy(CacheMode.OPT_IN), None, Reason.NOT_OPTED_IN),
        (Policy(CacheMode.OPT_IN), OwnerChoice.OPT_OUT, Reason.OPTED_OUT),
    ],
)
def test_the_policy_holds_for_droplets_as_for_lrps(
    policy: Policy, choice: OwnerChoice | None, reason: Reason
) -> None:
    rules = replace(RULES, policy=policy)

    action = decide_droplet(replace(STAGED_NOW, owner_choice=choice), rules)

    assert isinstance(action, Leave)
    assert action.reason is reason
    assert decide_droplet(PATCHED, rules) == Leave(Reason.DROPLET_PATCHED)


def test_an_owner_who_may_refuse_is_waited_for() -> None:
    rules = replace(RULES, policy=Policy(CacheMode.OPT_OUT))
    assert isinstance(decide_droplet(STAGED_NOW, rules), PatchDroplet)

    waiting = decide_droplet(UNSEEN, rules)
    assert isinstance(waiting, Leave)
    assert waiting.reason is Reason.WAITING_FOR_STAGING
    asked = decide_droplet(replace(UNSEEN, owner_choice=OwnerChoice.NONE), rules)
    assert isinstance(asked, RequestCopy)


def test_an_owner_who_asked_for_it_in_the_staging_gets_it() -> None:
    rules = replace(RULES, policy=Policy(CacheMode.OPT_IN))

    asked = replace(STAGED_NOW, binding=replace(BINDING, opted_in=True))
    assert isinstance(decide_droplet(asked, rules), PatchDroplet)


def test_a_droplet_of_no_app_is_left() -> None:
    assert (
        reason_of(replace(STAGED_NOW, droplet=replace(droplet(), app_guid=type(APP)(""))))
        is Reason.NO_APP_GUID
    )


def test_nothing_is_begun_during_a_pause_but_what_an_order_asks_for() -> None:
    for observed in (STAGED_NOW, replace(PATCHED, is_pinned=True), UNSEEN):
        assert reason_of(replace(observed, is_paused=True)) is Reason.PAUSED
    assert isinstance(
        decide_droplet(replace(STAGED_NOW, is_paused=True, order=TO_CACHE), RULES), PatchDroplet
    )
    ordered = replace(PATCHED, is_paused=True, order=TO_SOURCE)
    assert isinstance(decide_droplet(ordered, RULES), RestoreDroplet)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (replace(PATCHED, is_pinned=True), Reason.PINNED_TO_SOURCE),
        (replace(PATCHED, is_restoring=True), Reason.FELL_BACK_TO_SOURCE),
        (replace(PATCHED, order=TO_SOURCE), Reason.RESTORE_REQUESTED),
        (
            replace(PATCHED, current_copy=replace(IMAGE, missing_since=NOW - 5, lost_since=NOW - 1)),
            Reason.COPY_LOST,
        ),
    ],
)
def test_a_droplet_goes_back_to_its_very_text(observed: ObservedDroplet, reason: Reason) -> None:
    spelled = replace(record(), original="REGISTRY.Example.com/team/app:1")
    action = decide_droplet(replace(observed, record=spelled), RULES)

    assert isinstance(action, RestoreDroplet)
    assert action.text == "REGISTRY.Example.com/team/app:1"
    assert action.reason is reason
    assert action.record.phase is DropletPhase.RESTORING
    assert action.record.target == TARGET


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (replace(STAGED_NOW, is_pinned=True), Reason.PINNED_TO_SOURCE),
        (replace(STAGED_NOW, is_restoring=True), Reason.FELL_BACK_TO_SOURCE),
        (replace(STAGED_NOW, order=TO_SOURCE), Reason.RESTORED),
        (replace(STAGED_NOW, record=record(DropletPhase.RESTORED), order=TO_SOURCE), Reason.RESTORED),
        (replace(STAGED_NOW, record=record(DropletPhase.RESTORED), is_pinned=True), Reason.PINNED_TO_SOURCE),
    ],
)
def test_a_droplet_that_is_to_have_its_text_and_has_it_is_left(
    observed: ObservedDroplet, reason: Reason
) -> None:
    assert reason_of(observed) is reason


def test_an_order_for_the_copy_goes_before_a_pin() -> None:
    assert isinstance(
        decide_droplet(replace(STAGED_NOW, is_pinned=True, order=TO_CACHE), RULES), PatchDroplet
    )


def test_a_plan_that_is_stale_is_not_carried_out() -> None:
    for order in (replace(TO_CACHE, image=OTHER), replace(TO_CACHE, target=FORMER_TARGET)):
        assert reason_of(replace(STAGED_NOW, order=order)) is Reason.PLAN_IS_STALE
    assert reason_of(replace(PATCHED, order=replace(TO_SOURCE, image=OTHER))) is Reason.PLAN_IS_STALE
    planned = replace(TO_CACHE, image=ORIGINAL, target=TARGET)
    assert isinstance(decide_droplet(replace(STAGED_NOW, order=planned), RULES), PatchDroplet)


def test_a_patch_whose_answer_was_lost_is_read_back() -> None:
    observed = replace(
        PATCHED, record=replace(record(DropletPhase.PATCHING), attempts=2, not_before=NOW + 60)
    )

    action = decide_droplet(observed, RULES)

    assert isinstance(action, SaveDropletRecord)
    assert action.record.phase is DropletPhase.PATCHED
    assert (action.record.attempts, action.record.not_before) == (0, 0.0)


def test_a_patch_that_had_no_effect_is_sent_again_and_is_the_same_round() -> None:
    """As after the death of the process between the record and the request."""
    begun = replace(record(DropletPhase.PATCHING, rounds=2), attempts=1)
    action = decide_droplet(replace(STAGED_NOW, record=begun), RULES)

    assert isinstance(action, PatchDroplet)
    assert (action.record.attempts, action.record.rounds) == (2, 2)
    assert action.record.original == ORIGINAL


def test_what_failed_is_not_sent_again_before_its_time() -> None:
    failed = replace(
        record(DropletPhase.PATCHING, reason=Reason.CLOUD_CONTROLLER_UNAVAILABLE), not_before=NOW + 30
    )
    action = decide_droplet(replace(STAGED_NOW, record=failed), RULES)

    assert action == Leave(Reason.CLOUD_CONTROLLER_UNAVAILABLE, "", 30.0)
    later = replace(STAGED_NOW, record=failed, now=NOW + 30)
    assert isinstance(decide_droplet(later, RULES), PatchDroplet)
    assert isinstance(decide_droplet(replace(STAGED_NOW, record=failed, order=TO_CACHE), RULES), PatchDroplet)


def test_a_restore_whose_answer_was_lost_is_read_back() -> None:
    begun = record(DropletPhase.RESTORING)
    for observed in (STAGED_NOW, replace(STAGED_NOW, is_pinned=True)):
        assert saved(decide_droplet(replace(observed, record=begun), RULES)) is DropletPhase.RESTORED
    waiting = replace(PATCHED, record=replace(begun, not_before=NOW + 5), is_pinned=True)
    assert reason_of(waiting) is Reason.DROPLET_PATCHED  # the reason of the record
    again = decide_droplet(replace(PATCHED, record=replace(begun, attempts=1), is_pinned=True), RULES)
    assert isinstance(again, RestoreDroplet)
    assert again.record.attempts == 2


def test_a_restore_that_is_called_off_leaves_the_copy() -> None:
    assert saved(decide_droplet(replace(PATCHED, record=record(DropletPhase.RESTORING)), RULES)) is (
        DropletPhase.PATCHED
    )


def test_a_droplet_counts_as_restored_only_once_no_patch_can_take_effect_any_more() -> None:
    begun = replace(record(DropletPhase.PATCHING), updated_at=NOW - 10)
    pinned = replace(STAGED_NOW, record=begun, is_pinned=True)

    assert decide_droplet(pinned, RULES) == Leave(
        Reason.PATCH_UNCONFIRMED, "a request to patch it may still take effect", LATE_EFFECT - 10
    )
    later = replace(pinned, now=NOW + LATE_EFFECT)
    assert saved(decide_droplet(later, RULES)) is DropletPhase.RESTORED


def test_a_droplet_that_somebody_reverts_is_patched_three_times_and_then_left_for_an_hour() -> None:
    for rounds in range(1, MAX_ROUNDS):
        action = decide_droplet(replace(STAGED_NOW, record=record(rounds=rounds)), RULES)
        assert isinstance(action, PatchDroplet)
        assert action.record.rounds == rounds

    reverted = replace(STAGED_NOW, record=record(rounds=MAX_ROUNDS))
    assert reason_of(reverted) is Reason.REVERTED_EXTERNALLY
    assert isinstance(decide_droplet(replace(reverted, order=TO_CACHE), RULES), PatchDroplet)
    later = replace(reverted, now=NOW + ROUNDS_FORGOTTEN_AFTER)
    action = decide_droplet(later, RULES)
    assert isinstance(action, PatchDroplet)
    assert action.record.rounds == 0


def test_a_patch_that_is_read_back_counts_once() -> None:
    for phase, rounds in (
        (DropletPhase.PATCHING, 2),
        (DropletPhase.RESTORING, 1),
        (DropletPhase.RESTORED, 1),
    ):
        action = decide_droplet(replace(PATCHED, record=record(phase)), RULES)
        assert isinstance(action, SaveDropletRecord)
        assert action.record.rounds == rounds


def test_another_spelling_of_the_original_image_is_no_other_image() -> None:
    observed = replace(STAGED_NOW, droplet=droplet("registry.example.com:443/team/app:1"), record=record())

    action = decide_droplet(observed, RULES)

    assert isinstance(action, PatchDroplet)
    assert action.record.original == ORIGINAL


def test_a_droplet_that_was_never_written_into_is_known_by_what_it_holds_now() -> None:
    left = replace(
        record(DropletPhase.LEFT), original=OTHER, target="", cache_guid=None, registry="", rounds=0
    )
    action = decide_droplet(replace(STAGED_NOW, record=left), RULES)

    assert isinstance(action, PatchDroplet)
    assert action.record.original == ORIGINAL


def test_a_droplet_that_names_another_copy_of_the_present_registry_keeps_it() -> None:
    named = f"{ADDRESS}/{OTHER_GUID}:latest"
    observed = replace(PATCHED, droplet=droplet(named), current_copy=replace(IMAGE, cache_guid=OTHER_GUID))
    action = decide_droplet(observed, RULES)

    assert isinstance(action, SaveDropletRecord)
    assert (action.record.cache_guid, action.record.target) == (OTHER_GUID, named)
    assert action.record.original == ORIGINAL


def test_a_copy_that_no_record_knows_is_left_unless_the_droplet_was_restored_before() -> None:
    """After the loss of a database `rebuild` brings the records of copies back."""
    assert reason_of(replace(PATCHED, current_copy=None)) is Reason.COPY_UNKNOWN
    late = replace(PATCHED, record=record(DropletPhase.RESTORED), current_copy=None)
    action = decide_droplet(late, RULES)
    assert isinstance(action, RestoreDroplet)
    assert action.reason is Reason.COPY_RECORD_MISSING


def test_an_incomplete_copy_is_waited_for() -> None:
    observed = replace(PATCHED, current_copy=replace(IMAGE, missing_since=NOW - 5, missing="a blob"))

    assert decide_droplet(observed, RULES) == Leave(Reason.COPY_INCOMPLETE, "a blob")


WITHOUT_RECORD = replace(PATCHED, record=None, binding=None, job=None, image=None)


def test_a_droplet_without_a_record_gets_one_from_its_package() -> None:
    action = decide_droplet(replace(WITHOUT_RECORD, package=PUSHED), RULES)

    assert isinstance(action, SaveDropletRecord)
    found = action.record
    assert (found.phase, found.original, found.username) == (DropletPhase.PATCHED, PUSHED.image, "robot")
    assert (found.cache_guid, found.registry, found.target) == (GUID, ADDRESS, TARGET)
    restoring = replace(WITHOUT_RECORD, package=PUSHED, record=found, is_pinned=True)
    assert isinstance(decide_droplet(restoring, RULES), RestoreDroplet)


@pytest.mark.parametrize("package", [None, PUSHED])
def test_a_record_of_before_the_first_change_knows_the_original_best(package: Package | None) -> None:
    """A backup of the database may be older than the change, and packages are deleted."""
    left = replace(
        record(DropletPhase.LEFT, reason=Reason.WAITING_FOR_COPY, rounds=0),
        original="registry.example.com:443/team/app:1",
        target="",
        registry="",
        cache_guid=None,
    )
    action = decide_droplet(replace(WITHOUT_RECORD, record=left, package=package), RULES)

    assert isinstance(action, SaveDropletRecord)
    found = action.record
    assert (found.original, found.username) == (left.original, "robot")
    assert (found.phase, found.cache_guid, found.target) == (DropletPhase.PATCHED, GUID, TARGET)


def test_a_plan_foresees_what_comes_after_the_record_was_found_again() -> None:
    observed, action = predict_droplet_action(replace(WITHOUT_RECORD, package=PUSHED, order=TO_SOURCE), RULES)

    assert isinstance(action, RestoreDroplet)
    assert action.text == PUSHED.image
    assert observed.record is not None
    assert observed.record.phase is DropletPhase.PATCHED
    begun = replace(STAGED_NOW, record=record(DropletPhase.RESTORING), order=TO_CACHE)
    assert isinstance(predict_droplet_action(begun, RULES)[1], PatchDroplet)


@pytest.mark.parametrize("image", [None, "Team/App", "docker://busybox", "x" * 300])
def test_a_package_without_an_image_gives_no_record(image: str | None) -> None:
    observed = replace(WITHOUT_RECORD, package=replace(PUSHED, image=image))

    assert reason_of(observed) is Reason.SOURCE_UNKNOWN


@pytest.mark.parametrize("image", [TARGET, FORMER_TARGET, f"{ADDRESS}/other:1"])
def test_who_pushes_the_name_of_a_copy_has_no_other_source(image: str) -> None:
    """And is not taken for an app of which this program wrote the droplet, which gets the cells' login."""
    observed = replace(WITHOUT_RECORD, package=replace(PUSHED, image=image))

    assert reason_of(observed) is Reason.ALREADY_CACHED
    assert reason_of(replace(observed, siblings=(record(),))) is Reason.ALREADY_CACHED


def test_a_droplet_that_was_copied_from_another_one_gets_what_that_one_named() -> None:
    copied = replace(WITHOUT_RECORD, droplet=replace(droplet(TARGET), package_guid=None))
    sibling = replace(record(), droplet_guid=DropletGuid("droplet-2"))

    assert reason_of(copied) is Reason.SOURCE_UNKNOWN
    action = decide_droplet(replace(copied, siblings=(sibling,)), RULES)
    assert isinstance(action, SaveDropletRecord)
    assert action.record.original == ORIGINAL
    differ = (sibling, replace(sibling, original=OTHER))
    assert reason_of(replace(copied, siblings=differ)) is Reason.SOURCE_UNKNOWN
    deleted = replace(WITHOUT_RECORD, droplet=droplet(TARGET), siblings=(sibling,))
    assert deleted.droplet is not None
    assert deleted.droplet.package_guid == PackageGuid("package-1")
    assert reason_of(deleted) is Reason.SOURCE_UNKNOWN


def test_what_is_no_copy_in_the_private_registry_is_left() -> None:
    observed = replace(WITHOUT_RECORD, droplet=droplet(f"{ADDRESS}/team/app:1"), package=PUSHED)

    assert reason_of(observed) is Reason.ALREADY_CACHED


ON_FORMER = replace(
    PATCHED,
    droplet=droplet(FORMER_TARGET),
    record=replace(record(), registry=FORMER, target=FORMER_TARGET),
    current_copy=replace(IMAGE, registry=FORMER),
)


def test_a_droplet_that_names_a_former_registry_waits_for_its_copy_in_the_present_one() -> None:
    action = decide_droplet(ON_FORMER, RULES)
    assert isinstance(action, RequestCopy)
    assert action.reason is Reason.COPY_IN_FORMER_REGISTRY
    assert (action.request.source, action.request.content) == (SOURCE, DIGEST)

    moving = replace(
        JOB, state=JobState.COPYING, reason=Reason.COPY_IN_FORMER_REGISTRY, source=SOURCE.at(DIGEST)
    )
    assert reason_of(replace(ON_FORMER, job=moving)) is Reason.WAITING_FOR_COPY


def test_a_droplet_that_names_a_former_registry_is_patched_anew() -> None:
    moved = replace(ON_FORMER, current_copy=replace(IMAGE, registry=ADDRESS))
    action = decide_droplet(moved, RULES)

    assert isinstance(action, PatchDroplet)
    assert (action.text, action.record.original) == (TARGET, ORIGINAL)
    often = replace(moved, record=replace(record(rounds=MAX_ROUNDS), registry=FORMER, target=FORMER_TARGET))
    assert isinstance(decide_droplet(often, RULES), PatchDroplet), "nobody has reverted anything"
    assert reason_of(replace(often, record=record(rounds=MAX_ROUNDS))) is Reason.REVERTED_EXTERNALLY
    assert isinstance(decide_droplet(replace(moved, is_pinned=True), RULES), RestoreDroplet)
    assert reason_of(replace(moved, is_paused=True)) is Reason.PAUSED


def test_a_droplet_that_names_a_former_copy_that_cells_cannot_pull_gets_its_original_text_first() -> None:
    """Or what Cloud Controller desires next is down as well, until the new copy may be used."""
    failure = Leave(Reason.COPY_NOT_PULLED, "manifest unknown")
    failing = replace(ON_FORMER, failure=failure)
    moved = replace(failing, current_copy=replace(IMAGE, registry=ADDRESS))

    for observed in (failing, replace(moved, obstacle=Leave(Reason.DROPLET_PULLS_NOT_PROVEN))):
        action = decide_droplet(observed, RULES)
        assert isinstance(action, RestoreDroplet)
        assert (action.text, action.reason) == (ORIGINAL, Reason.COPY_NOT_PULLED)
    assert isinstance(decide_droplet(moved, RULES), PatchDroplet)
    assert reason_of(replace(failing, is_paused=True)) is Reason.PAUSED
    assert reason_of(
        replace(failing, record=replace(failing.record or record(), not_before=NOW + 5))
    ) is not (Reason.RESTORING_DROPLET)


def test_a_droplet_that_names_a_former_registry_gets_a_record_from_its_package() -> None:
    action = decide_droplet(replace(ON_FORMER, record=None, package=PUSHED), RULES)

    assert isinstance(action, SaveDropletRecord)
    assert (action.record.registry, action.record.cache_guid) == (FORMER, GUID)
    named = droplet(f"{FORMER}/team/app:1")
    other = replace(ON_FORMER, droplet=named, record=None, package=PUSHED)
    assert reason_of(other) is Reason.SOURCE_UNKNOWN


def test_a_registry_that_the_config_does_not_name_is_left_but_for_its_restore() -> None:
    cache = CacheRepositories(ADDRESS)
    rules = replace(RULES, cache=cache)
    action = decide_droplet(ON_FORMER, rules)
    assert isinstance(action, Leave)
    assert action.reason is Reason.REGISTRY_NOT_CONFIGURED
    assert FORMER in action.detail

    assert isinstance(decide_droplet(replace(ON_FORMER, order=TO_SOURCE), rules), RestoreDroplet)
    unknown = decide_droplet(replace(ON_FORMER, record=None, package=PUSHED), rules)
    assert not isinstance(unknown, PatchDroplet | RestoreDroplet | SaveDropletRecord)


def test_a_copy_that_is_lost_in_a_former_registry_is_not_named_any_more() -> None:
    lost = replace(IMAGE, registry=FORMER, missing_since=NOW - 5, lost_since=NOW - 1)

    assert isinstance(decide_droplet(replace(ON_FORMER, current_copy=lost), RULES), RestoreDroplet)


def test_a_template_that_changed_leaves_what_was_written_before() -> None:
    rules = replace(RULES, cache=CacheRepositories(ADDRESS, "docker-cache:{guid}"))

    assert decide_droplet(PATCHED, rules) == Leave(Reason.DROPLET_PATCHED)


def test_a_droplet_that_is_gone_is_forgotten_after_a_week() -> None:
    """Cloud Controller answers 404 as well while the client may not read it."""
    gone = replace(PATCHED, droplet=None)
    assert reason_of(gone) is Reason.DROPLET_GONE

    noted = replace(record(reason=Reason.DROPLET_GONE), updated_at=NOW)
    assert reason_of(replace(gone, record=noted, now=NOW + GONE_FOR - 1)) is Reason.DROPLET_GONE
    assert decide_droplet(replace(gone, record=noted, now=NOW + GONE_FOR), RULES) == ForgetDroplet()
    set_back = decide_droplet(replace(gone, record=replace(noted, updated_at=NOW + 1e9)), RULES)
    assert isinstance(set_back, SaveDropletRecord)
    assert set_back.record.updated_at == NOW


@pytest.mark.parametrize("known", [None, replace(record(DropletPhase.LEFT), target="", cache_guid=None)])
def test_a_droplet_that_is_gone_and_was_never_written_into_is_forgotten_at_once(
    known: DropletRecord | None,
) -> None:
    gone = replace(STAGED_NOW, droplet=None, record=known)

    assert decide_droplet(gone, RULES) == ForgetDroplet()


def build(state: BuildState, guid: str | None) -> Build:
    return Build(BUILD, state, None if guid is None else DropletGuid(guid), APP, None, NOW)


@pytest.mark.parametrize(
    ("found", "reason", "retry"),
    [
        (build(BuildState.STAGED, None), Reason.WAITING_FOR_STAGING, True),
        (build(BuildState.STAGING, None), Reason.WAITING_FOR_STAGING, True),
        (build(BuildState.FAILED, None), Reason.BUILD_FAILED, False),
        (build(BuildState.FAILED, "droplet-1"), Reason.BUILD_FAILED, False),
        (None, Reason.BUILD_GONE, False),
    ],
)
def test_a_build_without_a_droplet_is_read_again_only_while_it_may_get_one(
    found: Build | None, reason: Reason, *, retry: bool
) -> None:
    """Trap 9: it is staged a moment before its droplet is shown; it may have failed, or have been pruned."""
    left = droplet_of_build(found)

    assert isinstance(left, Leave)
    assert left.reason is reason
    assert (left.retry_after is not None) is retry


def test_a_build_leads_to_its_droplet() -> None:
    """Trap 9."""
    assert droplet_of_build(build(BuildState.STAGED, "droplet-1")) == "droplet-1"


@pytest.mark.parametrize("guid", [GUID, CacheGuid("ffffffff-ffff-4fff-bfff-ffffffffffff")])
def test_the_text_that_is_written_names_the_copy_and_nothing_else(guid: CacheGuid) -> None:
    """Trap 7."""
    image = replace(IMAGE, cache_guid=guid)
    action = decide_droplet(replace(STAGED_NOW, image=image), RULES)

    assert isinstance(action, PatchDroplet)
    named = parse_image_reference(action.text)
    assert RULES.cache.guid_of(named) == guid
    assert len(action.text) <= 255
