"""Whether a migration may start, by what is under way and what has failed; passes are not covered here."""

from dataclasses import dataclass, replace

import pytest

from controller.control import OperatorControl
from controller.event_cache import LrpEventCache
from controller.metrics import Metrics
from controller.migration_gate import MigrationGate
from controller.store.opening import open_store
from controller.workqueue import WorkQueue
from reconcile.apply import Outcome
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.lrps import ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import Migration, Phase
from reconcile.references import CacheGuid
from tests.reconcile.test_decide import LRP, RULES

pytestmark = pytest.mark.looptime

A, B, C, D = (ProcessGuid(name) for name in "abcd")
NOW = 1000.0
ENDED = Migration(A, CacheGuid("g"), Phase.STARTING, LRP, 1, "run-1", 0.0, instance_guids=frozenset({"i"}))
FAILED = Outcome(Reason.BRIDGE_TIMEOUT, ended=ENDED)
MIGRATED = Outcome(Reason.MIGRATED, ended=ENDED)


@dataclass
class Scene:
    """A gate that allows two migrations at a time, and opens its circuit breaker after two failures."""

    gate: MigrationGate
    queue: WorkQueue[ProcessGuid]
    event_cache: LrpEventCache
    control: OperatorControl

    def reason(self, key: ProcessGuid, now: float = NOW) -> Reason | None:
        obstacle = self.gate.why_not_start(key, now)
        return None if obstacle is None else obstacle.reason

    async def queued(self) -> list[ProcessGuid]:
        return [await self.queue.take() for _ in range(len(self.queue))]


@pytest.fixture
async def scene() -> Scene:
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    event_cache = LrpEventCache()
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as store:
        control = OperatorControl(store.operations)
    rules = replace(RULES, max_in_flight=2, circuit_breaker=CircuitBreaker(2, retry_after=60.0))
    gate = MigrationGate(queue, rules=rules, overrides=control, event_cache=event_cache, metrics=Metrics())
    return Scene(gate, queue, event_cache, control)


async def test_only_so_many_migrate_at_a_time_and_those_that_wait_follow_in_their_order(scene: Scene) -> None:
    for key in (A, B):
        assert scene.reason(key) is None
        scene.gate.start(key)
    assert [scene.reason(key) for key in (C, D)] == [Reason.IN_FLIGHT_LIMIT] * 2

    scene.gate.end(A, ENDED)

    assert await scene.queued() == [C]
    scene.gate.note_pass(C)
    scene.gate.wake_waiting()
    assert await scene.queued() == [D], "the place was not taken"


async def test_the_lower_of_both_limits_counts(scene: Scene) -> None:
    scene.control.max_in_flight = 1
    scene.gate.start(A)
    assert scene.reason(B) is Reason.IN_FLIGHT_LIMIT

    scene.control.max_in_flight = 100
    assert scene.reason(B) is None
    scene.gate.start(B)
    assert scene.reason(C) is Reason.IN_FLIGHT_LIMIT


async def test_none_starts_before_each_migration_of_an_earlier_run_had_a_pass(scene: Scene) -> None:
    scene.gate.recover(A)
    assert await scene.queued() == [A]
    assert scene.reason(B) is Reason.WAITING_FOR_RECOVERY

    scene.gate.note_pass(A)

    assert scene.reason(B) is None
    assert scene.gate.is_migrating(A)


async def test_after_failures_in_a_row_none_starts_until_an_operator_resets_it(scene: Scene) -> None:
    for _ in range(2):
        scene.gate.start(A)
        scene.gate.update_circuit_breaker(A, FAILED, NOW)
        scene.gate.end(A, ENDED)
    obstacle = scene.gate.why_not_start(B, NOW)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.retry_after) == (Reason.CIRCUIT_BREAKER_OPEN, 60.0)
    assert "bridge-timeout" in obstacle.detail

    scene.gate.reset_circuit_breaker()

    assert await scene.queued() == [B]
    assert scene.reason(B) is None


async def test_a_migration_whose_app_stays_unhealthy_counts_once(scene: Scene) -> None:
    """Its bridge is kept and it is looked at again and again; in the end it fails as well."""
    scene.gate.start(A)
    for _ in range(5):
        scene.gate.update_circuit_breaker(A, Outcome(Reason.NOT_HEALTHY_BRIDGE_KEPT), NOW)
    scene.gate.update_circuit_breaker(A, Outcome(Reason.NOT_HEALTHY, ended=ENDED), NOW)

    assert scene.gate.circuit_breaker.failures == 1


async def test_a_success_begins_the_count_anew_and_a_cancelled_migration_says_nothing(scene: Scene) -> None:
    scene.gate.start(A)
    scene.gate.update_circuit_breaker(A, FAILED, NOW)
    scene.gate.cancel(A, None)
    assert scene.gate.circuit_breaker.failures == 1

    scene.gate.update_circuit_breaker(A, MIGRATED, NOW)
    assert scene.gate.circuit_breaker.failures == 0


async def test_events_are_remembered_during_a_migration_and_its_old_instances_afterwards(
    scene: Scene,
) -> None:
    scene.gate.start(A)
    assert scene.event_cache.key_of(A) == A

    scene.gate.end(A, ENDED)

    assert scene.event_cache.key_of(A) is None
    assert scene.event_cache.stale(A) == {"i"}


async def test_to_finish_is_to_start_none_and_to_look_at_those_under_way_first(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.queue.add(B)
    scene.gate.start(A)

    await scene.gate.finish_migrations(5.0)

    assert await scene.queued() == [A, B]
    assert "left-migrations-open" in capsys.readouterr().out
    scene.gate.end(A, ENDED)
    assert scene.reason(B) is Reason.IN_FLIGHT_LIMIT
    await scene.gate.finish_migrations(None)
