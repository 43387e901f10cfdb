"""What is decided on which observation; that decisions are carried out is tested with `apply`."""

from dataclasses import replace

import pytest

from reconcile.actions import (
    BeginMigration,
    CacheImage,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.decide import decide, decide_orphaned_bridge
from reconcile.lrps import (
    ActualLrp,
    ActualLrpState,
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    Presence,
    ProcessGuid,
    RunAction,
    Secret,
)
from reconcile.migration_choice import RETRY_FAILED_AFTER, RETRY_RESTORE_AFTER, ROUNDS_FORGOTTEN_AFTER
from reconcile.migrations import Goal, OriginalSource, Strategy
from reconcile.observed import Observed, OrphanedBridge, Rules
from reconcile.orders import Order
from reconcile.policy import CacheMode, MigrateRunning, Policy, RunningPolicy, RunningRule
from reconcile.protocol import FAILURES, MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, LrpRecord
from reconcile.references import CacheGuid, CacheRepositories, Digest, Rootfs, parse_image_reference
from reconcile.steps import RetireInstances

NOW = 1_800_000_000.0
GUID = CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77")
PROCESS = ProcessGuid("p-1")
APP = AppGuid("app-1")
SOURCE = parse_image_reference("registry.example.com/team/app:1").canonical()
DIGEST = Digest("sha256", "a" * 64)
RULES = Rules(policy=Policy(), cache=CacheRepositories("cache.example:8080"), domains=frozenset({"cf-apps"}))
LRP = DesiredLrp(
    process_guid=PROCESS,
    domain="cf-apps",
    app_guid=APP,
    rootfs=Rootfs("docker://registry.example.com/team/app#1"),
    instances=2,
    tag=ModificationTag("epoch-1", 0),
    definition=b"",
    credentials=Credentials("robot", Secret("pw")),
)
JOB = CacheJob(
    JobId("job-1"),
    SOURCE,
    JobState.CACHED,
    reason=Reason.STAGING_TASK,
    created_at=NOW - 60,
    updated_at=NOW - 30,
    cache_guid=GUID,
)
IMAGE = CachedImage(GUID, SOURCE, DIGEST, DIGEST, DIGEST, size=1, created_at=NOW, verified_at=NOW)
READY = Observed(
    PROCESS,
    now=NOW,
    process_age=1000.0,
    run_id="run-1",
    lrp=LRP,
    binding=Binding(APP, SOURCE, "task:t", 1, JOB.job_id),
    job=JOB,
    image=IMAGE,
)
RECORD = LrpRecord(PROCESS, APP, str(LRP.rootfs), GUID, rounds=0, reason=Reason.MIGRATED, updated_at=NOW)


def row(
    state: ActualLrpState, presence: Presence = Presence.ORDINARY, *, index: int = 0, guid: str = "i"
) -> ActualLrp:
    return ActualLrp(PROCESS, index, "cf-apps", state, presence, guid, "cell", ModificationTag("e", 0))


RUNNING = row(ActualLrpState.RUNNING)
BRIDGING = replace(RULES, may_bridge=True)


def test_an_lrp_with_a_copy_and_nothing_running_is_migrated() -> None:
    assert decide(READY, RULES) == BeginMigration(LRP, IMAGE, rounds=1)


@pytest.mark.parametrize("state", [ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED, ActualLrpState.CRASHED])
def test_instances_that_do_not_run_do_not_stop_a_migration(state: ActualLrpState) -> None:
    assert isinstance(decide(replace(READY, instances=(row(state),)), RULES), BeginMigration)


@pytest.mark.parametrize("presence", list(Presence))
def test_an_lrp_with_a_running_instance_of_any_presence_gets_a_bridge(presence: Presence) -> None:
    """An instance of presence SUSPECT or EVACUATING may be the only one that serves."""
    instances = (row(ActualLrpState.UNCLAIMED), row(ActualLrpState.RUNNING, presence))

    action = decide(replace(READY, instances=instances), BRIDGING)

    assert action == BeginMigration(LRP, IMAGE, rounds=1, strategy=Strategy.BRIDGE)


def test_without_a_durable_journal_an_lrp_that_runs_is_skipped() -> None:
    action = decide(replace(READY, instances=(RUNNING,)), RULES)

    assert isinstance(action, Skip)
    assert action.reason == "waiting-until-stopped"
    assert "journal_key_file" in action.detail


def test_an_lrp_whose_name_leaves_no_room_for_a_bridge_is_skipped_while_it_runs() -> None:
    long = replace(LRP, process_guid=ProcessGuid("p" * 240))

    action = decide(replace(READY, lrp=long, instances=(RUNNING,)), BRIDGING)

    assert isinstance(action, Skip)
    assert action.reason == "waiting-until-stopped"


def test_an_lrp_that_is_being_scaled_to_nothing_is_not_bridged() -> None:
    observed = replace(READY, lrp=replace(LRP, instances=0), instances=(RUNNING,))

    assert isinstance(decide(observed, BRIDGING), Skip)


TAGGED = replace(
    LRP,
    metric_tags={
        "organization_name": "acme",
        "organization_id": "o-1",
        "space_name": "prod",
        "space_id": "s-1",
        "app_name": "web",
        "app_id": "app-1",
    },
)


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (RunningRule(MigrateRunning.NEVER), True),
        (RunningRule(MigrateRunning.NEVER, org="acme"), True),
        (RunningRule(MigrateRunning.NEVER, org="o-?"), True),
        (RunningRule(MigrateRunning.NEVER, org="Acme"), False),
        (RunningRule(MigrateRunning.NEVER, org="acme", space="dev"), False),
        (RunningRule(MigrateRunning.NEVER, space="prod", app="w*"), True),
        (RunningRule(MigrateRunning.NEVER, app="app-1"), True),
        (RunningRule(MigrateRunning.NEVER, image="registry.example.com/team/*"), True),
        (RunningRule(MigrateRunning.NEVER, image="docker.io/*"), False),
    ],
)
def test_the_operator_decides_by_org_space_app_and_image_whether_a_running_lrp_is_migrated(
    rule: RunningRule,
    matches: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    rules = replace(BRIDGING, running=RunningPolicy(rules=(rule,)))

    action = decide(replace(READY, lrp=TAGGED, instances=(RUNNING,)), rules)

    assert isinstance(action, Skip) == matches


def test_the_first_rule_that_matches_decides() -> None:
    rules = (RunningRule(MigrateRunning.BRIDGE, app="web"), RunningRule(MigrateRunning.NEVER, org="acme"))
    policy = RunningPolicy(MigrateRunning.NEVER, rules)

    assert policy.of(TAGGED, SOURCE) is MigrateRunning.BRIDGE
    assert policy.of(LRP, SOURCE) is MigrateRunning.NEVER


@pytest.mark.parametrize("reason", sorted(FAILURES - {Reason.NOT_PULLED} | {Reason.IMAGE_NOT_STARTED}))
def test_what_failed_is_not_tried_again_for_a_while(reason: Reason) -> None:
    failed = replace(RECORD, reason=reason, detail="why")

    assert decide(replace(READY, record=failed), BRIDGING) == Skip(reason, "why")
    old = replace(failed, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    assert isinstance(decide(replace(READY, record=old), BRIDGING), BeginMigration)


def test_what_cells_could_not_pull_waits_for_the_cells_and_not_for_an_hour() -> None:
    """A canary shows when they can."""
    failed = replace(RECORD, reason=Reason.NOT_PULLED, detail="why", rounds=1)

    assert decide(replace(READY, record=failed), BRIDGING) == BeginMigration(LRP, IMAGE, rounds=2)


def test_what_cells_could_not_pull_three_times_is_not_tried_again_for_a_while() -> None:
    """The registry serves canaries and not this copy; each attempt costs the app a start."""
    failed = replace(RECORD, reason=Reason.NOT_PULLED, detail="why", rounds=MAX_ROUNDS)

    assert decide(replace(READY, record=failed), BRIDGING) == Skip(Reason.NOT_PULLED, "why")
    old = replace(failed, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    assert decide(replace(READY, record=old), BRIDGING) == BeginMigration(LRP, IMAGE, rounds=1)


def test_a_copy_that_instances_crashed_from_is_verified_before_another_app_is_migrated_to_it() -> None:
    suspect = replace(IMAGE, needs_verification_since=NOW - 1)

    assert decide(replace(READY, image=suspect), RULES) == VerifyImage(LRP, suspect)


def test_an_instance_of_a_definition_that_was_removed_is_retired_wherever_the_lrp_runs_from() -> None:
    late = row(ActualLrpState.RUNNING, guid="old")
    moved = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
    observed = replace(READY, lrp=moved, instances=(late, RUNNING), stale=frozenset({"old"}))

    assert decide(observed, RULES) == RetireInstances((late,), Reason.RETIRED_STALE_INSTANCES)


class TestWayBack:
    """The private registry is gone for good: what runs from it goes back to where it came from."""

    MIGRATED = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
    ORIGINAL_SOURCE = OriginalSource(
        PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials
    )
    GONE = replace(READY, lrp=MIGRATED, original_source=ORIGINAL_SOURCE, is_restoring=True)

    def test_an_lrp_goes_back_to_its_source(self) -> None:
        action = decide(self.GONE, RULES)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy, action.image) == (Goal.SOURCE, Strategy.RECREATE, None)

    def test_one_that_runs_gets_a_bridge(self) -> None:
        action = decide(replace(self.GONE, instances=(RUNNING,)), BRIDGING)

        assert isinstance(action, BeginMigration)
        assert action.strategy is Strategy.BRIDGE

    def test_one_whose_origin_or_login_is_not_known_stays(self) -> None:
        assert isinstance(decide(replace(self.GONE, original_source=None), RULES), Skip)
        lost = replace(self.ORIGINAL_SOURCE, credentials=None)
        action = decide(replace(self.GONE, original_source=lost), RULES)
        assert isinstance(action, Skip)
        assert action.reason == "source-credentials-unknown"

    def test_nothing_is_migrated_to_the_registry_meanwhile(self) -> None:
        action = decide(replace(READY, is_restoring=True), RULES)

        assert isinstance(action, Skip)
        assert action.reason == "fell-back-to-source"


class TestLeftBridge:
    """A bridge without a journal row, be it that the journal was lost."""

    BRIDGE = replace(LRP, process_guid=ProcessGuid("docker-cache-bridge-p-1"))
    LEFT = OrphanedBridge(
        BRIDGE.process_guid, 1000.0, bridge=BRIDGE, bridge_instances=(RUNNING,), lrp=LRP, instances=(RUNNING,)
    )

    def test_it_is_removed_when_the_app_itself_serves(self) -> None:
        assert decide_orphaned_bridge(self.LEFT, cloud_controller_sync=180.0) == RemoveOrphanedBridge(
            self.BRIDGE.process_guid
        )

    def test_it_stays_while_it_serves_more(self) -> None:
        action = decide_orphaned_bridge(replace(self.LEFT, instances=()), cloud_controller_sync=180.0)

        assert isinstance(action, Skip)

    def test_it_stays_while_the_routes_of_the_app_were_taken_away(self) -> None:
        """The row that said so is lost: without the bridge nobody would serve requests."""
        routed = replace(self.BRIDGE, routes={"cf-router": b"[1]", "diego-ssh": b"{}"})
        drained = replace(self.LEFT, bridge=routed, lrp=replace(LRP, routes={"diego-ssh": b"{}"}))

        action = decide_orphaned_bridge(drained, cloud_controller_sync=180.0)

        assert action == GiveRoutesBack(PROCESS, routed.routes)
        both = replace(drained, lrp=replace(LRP, routes=routed.routes))
        assert isinstance(decide_orphaned_bridge(both, cloud_controller_sync=180.0), RemoveOrphanedBridge)

    def test_routes_that_the_owner_may_have_taken_away_are_not_given_back(self) -> None:
        routed = replace(self.BRIDGE, routes={"cf-router": b"[1]"}, annotation="1")
        drained = replace(self.LEFT, bridge=routed, lrp=replace(LRP, routes={}, annotation="2"))

        action = decide_orphaned_bridge(drained, cloud_controller_sync=180.0)

        assert isinstance(action, Skip)
        assert action.reason is Reason.BRIDGE_IN_USE

    def test_it_goes_with_an_app_that_its_owner_removed(self) -> None:
        gone = replace(self.LEFT, lrp=None, instances=())

        assert isinstance(decide_orphaned_bridge(gone, cloud_controller_sync=180.0), Skip)
        fresh = replace(gone, domains_are_fresh=True)
        assert isinstance(decide_orphaned_bridge(fresh, cloud_controller_sync=180.0), RemoveOrphanedBridge)
        young = replace(fresh, process_age=10.0)
        assert isinstance(decide_orphaned_bridge(young, cloud_controller_sync=180.0), Skip)

    def test_it_stays_while_a_daemon_with_another_store_may_use_it(self) -> None:
        action = decide_orphaned_bridge(
            replace(self.LEFT, may_be_of_other_store=True), cloud_controller_sync=180.0
        )

        assert action == Skip(Reason.BRIDGE_OF_OTHER_STORE)

    def test_one_that_a_migration_knows_of_is_left_to_it(self) -> None:
        assert (
            decide_orphaned_bridge(replace(self.LEFT, is_in_use=True), cloud_controller_sync=180.0)
            == Forget()
        )


SKIPPED = {
    "not a Docker LRP": (replace(LRP, rootfs=Rootfs("preloaded:cflinuxfs4")), "not-docker"),
    "a domain that is not ours to touch": (replace(LRP, domain="other"), "other-domain"),
    "an image that no registry knows": (
        replace(LRP, rootfs=Rootfs("docker:///library/-x#1")),
        "not-cacheable",
    ),
    "already from the cache": (
        replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID)),
        "already-cached",
    ),
    "already from the cache, host in capitals": (
        replace(LRP, rootfs=Rootfs("docker://CACHE.example:8080/x#latest")),
        "already-cached",
    ),
    "an owner who opted out": (
        replace(LRP, action=RunAction("/x", env={"DIEGO_DOCKER_CACHE": "false"})),
        "opted-out",
    ),
}


