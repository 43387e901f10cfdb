"""What is decided on which observation; that decisions are carried out is tested with `apply`."""

from dataclasses import replace

import pytest

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
from reconcile.plan import (
    DESIRE_ANYWAY_AFTER,
    MAX_ROUNDS,
    RETIRE_AFTER,
    RETRY_FAILED_AFTER,
    ROUNDS_FORGOTTEN_AFTER,
    BeginReplacement,
    CacheImage,
    CloseReplacement,
    DesireFromCache,
    Forget,
    KeepNewest,
    LeaveAlone,
    LookAgain,
    Observed,
    RetireInstances,
    Rules,
    plan,
)
from reconcile.policy import CacheMode, Policy
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    JobId,
    JobState,
    LrpRecord,
    Phase,
    Replacement,
)

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


def row(state: ActualLrpState, presence: Presence = Presence.ORDINARY) -> ActualLrp:
    return ActualLrp(PROCESS, 0, "cf-apps", state, presence, "i", "cell", ModificationTag("e", 0))


def test_an_lrp_with_a_copy_and_nothing_running_is_replaced() -> None:
    assert plan(READY, RULES) == BeginReplacement(LRP, IMAGE, rounds=1)


@pytest.mark.parametrize("state", [ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED, ActualLrpState.CRASHED])
def test_instances_that_do_not_run_do_not_stop_a_replacement(state: ActualLrpState) -> None:
    assert isinstance(plan(replace(READY, instances=(row(state),)), RULES), BeginReplacement)


@pytest.mark.parametrize("presence", list(Presence))
def test_a_running_instance_of_any_presence_keeps_the_lrp_as_it_is(presence: Presence) -> None:
    """A suspect or evacuating instance may be the only one that serves."""
    observed = replace(
        READY, instances=(row(ActualLrpState.UNCLAIMED), row(ActualLrpState.RUNNING, presence))
    )

    assert plan(observed, RULES) == LeaveAlone("waiting: running")


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


def test_an_lrp_that_runs_is_not_confirmed() -> None:
    """It would not be moved anyway, and its source registry is not asked for nothing."""
    observed = replace(READY, binding_is_current=False, instances=(row(ActualLrpState.RUNNING),))

    assert plan(observed, RULES) == LeaveAlone("waiting: running")


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


REPLACEMENT = Replacement(PROCESS, GUID, Phase.REMOVED, LRP, rounds=1, run_id="run-1", started_at=NOW - 5)
REMOVED = replace(READY, lrp=None, replacement=REPLACEMENT)
FROM_CACHE = replace(LRP, rootfs=RULES.cache.rootfs(GUID), tag=ModificationTag("epoch-2", 0))


def waited(seconds: float) -> Replacement:
    return replace(REPLACEMENT, started_at=NOW - seconds)


def test_a_removed_lrp_is_desired_from_the_cache_when_no_row_is_left() -> None:
    assert plan(REMOVED, RULES) == DesireFromCache(REPLACEMENT)


@pytest.mark.parametrize("state", list(ActualLrpState))
@pytest.mark.parametrize("presence", list(Presence))
def test_any_row_that_is_left_delays_the_desire(state: ActualLrpState, presence: Presence) -> None:
    action = plan(replace(REMOVED, instances=(row(state, presence),)), RULES)

    assert isinstance(action, LookAgain)
    assert action.reason == "waiting: instances-stopping"


def test_rows_whose_stop_was_lost_are_retired_and_in_the_end_not_waited_for() -> None:
    left = replace(REMOVED, instances=(row(ActualLrpState.RUNNING),))

    assert plan(replace(left, replacement=waited(RETIRE_AFTER + 1)), RULES) == RetireInstances(left.instances)
    given_up = waited(DESIRE_ANYWAY_AFTER + 1)
    assert plan(replace(left, replacement=given_up), RULES) == DesireFromCache(given_up)


def test_looks_at_rows_that_stay_become_rare() -> None:
    left = replace(REMOVED, instances=(row(ActualLrpState.RUNNING),))
    seconds = []
    for age in (0.0, 10.0, 25.0):
        action = plan(replace(left, replacement=waited(age)), RULES)
        assert isinstance(action, LookAgain)
        seconds.append(action.seconds)

    assert seconds == [0.25, 1.0, 2.5]


