"""What is decided on which observation; that decisions are carried out is tested with `apply`."""

from dataclasses import replace

import pytest

from reconcile.actions import (
    BeginReplacement,
    CacheImage,
    Forget,
    LeaveAlone,
    RemoveLeftBridge,
    VerifyImage,
)
from reconcile.images import CacheGuid, CacheRepositories, Digest, Rootfs, parse_image_reference
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
from reconcile.observed import LeftBridge, Observed, Rules
from reconcile.plan import RETRY_FAILED_AFTER, ROUNDS_FORGOTTEN_AFTER, plan, plan_left_bridge
from reconcile.policy import CacheMode, Policy, ReplaceRunning, RunningPolicy, RunningRule
from reconcile.protocol import FAILURES, MAX_ROUNDS
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    Goal,
    JobId,
    JobState,
    LrpRecord,
    Origin,
    Strategy,
)
from reconcile.steps import Retire

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
    reason="staging-task",
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
RECORD = LrpRecord(PROCESS, APP, str(LRP.rootfs), GUID, rounds=0, reason="replaced", updated_at=NOW)


def row(
    state: ActualLrpState, presence: Presence = Presence.ORDINARY, *, index: int = 0, guid: str = "i"
) -> ActualLrp:
    return ActualLrp(PROCESS, index, "cf-apps", state, presence, guid, "cell", ModificationTag("e", 0))


RUNNING = row(ActualLrpState.RUNNING)
BRIDGING = replace(RULES, may_bridge=True)


def test_an_lrp_with_a_copy_and_nothing_running_is_replaced() -> None:
    assert plan(READY, RULES) == BeginReplacement(LRP, IMAGE, rounds=1)


@pytest.mark.parametrize("state", [ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED, ActualLrpState.CRASHED])
def test_instances_that_do_not_run_do_not_stop_a_replacement(state: ActualLrpState) -> None:
    assert isinstance(plan(replace(READY, instances=(row(state),)), RULES), BeginReplacement)


@pytest.mark.parametrize("presence", list(Presence))
def test_an_lrp_with_a_running_instance_of_any_presence_gets_a_bridge(presence: Presence) -> None:
    """A suspect or evacuating instance may be the only one that serves."""
    instances = (row(ActualLrpState.UNCLAIMED), row(ActualLrpState.RUNNING, presence))

    action = plan(replace(READY, instances=instances), BRIDGING)

    assert action == BeginReplacement(LRP, IMAGE, rounds=1, strategy=Strategy.BRIDGE)


def test_without_a_durable_journal_an_lrp_that_runs_is_left_alone() -> None:
    action = plan(replace(READY, instances=(RUNNING,)), RULES)

    assert isinstance(action, LeaveAlone)
    assert action.reason == "waiting: running"
    assert "journal_key_file" in action.detail


def test_an_lrp_whose_name_leaves_no_room_for_a_bridge_is_left_alone_while_it_runs() -> None:
    long = replace(LRP, process_guid=ProcessGuid("p" * 240))

    action = plan(replace(READY, lrp=long, instances=(RUNNING,)), BRIDGING)

    assert isinstance(action, LeaveAlone)
    assert action.reason == "waiting: running"


