"""Whether a migration may start, by what is under way and what has failed; passes are not covered here."""

from dataclasses import dataclass, field, replace

import pytest

from controller.control import OperatorControl
from controller.event_cache import LrpEventCache
from controller.login_renewal import UPDATES_A_SECOND
from controller.metrics import Metrics
from controller.migration_failures import MigrationFailures
from controller.migration_gate import IN_FLIGHT_LIMIT, GateDependencies, MigrationGate
from controller.workqueue import WorkQueue
from reconcile.actions import BeginMigration, UpdateLogin
from reconcile.apply import Outcome
from reconcile.bridges import bridge_of
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.failure_spread import Cause
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid
from reconcile.migrations import Goal, Migration, Phase
from reconcile.reasons import Reason
from reconcile.references import CacheGuid
from reconcile.start_failures import StartFailure
from tests.reconcile.test_decide import IMAGE, LRP
from tests.stores import open_store

pytestmark = pytest.mark.looptime

A, B, C, D = (ProcessGuid(name) for name in "abcd")
NOW = 1000.0
ENDED = Migration(A, CacheGuid("g"), Phase.STARTING, LRP, 1, "run-1", 0.0, instance_guids=frozenset({"i"}))
FAILED = Outcome(Reason.BRIDGE_TIMEOUT, ended=ENDED)
MIGRATED = Outcome(Reason.MIGRATED, ended=ENDED)


def lrp_of(key: ProcessGuid, organization: str = "acme", *tags: str) -> DesiredLrp:
    """The LRP of an app of its own."""
    return replace(
        LRP,
        process_guid=key,
        app_guid=AppGuid(f"app-{key}"),
        metric_tags={"organization_id": organization},
        placement_tags=frozenset(tags),
    )


def beginning(
    key: ProcessGuid, organization: str = "acme", image: str = "g", *, goal: Goal = Goal.CACHE
) -> BeginMigration:
    """A migration that begins; one to a source has no copy."""
    copy = replace(IMAGE, cache_guid=CacheGuid(image)) if goal is Goal.CACHE else None
    return BeginMigration(lrp_of(key, organization), copy, 1, goal)


def failure(key: ProcessGuid, organization: str = "acme", image: str = "g") -> Outcome:
    """The end of a migration whose bridge crashed."""
    ended = replace(ENDED, process_guid=key, original=lrp_of(key, organization), cache_guid=CacheGuid(image))
    return Outcome(Reason.BRIDGE_CRASHED, ended=ended)


@dataclass
class Pulls:
    """Cells that cannot pull, by placement tags."""

    problems: dict[frozenset[str], str] = field(default_factory=dict)
    refuted: set[frozenset[str]] = field(default_factory=set)

    def why_not(self, placement_tags: frozenset[str]) -> str | None:
        return self.problems.get(placement_tags)

    def is_refuted(self, placement_tags: frozenset[str]) -> bool:
        return placement_tags in self.refuted

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        raise NotImplementedError

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        raise NotImplementedError


@dataclass
class Registry:
    """The private registry, which may have a problem."""

    problem: str | None = None

    def why_not_migrate(self) -> str | None:
        return self.problem


@dataclass
class Scene:
    """A gate that allows two migrations at a time, and opens its circuit breaker after two failures."""

    gate: MigrationGate
    queue: WorkQueue[ProcessGuid]
    event_cache: LrpEventCache
    control: OperatorControl
    pulls: Pulls
    registry: Registry
    metrics: Metrics

    def reason(
        self, key: ProcessGuid, now: float = NOW, *tags: str, goal: Goal = Goal.CACHE
    ) -> Reason | None:
        obstacle = self.obstacle(key, now, *tags, goal=goal)
        return None if obstacle is None else obstacle.reason

    def obstacle(
        self, key: ProcessGuid, now: float = NOW, *tags: str, goal: Goal = Goal.CACHE
    ) -> Outcome | None:
        action = replace(beginning(key, goal=goal), lrp=lrp_of(key, "acme", *tags))
        return self.gate.why_not_start(action, now)

    def fail(self, key: ProcessGuid, organization: str = "acme", image: str = "g") -> None:
        """Let a migration start and fail."""
        self.gate.start(beginning(key, organization, image))
        outcome = failure(key, organization, image)
        self.gate.note_outcome(key, outcome, NOW)
        self.gate.end(key, outcome.ended)

    def fail_everywhere(self) -> None:
        """Let migrations of two organizations to two copies fail."""
        self.fail(A)
        self.fail(C, "umbrella", "h")

    def marks(self) -> set[bool]:
        """Give of each failure whether cells could not pull then."""
        return {each.cells_not_proven for each in self.gate.failures.records}

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"docker_cache_{name}")

    async def queued(self) -> list[ProcessGuid]:
        return [await self.queue.take() for _ in range(len(self.queue))]


