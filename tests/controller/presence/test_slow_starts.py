"""Instances that take much longer to start than others did."""

from dataclasses import dataclass, replace

from controller.presence.slow_starts import SHORTEST, UNKNOWN, SlowStarts
from reconcile.lrps import ActualLrp, ActualLrpState
from reconcile.references import CacheGuid
from tests.reconcile.test_decide import GUID, row

CLAIMED, RUNNING = ActualLrpState.CLAIMED, ActualLrpState.RUNNING


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def instance(guid: str, state: ActualLrpState) -> ActualLrp:
    return row(state, guid=guid)


def started(starts: SlowStarts, clock: Clock, seconds: float, guid: str = "before") -> None:
    starts.note(instance(guid, CLAIMED), GUID)
    clock.now += seconds
    starts.note(instance(guid, RUNNING), GUID)


def test_a_start_that_takes_much_longer_than_the_last_ones_is_slow_once() -> None:
    clock = Clock()
    starts = SlowStarts(clock)
    started(starts, clock, 20.0)
    starts.note(instance("i", CLAIMED), GUID)

    clock.now += 59.0
    assert starts.take_slow() == frozenset()
    clock.now += 2.0
    assert starts.take_slow() == {GUID}
    assert starts.take_slow() == frozenset()


def test_no_start_is_slow_within_the_time_that_starts_may_take() -> None:
    clock = Clock()
    starts = SlowStarts(clock)
    assert starts.limit == UNKNOWN
    started(starts, clock, 0.5)

    assert starts.limit == SHORTEST


def test_an_instance_that_ended_or_is_not_of_a_copy_is_not_waited_for() -> None:
    clock = Clock()
    starts = SlowStarts(clock)
    starts.note(instance("crashed", CLAIMED), GUID)
    starts.note(instance("crashed", ActualLrpState.CRASHED), GUID)
    starts.note(instance("gone", CLAIMED), GUID)
    starts.forget("gone")
    starts.note(instance("from its source", CLAIMED), None)
    starts.note(replace(instance("", CLAIMED)), CacheGuid("other"))
    clock.now += 1000.0

    assert starts.take_slow() == frozenset()
    assert starts.limit == UNKNOWN