def test_a_replacement_is_over_when_the_lrp_runs_from_the_cache() -> None:
    assert plan(replace(REMOVED, lrp=FROM_CACHE), RULES) == CloseReplacement(REPLACEMENT, "replaced", GUID)


def test_a_removal_that_did_not_happen_is_planned_anew() -> None:
    """Its instances may run by now, so it is not simply removed again."""
    assert plan(replace(REMOVED, lrp=LRP), RULES) == CloseReplacement(REPLACEMENT, "not-removed")


def test_an_owner_who_was_faster_is_respected_and_planned_anew() -> None:
    other = replace(LRP, tag=ModificationTag("epoch-2", 0))

    assert plan(replace(REMOVED, lrp=other), RULES) == CloseReplacement(REPLACEMENT, "owner-was-faster")


@pytest.mark.parametrize("lrp", [LRP, FROM_CACHE, replace(LRP, tag=ModificationTag("epoch-3", 0))])
def test_no_replacement_is_over_while_a_removal_may_still_take_effect(lrp: DesiredLrp) -> None:
    """Without its row the definition would be lost with a removal that comes late."""
    unknown = replace(REPLACEMENT, phase=Phase.REMOVING, unknown_until=NOW + 1)

    assert isinstance(plan(replace(REMOVED, lrp=lrp, replacement=unknown), RULES), KeepNewest)
    known = replace(unknown, unknown_until=NOW)
    assert isinstance(plan(replace(REMOVED, lrp=lrp, replacement=known), RULES), CloseReplacement)


def test_what_its_owner_changed_while_a_removal_may_still_take_effect_is_kept() -> None:
    unknown = replace(REPLACEMENT, phase=Phase.REMOVING, unknown_until=NOW + 1)
    scaled = replace(LRP, instances=9, tag=ModificationTag("epoch-1", 1))

    action = plan(replace(REMOVED, lrp=scaled, replacement=unknown), RULES)

    assert isinstance(action, KeepNewest)
    assert action.replacement.original == scaled


def test_a_removal_that_came_late_is_made_good() -> None:
    unknown = replace(REPLACEMENT, phase=Phase.REMOVING, unknown_until=NOW + 1)

    assert plan(replace(REMOVED, replacement=unknown), RULES) == DesireFromCache(unknown)


def test_an_lrp_that_was_only_prepared_and_is_gone_was_removed_by_its_owner() -> None:
    prepared = replace(REPLACEMENT, phase=Phase.PREPARED)

    assert plan(replace(REMOVED, replacement=prepared), RULES) == CloseReplacement(
        prepared, "owner-removed-it"
    )


class TestAfterACrashBetweenRemovalAndDesire:
    """An original that its owner deleted meanwhile must not come back; one that only we removed must."""

    CRASHED = replace(REMOVED, run_id="run-2")

    def test_where_nobody_sweeps_it_is_desired_at_once(self) -> None:
        assert plan(self.CRASHED, RULES) == DesireFromCache(REPLACEMENT)

    def test_where_its_owner_sweeps_the_owner_gets_time(self) -> None:
        observed = replace(self.CRASHED, domain_is_fresh=True, process_age=10.0)

        assert plan(observed, RULES) == LookAgain("waiting: owner-sync", 5.0)

    def test_that_time_is_longer_than_a_domain_stays_fresh_after_its_last_sync(self) -> None:
        """Otherwise a domain that was synced before the removal would pass for one that was synced since."""
        domain_ttl, sync_interval = 120.0, 30.0

        assert RULES.owner_sync_grace >= domain_ttl + sync_interval

    def test_what_its_owner_did_not_desire_in_that_time_stays_gone(self) -> None:
        observed = replace(self.CRASHED, domain_is_fresh=True, process_age=RULES.owner_sync_grace)

        assert plan(observed, RULES) == CloseReplacement(REPLACEMENT, "owner-removed-it")

    def test_the_same_run_goes_on_whatever_the_domain(self) -> None:
        assert plan(replace(REMOVED, domain_is_fresh=True, process_age=1.0), RULES) == DesireFromCache(
            REPLACEMENT
        )