@pytest.fixture
async def scene() -> Scene:
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    event_cache = LrpEventCache()
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as store:
        control = OperatorControl(store.operations)
    pulls, registry = Pulls(), Registry()
    metrics = Metrics()
    failures = MigrationFailures(
        CircuitBreaker(2, retry_after=60.0), event_cache=event_cache, pulls=pulls, metrics=metrics
    )
    dependencies = GateDependencies(control, event_cache, pulls, failures)
    gate = MigrationGate(queue, max_in_flight=2, dependencies=dependencies)
    gate.watch(registry)
    return Scene(gate, queue, event_cache, control, pulls, registry, metrics)


async def test_only_so_many_migrate_at_a_time_and_those_that_wait_follow_in_their_order(scene: Scene) -> None:
    for key in (A, B):
        assert scene.reason(key) is None
        scene.gate.start(beginning(key))
    assert [scene.reason(key) for key in (C, D)] == [Reason.IN_FLIGHT_LIMIT] * 2

    scene.gate.end(A, ENDED)

    assert await scene.queued() == [C]
    scene.gate.note_pass(C)
    scene.gate.wake_waiting()
    assert await scene.queued() == [D], "the place was not taken"


async def test_the_lower_of_both_limits_counts(scene: Scene) -> None:
    scene.control.max_in_flight = 1
    scene.gate.start(beginning(A))
    assert scene.reason(B) is Reason.IN_FLIGHT_LIMIT

    scene.control.max_in_flight = 100
    assert scene.reason(B) is None
    scene.gate.start(beginning(B))
    assert scene.reason(C) is Reason.IN_FLIGHT_LIMIT


async def test_none_starts_before_each_migration_of_an_earlier_run_had_a_pass(scene: Scene) -> None:
    scene.gate.recover(ENDED)
    assert await scene.queued() == [A]
    assert scene.reason(B) is Reason.WAITING_FOR_RECOVERY

    scene.gate.note_pass(A)

    assert scene.reason(B) is None
    assert scene.gate.is_migrating(A)


async def test_after_failures_in_a_row_none_starts_until_an_operator_resets_it(scene: Scene) -> None:
    scene.fail_everywhere()
    obstacle = scene.obstacle(B)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.retry_after) == (Reason.CIRCUIT_BREAKER_OPEN, 60.0)
    assert "bridge-crashed" in obstacle.detail

    scene.gate.reset_circuit_breaker()

    assert await scene.queued() == [B]
    assert scene.reason(B) is None