@pytest.mark.parametrize(("lrp", "reason"), SKIPPED.values(), ids=SKIPPED.keys())
def test_what_is_ineligible_is_skipped_with_a_reason(lrp: DesiredLrp, reason: str) -> None:
    rules = replace(RULES, policy=Policy(CacheMode.OPT_OUT))

    action = decide(replace(READY, lrp=lrp, current_copy=IMAGE), rules)

    assert isinstance(action, Skip)
    assert action.reason == reason


def test_an_lrp_whose_staging_opted_in_by_a_flag_is_migrated() -> None:
    """The flag stands in the staging task only; the LRP does not show it."""
    rules = replace(RULES, policy=Policy(CacheMode.OPT_IN))
    assert READY.binding is not None
    opted_in = replace(READY.binding, opted_in=True)

    assert isinstance(decide(replace(READY, binding=opted_in), rules), BeginMigration)
    assert decide(READY, rules) == Skip(Reason.NOT_OPTED_IN), "a binding from before opt-in was asked for"
    assert decide(replace(READY, binding=None), rules) == Skip(Reason.NOT_OPTED_IN)


def test_an_lrp_without_an_app_guid_is_skipped() -> None:
    """All such would share one app's bindings, whoever owns them."""
    action = decide(replace(READY, lrp=replace(LRP, app_guid=AppGuid(""))), RULES)

    assert isinstance(action, Skip)
    assert action.reason == "no-app-guid"


