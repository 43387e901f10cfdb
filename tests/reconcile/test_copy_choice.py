"""Which copy an LRP gets: that of its own staging, one that its app had, or one from a former registry."""

from dataclasses import replace

import pytest

from reconcile.actions import BeginMigration, CacheImage, Continue, Skip, VerifyImage
from reconcile.bindings import binding_to_keep, is_source_silent
from reconcile.copy_choice import gets_unseen_content
from reconcile.decide import decide
from reconcile.known_records import StagedCopy
from reconcile.lrps import ActualLrp, Credentials, Secret
from reconcile.migration_choice import RETRY_FAILED_AFTER, RETRY_RESTORE_AFTER
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import FormerCopy, Observed, Rules
from reconcile.orders import Order
from reconcile.plan import PlannedMigration, plan_lrp, planned_action
from reconcile.policy import MigrateRunning, RunningPolicy, UnseenStagings
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import JobId, JobState, requester_of_lrp
from reconcile.references import CacheRepositories, Digest, Rootfs
from tests.reconcile.protocol_samples import _IMAGE, crashed
from tests.reconcile.test_decide import (
    BRIDGING,
    DIGEST,
    GUID,
    IMAGE,
    JOB,
    LRP,
    NOW,
    PROCESS,
    READY,
    RECORD,
    RULES,
    RUNNING,
    SOURCE,
)

assert READY.binding is not None
TASK = READY.binding
OWN = replace(TASK, requester=requester_of_lrp(PROCESS))
WAIT = replace(BRIDGING, unseen_stagings=UnseenStagings.WAIT)
SILENT = replace(
    JOB,
    job_id=JobId("job-2"),
    state=JobState.QUEUED,
    cache_guid=None,
    attempts=1,
    not_before=NOW + 2,
    failure="source-unreachable: timeout: registry.example.com",
)
NEWEST = StagedCopy(TASK, IMAGE)
UNANSWERED = replace(READY, binding=OWN, job=SILENT, image=None, newest=NEWEST)


def started(at: float) -> ActualLrp:
    return replace(RUNNING, since=at)


class TestOwnBinding:
    """The binding that an LRP had once stands as long as its process GUID exists."""

    def test_its_copy_is_used_without_asking_the_source_whatever_may_have_been_missed(self) -> None:
        observed = replace(READY, binding=OWN, binding_is_current=False, instances=(started(NOW),))

        action = decide(observed, BRIDGING)

        assert action == BeginMigration(LRP, IMAGE, rounds=1, strategy=Strategy.BRIDGE)

    def test_the_current_one_of_its_app_becomes_its_own(self) -> None:
        assert binding_to_keep(READY) == OWN
        assert binding_to_keep(replace(READY, binding=OWN)) is None

    @pytest.mark.parametrize(
        "observed",
        [
            replace(READY, binding_is_current=False),
            replace(READY, binding=None, job=None, image=None),
            replace(READY, job=replace(JOB, state=JobState.FAILED, cache_guid=None)),
            replace(READY, instances=(started(JOB.created_at - 1),)),
            replace(READY, lrp=None),
            replace(READY, current_copy=IMAGE),
        ],
        ids=["not current", "none", "failed", "staged after it was started", "gone", "runs from its copy"],
    )
    def test_no_other_one_does(self, observed: Observed) -> None:
        assert binding_to_keep(observed) is None


class TestPinnedSource:
    PINNED = replace(LRP, rootfs=Rootfs(f"docker:///team/app@sha256#{DIGEST.hex}"))

    def test_its_copy_is_used_although_a_staging_may_have_been_missed(self) -> None:
        observed = replace(READY, lrp=self.PINNED, binding_is_current=False)

        assert decide(observed, RULES) == BeginMigration(self.PINNED, IMAGE, rounds=1)

    @pytest.mark.parametrize("state", [JobState.QUEUED, JobState.FAILED])
    def test_a_copy_that_its_app_had_is_used_whatever_its_newest_job_came_to(self, state: JobState) -> None:
        observed = replace(UNANSWERED, lrp=self.PINNED, job=replace(SILENT, state=state))

        assert decide(observed, RULES) == BeginMigration(self.PINNED, IMAGE, rounds=1)

    def test_a_copy_of_another_digest_is_not(self) -> None:
        other = replace(
            IMAGE, root_digest=Digest("sha256", "b" * 64), platform_digest=Digest("sha256", "c" * 64)
        )
        observed = replace(READY, lrp=self.PINNED, image=other, binding_is_current=False)

        assert isinstance(decide(observed, RULES), CacheImage)