async def test_three_apps_of_one_tenant_that_crash_keep_only_those_like_them(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in (A, C, D):
        scene.fail(key)
    assert not scene.gate.failures.overall.is_open

    similar = scene.gate.why_not_start(beginning(B), NOW)
    assert similar is not None
    assert (similar.reason, similar.retry_after) == (Reason.SIMILAR_MIGRATIONS_FAILED, 60.0)
    assert "organization acme to copy g" in similar.detail
    assert scene.gate.why_not_start(beginning(B, "umbrella"), NOW) is None
    assert scene.gate.why_not_start(beginning(B, "acme", "other"), NOW) is None
    assert scene.gauge("migrations_set_aside") == 1
    assert capsys.readouterr().out.count("set-migrations-aside") == 1


async def test_those_who_are_set_aside_take_no_place_of_others_and_start_when_an_operator_says_so(
    scene: Scene,
) -> None:
    for key in (A, C):
        scene.fail(key)
    assert scene.gate.why_not_start(beginning(B), NOW) is not None
    scene.gate.wake_waiting()
    assert await scene.queued() == [], "a free place changes nothing for it"

    scene.gate.reset_circuit_breaker()

    assert await scene.queued() == [B]
    assert scene.gate.why_not_start(beginning(B), NOW) is None
    assert scene.gauge("migrations_set_aside") == 0


async def test_a_probe_of_those_who_are_set_aside_that_succeeds_lets_the_others_start(scene: Scene) -> None:
    for key in (A, C):
        scene.fail(key)
    later = NOW + 60.0
    assert scene.gate.why_not_start(beginning(B), later) is None
    scene.gate.start(beginning(B))
    assert scene.gate.why_not_start(beginning(D), later) is not None

    ended = replace(failure(B), reason=Reason.MIGRATED)
    scene.gate.note_outcome(B, ended, later)
    scene.gate.end(B, ended.ended)

    assert await scene.queued() == [D]
    assert scene.gate.why_not_start(beginning(D), later) is None


async def test_a_success_lets_those_who_are_set_aside_for_something_else_be(scene: Scene) -> None:
    for key in (A, C):
        scene.fail(key)
    assert scene.reason(B) is Reason.SIMILAR_MIGRATIONS_FAILED

    scene.gate.start(beginning(D, "umbrella", "h"))
    ended = replace(failure(D, "umbrella", "h"), reason=Reason.MIGRATED)
    scene.gate.note_outcome(D, ended, NOW)
    scene.gate.end(D, ended.ended)

    assert await scene.queued() == [], "it could not start yet"


async def test_apps_that_are_not_healthy_when_they_are_restored_say_nothing_about_copies(
    scene: Scene,
) -> None:
    for key, organization in ((A, "acme"), (B, "umbrella"), (C, "acme")):
        scene.gate.start(beginning(key, organization, goal=Goal.SOURCE))
        scene.gate.note_outcome(key, Outcome(Reason.NOT_HEALTHY_BRIDGE_KEPT), NOW)
    ended = replace(ENDED, process_guid=A, goal=Goal.SOURCE)
    scene.gate.recover(ended)
    scene.gate.note_outcome(A, Outcome(Reason.NOT_HEALTHY_BRIDGE_KEPT), NOW)

    assert scene.gate.failures.overall.failures == 0
    assert scene.gate.failures.set_aside == ()


async def test_the_cell_on_which_bridges_crash_is_said(scene: Scene) -> None:
    for key, organization, image in ((A, "acme", "g"), (C, "umbrella", "h")):
        scene.gate.start(beginning(key, organization, image))
        scene.event_cache.record_crash(bridge_of(key), "cell-7")
        outcome = failure(key, organization, image)
        scene.gate.note_outcome(key, outcome, NOW)
        scene.gate.end(key, outcome.ended)

    obstacle = scene.obstacle(B)
    assert obstacle is not None
    assert "all on cell cell-7" in obstacle.detail


async def test_an_app_whose_organization_is_not_known_counts_as_one_of_its_own(scene: Scene) -> None:
    for key, image in ((A, "g"), (C, "h")):
        ended = replace(
            ENDED,
            process_guid=key,
            cache_guid=CacheGuid(image),
            original=replace(lrp_of(key), metric_tags={}),
        )
        scene.gate.note_outcome(key, Outcome(Reason.NOT_HEALTHY, ended=ended), NOW)
    assert scene.gate.failures.overall.is_open


async def test_a_migration_whose_app_stays_unhealthy_counts_once(scene: Scene) -> None:
    """Its bridge is kept and it is looked at again and again; in the end it fails as well."""
    scene.gate.start(beginning(A))
    for _ in range(5):
        scene.gate.note_outcome(A, Outcome(Reason.NOT_HEALTHY_BRIDGE_KEPT), NOW)
    scene.gate.note_outcome(A, Outcome(Reason.NOT_HEALTHY, ended=ENDED), NOW)

    assert scene.gate.failures.overall.failures == 1


async def test_a_success_begins_the_count_anew_and_a_cancelled_migration_says_nothing(scene: Scene) -> None:
    scene.gate.start(beginning(A))
    scene.gate.note_outcome(A, FAILED, NOW)
    scene.gate.cancel(A, None)
    assert scene.gate.failures.overall.failures == 1

    scene.gate.note_outcome(A, MIGRATED, NOW)
    assert scene.gate.failures.overall.failures == 0


async def test_failures_of_an_earlier_process_count(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.fail_everywhere()
    before, said = scene.gate.failures.records, str(scene.gate.failures.overall)
    scene.gate.reset_circuit_breaker()
    assert scene.gate.failures.records == ()
    assert scene.gauge("circuit_breaker_open") == 0
    scene.gate.failures.changed.clear()

    scene.gate.failures.restore(before)

    assert scene.gate.failures.records == before
    assert scene.gate.failures.changed.is_set()
    assert scene.reason(B) is Reason.CIRCUIT_BREAKER_OPEN
    assert scene.reason(B, NOW + 61) is None
    assert scene.gauge("circuit_breaker_open") == 1
    assert "reconciler.restored-circuit-breaker-state" in capsys.readouterr().out
    assert str(scene.gate.failures.overall) == said


@pytest.mark.parametrize("could_pull", [True, False])
async def test_failures_of_an_earlier_process_count_no_more_when_cells_can_pull_that_could_not(
    scene: Scene, *, could_pull: bool
) -> None:
    """The operator has mended it, such as a login, and sent SIGHUP: the canary of this process is the first."""
    if not could_pull:
        scene.pulls.problems[LRP.placement_tags] = "cells cannot pull"
    scene.fail_everywhere()
    left = scene.gate.failures.records
    assert {each.cells_not_proven for each in left} == {not could_pull}
    scene.gate.reset_circuit_breaker()
    scene.pulls.problems.clear()

    scene.gate.failures.restore(left)
    assert scene.gate.failures.records == left
    scene.gate.note_proven_cells(is_mended=False)

    assert scene.gate.failures.overall.is_open is could_pull
    assert (scene.gate.failures.records == ()) is not could_pull


@pytest.mark.parametrize(("started_at", "is_probe"), [(NOW - 1, False), (NOW + 1, True)])
async def test_a_migration_that_was_begun_as_a_probe_still_is_one_in_a_later_process(
    scene: Scene, started_at: float, *, is_probe: bool
) -> None:
    """One from before the failures may wait for very long, and no probe waits for it."""
    scene.fail_everywhere()

    scene.gate.recover(replace(ENDED, started_at=started_at))
    scene.gate.note_pass(A)

    obstacle = scene.obstacle(B, NOW + 61)
    assert (obstacle is not None) is is_probe


async def test_events_are_remembered_during_a_migration_and_its_old_instances_afterwards(
    scene: Scene,
) -> None:
    scene.gate.start(beginning(A))
    assert scene.event_cache.key_of(A) == A

    scene.gate.end(A, ENDED)

    assert scene.event_cache.key_of(A) is None
    assert scene.event_cache.note_begin(A, "i")


async def test_to_finish_is_to_start_none_and_to_look_at_those_under_way_first(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.queue.add(B)
    scene.gate.start(beginning(A))

    await scene.gate.finish_migrations(5.0)

    assert await scene.queued() == [A, B]
    assert "left-migrations-open" in capsys.readouterr().out
    scene.gate.end(A, ENDED)
    assert scene.reason(B) is Reason.IN_FLIGHT_LIMIT
    await scene.gate.finish_migrations(None)


async def test_none_starts_to_its_copy_before_cells_are_known_to_pull(scene: Scene) -> None:
    scene.pulls.problems[frozenset()] = "nobody has asked them"
    obstacle = scene.obstacle(A)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.detail) == (Reason.CELLS_NOT_PROVEN, "nobody has asked them")
    assert obstacle.retry_after is None, "the proof wakes it"
    scene.gate.wake_waiting()
    assert await scene.queued() == [], "a free place changes nothing for it"

    scene.pulls.problems.clear()
    scene.gate.note_proven_cells(is_mended=False)

    assert await scene.queued() == [A]
    assert scene.reason(A) is None


async def test_the_way_back_to_a_source_never_waits_for_cells(scene: Scene) -> None:
    scene.pulls.problems[frozenset()] = "they cannot pull"
    assert scene.reason(A, goal=Goal.SOURCE) is None


async def test_an_isolation_segment_whose_cells_cannot_pull_holds_nobody_else_up(scene: Scene) -> None:
    scene.pulls.problems[frozenset({"segment"})] = "they cannot pull"

    assert scene.reason(A, NOW, "segment") is Reason.CELLS_NOT_PROVEN
    assert scene.reason(B) is None


async def test_a_canary_that_passes_after_failures_closes_the_circuit_breaker(scene: Scene) -> None:
    scene.fail_everywhere()
    assert scene.reason(B) is Reason.CIRCUIT_BREAKER_OPEN

    scene.gate.note_proven_cells(is_mended=True)

    assert await scene.queued() == [B]
    assert scene.reason(B) is None


async def test_a_canary_that_passes_after_failures_lets_those_start_that_are_set_aside(scene: Scene) -> None:
    for key in (A, C):
        scene.fail(key)
    assert scene.gate.why_not_start(beginning(B), NOW) is not None

    scene.gate.note_proven_cells(is_mended=True)

    assert await scene.queued() == [B]
    assert scene.gate.why_not_start(beginning(B), NOW) is None


async def test_a_failure_while_cells_could_not_pull_is_forgotten_when_they_can(scene: Scene) -> None:
    """Else failures of a later day, which have nothing to do with pulls, would be forgiven after a restart."""
    scene.pulls.problems[LRP.placement_tags] = "cells cannot pull"
    scene.fail(A)
    assert scene.marks() == {True}
    scene.pulls.problems.clear()

    scene.gate.note_proven_cells(is_mended=True)

    assert scene.marks() == set()
    scene.fail_everywhere()
    assert scene.marks() == {False}


async def test_failures_while_cells_could_pull_count_on_when_a_canary_passes(scene: Scene) -> None:
    scene.fail(A)

    scene.gate.note_proven_cells(is_mended=True)

    assert scene.marks() == {False}


async def test_a_first_proof_says_nothing_about_failures_and_leaves_the_circuit_breaker_open(
    scene: Scene,
) -> None:
    scene.fail_everywhere()

    scene.gate.note_proven_cells(is_mended=False)

    assert scene.reason(B) is Reason.CIRCUIT_BREAKER_OPEN


async def test_no_migration_to_a_copy_starts_while_the_private_registry_is_unhealthy(scene: Scene) -> None:
    scene.registry.problem = "its disk is on fire"

    obstacle = scene.obstacle(A)

    assert obstacle is not None
    assert (obstacle.reason, obstacle.detail) == (Reason.CACHE_REGISTRY_UNHEALTHY, "its disk is on fire")
    assert obstacle.retry_after is None, "it is told when the registry is well"
    assert scene.reason(B, goal=Goal.SOURCE) is None, "the way back is free"

    scene.gate.wake_waiting()
    assert await scene.queued() == []
    scene.registry.problem = None
    scene.gate.note_served_pulls()
    assert await scene.queued() == [A]
    assert scene.reason(A) is None


async def test_an_app_that_cells_cannot_start_goes_on_whatever_the_private_registry_does(
    scene: Scene,
) -> None:
    scene.registry.problem = "gone"

    assert (
        scene.gate.why_not_start(BeginMigration(LRP, None, 1, Goal.CACHE, ended=Reason.NOT_PULLED), NOW)
        is None
    )


def test_an_lrp_that_is_down_on_a_copy_that_cells_cannot_pull_waits_for_no_place(scene: Scene) -> None:
    for key in (C, D):
        scene.gate.start(beginning(key))
    back = BeginMigration(LRP, None, 1, Goal.SOURCE)

    assert scene.gate.why_not_start(back, NOW) == IN_FLIGHT_LIMIT
    assert scene.gate.why_not_start(replace(back, is_urgent=True), NOW) is None


class TestUpdatingLogins:
    """What is done in place takes no place of `max_in_flight`, and waits for no circuit breaker."""

    def update(self, key: ProcessGuid, *, instead: BeginMigration | None = None) -> UpdateLogin:
        return UpdateLogin(replace(LRP, process_guid=key), None, instead=instead)

    def test_they_take_turns(self, scene: Scene) -> None:
        for key in (C, D):
            scene.gate.start(beginning(key))

        assert scene.gate.why_not_update(self.update(A), NOW) is None
        waits = scene.gate.why_not_update(self.update(B), NOW)

        assert waits is not None
        assert waits.reason is Reason.LOGIN_OUTDATED
        assert waits.retry_after == pytest.approx(1 / UPDATES_A_SECOND)
        assert scene.gate.why_not_update(self.update(B), NOW + 0.2) is None

    async def test_none_is_updated_before_cells_are_known_to_pull_with_the_new_login(
        self, scene: Scene
    ) -> None:
        scene.pulls.problems[frozenset()] = "why"

        assert scene.gate.why_not_update(self.update(A), NOW) == Outcome(Reason.CELLS_NOT_PROVEN, "why")

        scene.pulls.problems.clear()
        scene.gate.note_proven_cells(is_mended=False)
        assert await scene.queued() == [A]
        assert scene.gate.why_not_update(self.update(A), NOW) is None

    def test_one_whose_instances_cannot_start_comes_first(self, scene: Scene) -> None:
        assert scene.gate.why_not_update(self.update(A), NOW) is None
        back = BeginMigration(LRP, None, 1, Goal.SOURCE)

        assert scene.gate.why_not_update(self.update(B, instead=back), NOW) is None