def test_an_lrp_that_is_gone_is_forgotten() -> None:
    assert decide(replace(READY, lrp=None), RULES) == Forget()


def test_an_lrp_without_a_copy_asks_for_one_with_its_own_credentials() -> None:
    action = decide(replace(READY, binding=None, job=None, image=None), RULES)

    assert isinstance(action, CacheImage)
    assert action.reason == "not-cached"
    assert action.request.source == SOURCE
    assert action.request.credentials == LRP.credentials
    assert (action.request.requester, action.request.staged_at) == ("lrp:p-1", 0)


def test_a_staging_from_before_a_gap_is_confirmed_first() -> None:
    """A later staging may have been missed: its image, not the known one, is the app's."""
    action = decide(replace(READY, binding_is_current=False), RULES)

    assert isinstance(action, CacheImage)
    assert action.reason == "staging-may-have-been-missed"
    assert READY.binding is not None
    assert action.request.staged_at == READY.binding.staged_at, "no clock of ours goes before the BBS's"


def test_an_lrp_that_runs_and_stays_is_not_confirmed() -> None:
    """It would not be migrated anyway, so its source registry is not asked."""
    observed = replace(READY, binding_is_current=False, instances=(RUNNING,))

    assert isinstance(decide(observed, RULES), Skip)