class TestSilentSource:
    """The source of a tag does not answer."""

    def test_the_newest_copy_that_the_app_had_is_used_when_nothing_runs(self) -> None:
        action = decide(UNANSWERED, RULES)

        assert isinstance(action, BeginMigration)
        assert (action.image, action.reason) == (IMAGE, Reason.SOURCE_UNREACHABLE_KNOWN_COPY_USED)
        assert action.detail == (
            "source-unreachable-known-copy-used: source-unreachable: timeout: registry.example.com"
        )

    def test_also_after_the_source_was_given_up(self) -> None:
        failure = "gave-up: after 12 attempts, last source-unreachable: timeout: x"
        given_up = replace(SILENT, state=JobState.FAILED, failure=failure, updated_at=NOW)

        assert isinstance(decide(replace(UNANSWERED, job=given_up), RULES), BeginMigration)

    def test_not_while_an_instance_runs(self) -> None:
        action = decide(replace(UNANSWERED, instances=(RUNNING,)), BRIDGING)

        assert action == Skip(Reason.WAITING_FOR_COPY, SILENT.failure)

    def test_not_when_a_later_staging_is_known(self) -> None:
        """Its content may be another, and nobody knows it yet."""
        later = replace(UNANSWERED, binding=replace(OWN, staged_at=TASK.staged_at + 1))

        assert isinstance(decide(later, RULES), Skip)

    def test_not_when_the_app_has_no_copy(self) -> None:
        assert isinstance(decide(replace(UNANSWERED, newest=None), RULES), Skip)

    @pytest.mark.parametrize(
        "job",
        [
            replace(SILENT, not_before=None),
            replace(SILENT, state=JobState.COPYING, not_before=None, failure=""),
            replace(SILENT, failure="timeout: the private registry does not answer"),
            replace(SILENT, state=JobState.FAILED, not_before=None, failure="MANIFEST_UNKNOWN: x"),
            JOB,
        ],
        ids=["not asked yet", "asked now", "the private registry", "it has answered", "cached"],
    )
    def test_only_a_source_that_was_asked_and_did_not_answer_is_silent(self, job: object) -> None:
        assert isinstance(job, type(SILENT))
        assert not is_source_silent(job)


class TestUnseenStaging:
    """An LRP runs from a tag, and nobody saw its staging."""

    UNSEEN = replace(READY, binding=None, job=None, image=None, instances=(RUNNING,))
    LATER = replace(READY, binding=OWN, instances=(started(JOB.created_at - 1),))

    @pytest.mark.parametrize(
        "observed", [UNSEEN, LATER, replace(READY, binding_is_current=False, instances=(RUNNING,))]
    )
    def test_it_waits_if_the_operator_wants_that(self, observed: Observed) -> None:
        assert gets_unseen_content(observed)
        action = decide(observed, WAIT)
        assert isinstance(action, Skip)
        assert action.reason is Reason.WAITING_FOR_STAGING
        assert not isinstance(decide(observed, BRIDGING), Skip)

    @pytest.mark.parametrize("observed", [UNSEEN, LATER])
    def test_it_does_not_wait_once_nothing_runs(self, observed: Observed) -> None:
        assert not isinstance(decide(replace(observed, instances=()), WAIT), Skip)

    @pytest.mark.parametrize(
        "observed",
        [
            replace(READY, instances=(started(JOB.created_at + 1),)),
            replace(READY, binding=OWN, binding_is_current=False, instances=(started(JOB.created_at + 1),)),
            replace(READY, binding_is_current=False, record=RECORD, instances=(RUNNING,)),
        ],
        ids=["seen", "its own", "it ran from the copy before"],
    )
    def test_one_that_is_known_does_not_wait(self, observed: Observed) -> None:
        assert not gets_unseen_content(observed)
        assert isinstance(decide(observed, WAIT), BeginMigration)