def test_an_lrp_that_is_being_scaled_to_nothing_is_not_bridged() -> None:
    observed = replace(READY, lrp=replace(LRP, instances=0), instances=(RUNNING,))

    assert isinstance(plan(observed, BRIDGING), LeaveAlone)


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
        (RunningRule(ReplaceRunning.NEVER), True),
        (RunningRule(ReplaceRunning.NEVER, org="acme"), True),
        (RunningRule(ReplaceRunning.NEVER, org="o-?"), True),
        (RunningRule(ReplaceRunning.NEVER, org="Acme"), False),
        (RunningRule(ReplaceRunning.NEVER, org="acme", space="dev"), False),
        (RunningRule(ReplaceRunning.NEVER, space="prod", app="w*"), True),
        (RunningRule(ReplaceRunning.NEVER, app="app-1"), True),
        (RunningRule(ReplaceRunning.NEVER, image="registry.example.com/team/*"), True),
        (RunningRule(ReplaceRunning.NEVER, image="docker.io/*"), False),
    ],
)
def test_the_operator_decides_by_org_space_app_and_image_whether_a_running_lrp_is_moved(
    rule: RunningRule,
    matches: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    rules = replace(BRIDGING, running=RunningPolicy(rules=(rule,)))

    action = plan(replace(READY, lrp=TAGGED, instances=(RUNNING,)), rules)

    assert isinstance(action, LeaveAlone) == matches


def test_the_first_rule_that_matches_decides() -> None:
    rules = (RunningRule(ReplaceRunning.BRIDGE, app="web"), RunningRule(ReplaceRunning.NEVER, org="acme"))
    policy = RunningPolicy(ReplaceRunning.NEVER, rules)

    assert policy.of(TAGGED, SOURCE) is ReplaceRunning.BRIDGE
    assert policy.of(LRP, SOURCE) is ReplaceRunning.NEVER


@pytest.mark.parametrize("reason", sorted(FAILURES))
def test_what_failed_is_not_tried_again_for_a_while(reason: str) -> None:
    failed = replace(RECORD, reason=reason, detail="why")

    assert plan(replace(READY, record=failed), BRIDGING) == LeaveAlone(reason, "why")
    old = replace(failed, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    assert isinstance(plan(replace(READY, record=old), BRIDGING), BeginReplacement)


def test_a_copy_that_instances_crashed_from_is_verified_before_another_app_is_moved_to_it() -> None:
    suspect = replace(IMAGE, suspect_since=NOW - 1)

    assert plan(replace(READY, image=suspect), RULES) == VerifyImage(LRP, suspect)


def test_an_instance_of_a_definition_that_was_removed_is_retired_wherever_the_lrp_runs_from() -> None:
    late = row(ActualLrpState.RUNNING, guid="old")
    moved = replace(LRP, rootfs=RULES.cache.rootfs(GUID))
    observed = replace(READY, lrp=moved, instances=(late, RUNNING), stale=frozenset({"old"}))

    assert plan(observed, RULES) == Retire((late,), "retired-stale-instances")


class TestWayBack:
    """The private registry is gone for good: what runs from it goes back to where it came from."""

    MOVED = replace(LRP, rootfs=RULES.cache.rootfs(GUID))
    ORIGIN = Origin(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)
    GONE = replace(READY, lrp=MOVED, origin=ORIGIN, is_restoring=True)

    def test_an_lrp_goes_back_to_its_source(self) -> None:
        action = plan(self.GONE, RULES)

        assert isinstance(action, BeginReplacement)
        assert (action.goal, action.strategy, action.image) == (Goal.SOURCE, Strategy.RECREATE, None)

    def test_one_that_runs_gets_a_bridge(self) -> None:
        action = plan(replace(self.GONE, instances=(RUNNING,)), BRIDGING)

        assert isinstance(action, BeginReplacement)
        assert action.strategy is Strategy.BRIDGE

    def test_one_whose_origin_or_login_is_not_known_stays(self) -> None:
        assert isinstance(plan(replace(self.GONE, origin=None), RULES), LeaveAlone)
        lost = replace(self.ORIGIN, credentials=None)
        action = plan(replace(self.GONE, origin=lost), RULES)
        assert isinstance(action, LeaveAlone)
        assert action.reason == "origin-credentials-unknown"

    def test_nothing_is_moved_to_the_registry_meanwhile(self) -> None:
        action = plan(replace(READY, is_restoring=True), RULES)

        assert isinstance(action, LeaveAlone)
        assert action.reason == "waiting: registry-unreachable"


class TestLeftBridge:
    """A bridge without a journal row, be it that the journal was lost."""

    BRIDGE = replace(LRP, process_guid=ProcessGuid("docker-cache-bridge-p-1"))
    LEFT = LeftBridge(
        BRIDGE.process_guid, 1000.0, bridge=BRIDGE, bridge_instances=(RUNNING,), lrp=LRP, instances=(RUNNING,)
    )

    def test_it_is_removed_when_the_app_itself_serves(self) -> None:
        assert plan_left_bridge(self.LEFT, owner_sync=180.0) == RemoveLeftBridge(self.BRIDGE.process_guid)

    def test_it_stays_while_it_serves_more(self) -> None:
        action = plan_left_bridge(replace(self.LEFT, instances=()), owner_sync=180.0)

        assert isinstance(action, LeaveAlone)

    def test_it_goes_with_an_app_that_its_owner_removed(self) -> None:
        gone = replace(self.LEFT, lrp=None, instances=())

        assert isinstance(plan_left_bridge(gone, owner_sync=180.0), LeaveAlone)
        fresh = replace(gone, domains_are_fresh=True)
        assert isinstance(plan_left_bridge(fresh, owner_sync=180.0), RemoveLeftBridge)
        young = replace(fresh, process_age=10.0)
        assert isinstance(plan_left_bridge(young, owner_sync=180.0), LeaveAlone)

    def test_one_that_a_replacement_knows_of_is_left_to_it(self) -> None:
        assert plan_left_bridge(replace(self.LEFT, is_in_use=True), owner_sync=180.0) == Forget()


LEFT_ALONE = {
    "not a Docker LRP": (replace(LRP, rootfs=Rootfs("preloaded:cflinuxfs4")), "not-docker"),
    "a domain that is not ours to touch": (replace(LRP, domain="other"), "other-domain"),
    "an image that no registry knows": (
        replace(LRP, rootfs=Rootfs("docker:///library/-x#1")),
        "not-cacheable",
    ),
    "already from the cache": (replace(LRP, rootfs=RULES.cache.rootfs(GUID)), "already-cached"),
    "already from the cache, host in capitals": (
        replace(LRP, rootfs=Rootfs("docker://CACHE.example:8080/x#latest")),
        "already-cached",
    ),
    "an owner who opted out": (
        replace(LRP, action=RunAction("/x", env={"DIEGO_DOCKER_CACHE": "false"})),
        "opted-out",
    ),
}


@pytest.mark.parametrize(("lrp", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_is_not_ours_is_left_alone_with_a_reason(lrp: DesiredLrp, reason: str) -> None:
    rules = replace(RULES, policy=Policy(CacheMode.OPT_OUT))

    action = plan(replace(READY, lrp=lrp), rules)

    assert isinstance(action, LeaveAlone)
    assert action.reason == reason


def test_an_lrp_whose_staging_opted_in_by_a_flag_is_replaced() -> None:
    """The flag stands in the staging task only; the LRP does not show it."""
    rules = replace(RULES, policy=Policy(CacheMode.OPT_IN))
    assert READY.binding is not None
    opted_in = replace(READY.binding, opted_in=True)

    assert isinstance(plan(replace(READY, binding=opted_in), rules), BeginReplacement)
    assert plan(READY, rules) == LeaveAlone("not-opted-in"), "a binding from before opt-in was asked for"
    assert plan(replace(READY, binding=None), rules) == LeaveAlone("not-opted-in")


def test_an_lrp_without_an_app_guid_is_left_alone() -> None:
    """All such would share one app's bindings, whoever owns them."""
    action = plan(replace(READY, lrp=replace(LRP, app_guid=AppGuid(""))), RULES)

    assert isinstance(action, LeaveAlone)
    assert action.reason == "no-app-guid"


def test_an_lrp_that_is_gone_is_forgotten() -> None:
    assert plan(replace(READY, lrp=None), RULES) == Forget()


def test_an_lrp_without_a_copy_asks_for_one_with_its_own_credentials() -> None:
    action = plan(replace(READY, binding=None, job=None, image=None), RULES)

    assert isinstance(action, CacheImage)
    assert action.reason == "not-cached"
    assert action.request.source == SOURCE
    assert action.request.credentials == LRP.credentials
    assert (action.request.origin, action.request.staged_at) == ("lrp:p-1", 0)


def test_a_staging_from_before_a_gap_is_confirmed_first() -> None:
    """A later staging may have been missed: its image, not the known one, is the app's."""
    action = plan(replace(READY, binding_is_current=False), RULES)

    assert isinstance(action, CacheImage)
    assert action.reason == "staging-may-have-been-missed"
    assert READY.binding is not None
    assert action.request.staged_at == READY.binding.staged_at, "no clock of ours goes before the BBS's"


def test_an_lrp_that_runs_and_stays_is_not_confirmed() -> None:
    """It would not be moved anyway, and its source registry is not asked for nothing."""
    observed = replace(READY, binding_is_current=False, instances=(RUNNING,))

    assert isinstance(plan(observed, RULES), LeaveAlone)


def test_an_lrp_that_was_replaced_before_needs_no_confirmation() -> None:
    observed = replace(READY, binding_is_current=False, record=RECORD)

    assert isinstance(plan(observed, RULES), BeginReplacement)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.COPYING])
def test_an_lrp_waits_for_its_copy(state: JobState) -> None:
    observed = replace(READY, job=replace(JOB, state=state, cache_guid=None), image=None)

    assert plan(observed, RULES) == LeaveAlone("waiting: caching")


def test_a_failed_copy_leaves_the_lrp_on_its_source_and_is_tried_again_much_later() -> None:
    job = replace(JOB, state=JobState.FAILED, cache_guid=None, failure="DENIED: no")

    assert plan(replace(READY, job=job, image=None), RULES) == LeaveAlone("cache-failed", "DENIED: no")
    old = replace(job, updated_at=NOW - RETRY_FAILED_AFTER - 1)
    action = plan(replace(READY, job=old, image=None), RULES)
    assert isinstance(action, CacheImage)
    assert action.reason == "retry-failed"


def test_an_lrp_that_somebody_keeps_putting_back_is_left_alone() -> None:
    record = replace(RECORD, rounds=MAX_ROUNDS)

    assert plan(replace(READY, record=record), RULES) == LeaveAlone(
        "put-back", "somebody undid 3 replacements"
    )
    quiet = replace(record, updated_at=NOW - ROUNDS_FORGOTTEN_AFTER - 1)
    assert plan(replace(READY, record=quiet), RULES) == BeginReplacement(LRP, IMAGE, rounds=1)