def test_an_lrp_that_was_migrated_before_needs_no_confirmation() -> None:
    observed = replace(READY, binding_is_current=False, record=RECORD)

    assert isinstance(decide(observed, RULES), BeginMigration)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.COPYING])
def test_an_lrp_waits_for_its_copy(state: JobState) -> None:
    observed = replace(READY, job=replace(JOB, state=state, cache_guid=None), image=None)

    assert decide(observed, RULES) == Skip(Reason.WAITING_FOR_COPY)


def test_a_failed_copy_leaves_the_lrp_on_its_source_and_is_tried_again_much_later() -> None:
    job = replace(JOB, state=JobState.FAILED, cache_guid=None, failure="DENIED: no")

    assert decide(replace(READY, job=job, image=None), RULES) == Skip(Reason.COPY_FAILED, "DENIED: no")
    old = replace(job, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    action = decide(replace(READY, job=old, image=None), RULES)
    assert isinstance(action, CacheImage)
    assert action.reason == "retrying-copy"


def test_an_image_that_cells_refuse_leaves_the_lrp_on_its_source_and_is_asked_for_again_much_later() -> None:
    failure = "cannot-run-on-cells: r.example/a:1: it has no layers"
    job = replace(JOB, state=JobState.FAILED, cache_guid=None, failure=failure)

    assert decide(replace(READY, job=job, image=None), RULES) == Skip(
        Reason.CANNOT_RUN_ON_CELLS, "r.example/a:1: it has no layers"
    )
    old = replace(job, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    assert isinstance(decide(replace(READY, job=old, image=None), RULES), CacheImage)


def test_an_lrp_that_somebody_keeps_reverting_is_skipped() -> None:
    record = replace(RECORD, rounds=MAX_ROUNDS)

    assert decide(replace(READY, record=record), RULES) == Skip(
        Reason.REVERTED_EXTERNALLY, "somebody else reverted 3 migrations"
    )
    quiet = replace(record, updated_at=NOW - ROUNDS_FORGOTTEN_AFTER - 1)
    assert decide(replace(READY, record=quiet), RULES) == BeginMigration(LRP, IMAGE, rounds=1)


def failed_restore(reason: Reason = Reason.BRIDGE_CRASHED) -> Observed:
    copy = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
    record = replace(RECORD, rootfs=str(copy.rootfs), reason=reason, detail="bridge: from its source")
    return replace(READY, lrp=copy, current_copy=IMAGE, record=record, binding=None, job=None, image=None)


@pytest.mark.parametrize(
    "reason", [Reason.BRIDGE_CRASHED, Reason.BRIDGE_TIMEOUT, Reason.BBS_REFUSED_DEFINITION]
)
def test_a_failed_restore_stays_visible(reason: Reason) -> None:
    late = replace(failed_restore(reason), now=NOW + 100 * RETRY_FAILED_AFTER)

    assert decide(late, BRIDGING) == Skip(reason, "bridge: from its source")


def test_a_failed_restore_is_past_once_something_else_is_asked_for_or_was_desired() -> None:
    seen = failed_restore()
    assert seen.record is not None
    other = replace(seen.record, rootfs=str(RULES.cache.rootfs(CacheGuid("another"))))

    assert decide(replace(seen, order=Order(Goal.CACHE, since=NOW)), BRIDGING) == Skip(Reason.ALREADY_CACHED)
    assert decide(replace(seen, record=other), BRIDGING) == Skip(Reason.ALREADY_CACHED)
    assert decide(failed_restore(Reason.NOT_HEALTHY), BRIDGING) == Skip(Reason.ALREADY_CACHED)


def test_a_failed_restore_is_tried_again_when_it_is_ordered() -> None:
    origin = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)
    order = Order(Goal.SOURCE, since=NOW + 1)
    ordered = replace(failed_restore(), order=order, original_source=origin, now=NOW + 2)
    again = decide(ordered, BRIDGING)

    assert isinstance(again, BeginMigration)
    assert again.goal is Goal.SOURCE
    its_own = replace(ordered, order=replace(order, since=NOW))
    assert decide(its_own, BRIDGING) == Skip(Reason.BRIDGE_CRASHED, "bridge: from its source")


def test_a_failed_restore_is_tried_again_by_itself_only_after_a_while() -> None:
    origin = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)
    failed = replace(failed_restore(), original_source=origin, is_restoring=True)

    assert decide(failed, BRIDGING) == Skip(Reason.BRIDGE_CRASHED, "bridge: from its source")
    assert isinstance(decide(replace(failed, now=NOW + RETRY_RESTORE_AFTER + 1), BRIDGING), BeginMigration)