OLD = CacheRepositories("old.example:5000")
PULL = Credentials("cells", Secret("pull"))
MOVING = replace(BRIDGING, cache=replace(RULES.cache, former=(OLD,)), pull_credentials=PULL)
ON_OLD = replace(LRP, rootfs=OLD.rootfs(GUID), credentials=PULL)
ORIGINAL = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)
FORMER = FormerCopy(
    OLD.address,
    is_configured=True,
    source=SOURCE,
    credentials=LRP.credentials,
    image=replace(IMAGE, registry=OLD.address),
    is_of_app=True,
)
FROM_OLD = replace(
    READY,
    lrp=ON_OLD,
    binding=OWN,
    image=FORMER.image,
    former_copy=FORMER,
    original_source=ORIGINAL,
    instances=(RUNNING,),
)


REFUSED = crashed(f"{_IMAGE}pinging container registry {OLD.address}: connection refused")
IN_PART = replace(RUNNING, index=1)
"""What runs of an LRP whose other instance failed."""
UNKNOWN = crashed(f"{_IMAGE}reading manifest latest in {OLD.address}/{GUID}: manifest unknown")


class TestFormerRegistry:
    """An LRP runs from a copy in a former private registry."""

    def test_its_content_is_copied_from_its_true_source_with_the_login_of_that(self) -> None:
        action = decide(FROM_OLD, MOVING)

        assert isinstance(action, CacheImage)
        request = action.request
        assert (request.source, request.content) == (SOURCE, IMAGE.platform_digest)
        assert request.job_source == SOURCE.at(IMAGE.platform_digest)
        assert (request.credentials, request.reason) == (LRP.credentials, Reason.COPY_IN_FORMER_REGISTRY)

    def test_it_is_migrated_once_the_copy_is_in_the_present_registry(self) -> None:
        copied = replace(IMAGE, registry=RULES.cache.address)
        observed = replace(FROM_OLD, former_copy=replace(FORMER, image=copied))

        assert decide(observed, MOVING) == BeginMigration(
            ON_OLD, copied, 1, strategy=Strategy.BRIDGE, reason=Reason.RUNS_FROM_FORMER_REGISTRY
        )
        never = replace(MOVING, running=RunningPolicy(MigrateRunning.NEVER))
        assert isinstance(decide(observed, never), Skip)

    def test_it_waits_for_the_job_that_copies_it(self) -> None:
        job = replace(
            JOB,
            source=SOURCE.at(IMAGE.platform_digest),
            state=JobState.QUEUED,
            reason=Reason.COPY_IN_FORMER_REGISTRY,
            cache_guid=None,
        )
        failed = replace(job, state=JobState.FAILED, failure="MANIFEST_UNKNOWN: x", updated_at=NOW)

        assert decide(replace(FROM_OLD, job=job), MOVING) == Skip(Reason.WAITING_FOR_COPY)
        assert decide(replace(FROM_OLD, job=failed), MOVING) == Skip(Reason.COPY_FAILED, failed.failure)
        old = replace(failed, updated_at=NOW - RETRY_FAILED_AFTER - 1)
        again = decide(replace(FROM_OLD, job=old), MOVING)
        assert isinstance(again, CacheImage)
        assert again.request.content == IMAGE.platform_digest

    def test_it_is_restored_to_its_true_source(self) -> None:
        action = decide(replace(FROM_OLD, order=Order(Goal.SOURCE, since=NOW)), MOVING)

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE

    def test_one_that_can_start_from_nowhere_else_goes_back_to_its_source(self) -> None:
        job = replace(
            JOB,
            source=SOURCE.at(IMAGE.platform_digest),
            state=JobState.FAILED,
            reason=Reason.COPY_IN_FORMER_REGISTRY,
            failure="x: y",
            cache_guid=None,
            updated_at=NOW,
        )
        action = decide(replace(FROM_OLD, job=job, instances=(REFUSED,)), MOVING)

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE

    @pytest.mark.parametrize("failed", [REFUSED, UNKNOWN])
    def test_one_that_cells_cannot_pull_goes_back_to_its_source_while_its_copy_is_awaited(
        self, failed: ActualLrp
    ) -> None:
        """Cloud Controller desires it from there as long as its droplet names the former copy."""
        copying = replace(
            JOB,
            source=SOURCE.at(IMAGE.platform_digest),
            state=JobState.COPYING,
            reason=Reason.COPY_IN_FORMER_REGISTRY,
            cache_guid=None,
        )
        action = decide(replace(FROM_OLD, job=copying, instances=(failed,)), MOVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.is_urgent, action.asks_source) == (Goal.SOURCE, True, True)
        assert (action.strategy, action.otherwise, action.ended) == (Strategy.RECREATE, None, None)

    def test_its_plan_names_the_source_that_it_goes_back_to(self) -> None:
        observed = replace(FROM_OLD, instances=(UNKNOWN,))

        planned = plan_lrp(observed, ON_OLD, planned_action(observed, MOVING), MOVING)

        assert isinstance(planned, PlannedMigration)
        assert (planned.to_rootfs, planned.copy) == (LRP.rootfs, None)
        assert planned.reason is Reason.RUNS_FROM_FORMER_REGISTRY

    def test_its_copy_is_requested_where_it_cannot_go_back(self) -> None:
        action = decide(replace(FROM_OLD, instances=(UNKNOWN,)), MOVING)

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE
        assert action.otherwise == decide(FROM_OLD, MOVING)
        without_source = replace(FROM_OLD, original_source=None, instances=(UNKNOWN,))
        assert isinstance(decide(without_source, MOVING), CacheImage)
        lost = replace(ORIGINAL, credentials=None)
        assert isinstance(decide(replace(without_source, original_source=lost), MOVING), CacheImage)

    def test_it_goes_on_to_its_copy_where_that_may_be_used_and_back_where_it_may_not(self) -> None:
        copied = replace(IMAGE, registry=RULES.cache.address)
        observed = replace(FROM_OLD, former_copy=replace(FORMER, image=copied), instances=(UNKNOWN,))

        action = decide(observed, MOVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.image, action.is_urgent) == (Goal.CACHE, copied, False)
        assert action.instead is not None
        assert (action.instead.goal, action.instead.is_urgent) == (Goal.SOURCE, True)
        suspect = replace(copied, needs_verification_since=NOW)
        unverified = decide(replace(observed, former_copy=replace(FORMER, image=suspect)), MOVING)
        assert isinstance(unverified, BeginMigration)
        assert isinstance(unverified.otherwise, VerifyImage)

    def test_it_goes_back_however_often_its_owner_desires_it_from_there_again(self) -> None:
        again = replace(
            RECORD, rootfs=str(ON_OLD.rootfs), rounds=MAX_ROUNDS, reason=Reason.CHANGED_BY_CLOUD_CONTROLLER
        )
        action = decide(replace(FROM_OLD, record=again, instances=(UNKNOWN,)), MOVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.rounds) == (Goal.SOURCE, MAX_ROUNDS)

    @pytest.mark.parametrize("failed", [REFUSED, UNKNOWN])
    def test_one_of_which_a_part_runs_goes_back_beside_a_bridge_and_waits_for_its_place(
        self, failed: ActualLrp
    ) -> None:
        action = decide(replace(FROM_OLD, instances=(failed, IN_PART)), MOVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy) == (Goal.SOURCE, Strategy.BRIDGE)
        assert (action.is_urgent, action.asks_source, action.leaves_failing_former) == (False, True, True)
        assert action.otherwise == decide(FROM_OLD, MOVING)

    def test_its_plan_names_the_bridge_and_the_source(self) -> None:
        observed = replace(FROM_OLD, instances=(UNKNOWN, IN_PART))

        planned = plan_lrp(observed, ON_OLD, planned_action(observed, MOVING), MOVING)

        assert isinstance(planned, PlannedMigration)
        assert (planned.to_rootfs, planned.strategy, planned.running) == (LRP.rootfs, Strategy.BRIDGE, 1)

    def test_one_of_which_a_part_runs_goes_on_to_its_copy_where_that_may_be_used(self) -> None:
        copied = replace(IMAGE, registry=RULES.cache.address)
        former = replace(FORMER, image=copied)

        action = decide(replace(FROM_OLD, former_copy=former, instances=(UNKNOWN, IN_PART)), MOVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy) == (Goal.CACHE, Strategy.BRIDGE)
        assert action.instead is not None
        assert (action.instead.goal, action.instead.strategy) == (Goal.SOURCE, Strategy.BRIDGE)

    @pytest.mark.parametrize(
        "rules",
        [
            replace(MOVING, may_bridge=False),
            replace(MOVING, running=RunningPolicy(MigrateRunning.NEVER)),
        ],
        ids=["no bridge", "never"],
    )
    def test_what_runs_of_it_is_left_running_where_it_may_have_no_bridge(self, rules: Rules) -> None:
        assert isinstance(decide(replace(FROM_OLD, instances=(UNKNOWN, IN_PART)), rules), CacheImage)

    @pytest.mark.parametrize("instances", [(UNKNOWN,), (UNKNOWN, IN_PART)], ids=["down", "in part"])
    def test_a_way_back_that_has_failed_does_not_keep_it_from_its_copy_for_longer_than_from_its_source(
        self, instances: tuple[ActualLrp, ...]
    ) -> None:
        copied = replace(IMAGE, registry=RULES.cache.address)
        failed = replace(RECORD, rootfs=str(ON_OLD.rootfs), rounds=1, reason=Reason.BRIDGE_CRASHED)
        observed = replace(
            FROM_OLD, former_copy=replace(FORMER, image=copied), record=failed, instances=instances
        )

        assert decide(observed, MOVING) == Skip(Reason.BRIDGE_CRASHED)
        later = decide(replace(observed, now=NOW + RETRY_RESTORE_AFTER + 1), MOVING)
        assert isinstance(later, BeginMigration)
        assert later.goal is Goal.CACHE
        assert later.instead is not None

    def test_it_stays_while_no_instance_has_failed_to_be_pulled(self) -> None:
        exited = crashed("APP/PROC/WEB: Exited with status 1")
        assert isinstance(decide(replace(FROM_OLD, instances=(exited,)), MOVING), CacheImage)
        assert isinstance(decide(replace(FROM_OLD, instances=(exited, IN_PART)), MOVING), CacheImage)

    def test_neither_a_pin_nor_a_registry_that_does_not_answer_keeps_it_down(self) -> None:
        down = replace(FROM_OLD, instances=(UNKNOWN,))

        for observed in (replace(down, is_pinned=True), replace(down, is_restoring=True)):
            action = decide(observed, MOVING)
            assert isinstance(action, BeginMigration)
            assert action.goal is Goal.SOURCE
        assert decide(replace(down, is_paused=True), MOVING) == Skip(Reason.PAUSED)

    @pytest.mark.parametrize(
        ("former", "reason"),
        [
            (replace(FORMER, is_configured=False), Reason.REGISTRY_NOT_CONFIGURED),
            (replace(FORMER, source=None), Reason.SOURCE_UNKNOWN),
            (replace(FORMER, is_of_app=False), Reason.SOURCE_UNKNOWN),
            (replace(FORMER, image=None), Reason.COPY_RECORD_MISSING),
        ],
    )
    def test_it_stays_where_that_is_not_known_well_enough(self, former: FormerCopy, reason: Reason) -> None:
        action = decide(replace(FROM_OLD, former_copy=former), MOVING)

        assert isinstance(action, Skip)
        assert action.reason is reason

    def test_a_copy_that_anybody_may_pull_needs_no_proof(self) -> None:
        observed = replace(FROM_OLD, former_copy=replace(FORMER, is_of_app=False))

        assert isinstance(decide(observed, replace(MOVING, pull_credentials=None)), CacheImage)

    def test_a_pause_and_an_unreachable_registry_keep_it_where_it_is(self) -> None:
        assert decide(replace(FROM_OLD, is_paused=True), MOVING) == Skip(Reason.PAUSED)
        assert isinstance(decide(replace(FROM_OLD, is_restoring=True), MOVING), Skip)
        assert isinstance(decide(replace(FROM_OLD, is_pinned=True), MOVING), Skip)

    def test_an_lrp_on_its_source_gets_the_content_that_its_staging_had_there(self) -> None:
        """Its tag may have moved since the registry was replaced."""
        elsewhere = replace(IMAGE, registry=OLD.address)

        action = decide(replace(READY, image=elsewhere), MOVING)

        assert isinstance(action, CacheImage)
        assert (action.request.source, action.request.content) == (SOURCE, IMAGE.platform_digest)

    def test_a_migration_from_before_the_change_ends_on_the_copy_that_it_has_desired(self) -> None:
        row = Migration(PROCESS, GUID, Phase.STARTING, LRP, 1, "run-0", NOW - 1, entered_at=NOW - 1)
        begun = replace(READY, migration=row, lrp=ON_OLD, instances=(started(NOW),))
        moving = replace(begun, migration=replace(row, original=ON_OLD))

        as_begun, as_moving = decide(begun, MOVING), decide(moving, MOVING)

        assert isinstance(as_begun, Continue)
        assert isinstance(as_moving, Continue)
        assert as_begun.target.rootfs == ON_OLD.rootfs
        assert as_moving.target.rootfs == MOVING.cache.rootfs(GUID)
