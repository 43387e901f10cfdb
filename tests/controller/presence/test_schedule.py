"""When copies are looked for, and how many requests that makes."""

import random

import pytest

from controller.presence.schedule import (
    LONGEST_PAUSE,
    MAX_REQUESTS_PER_SECOND,
    REQUESTS_FOR_BLOBS,
    Intervals,
    Schedule,
)
from reconcile.copying_ports import CheckDepth
from reconcile.records import CopyCheck
from reconcile.references import CacheGuid

HOUR, DAY = 3600.0, 86400.0
EPOCH = 1e9
INTERVALS = Intervals(HOUR, DAY)


def guids(count: int) -> list[CacheGuid]:
    return [CacheGuid(f"{number:08x}-0000-4000-8000-000000000000") for number in range(count)]


class Watch:
    """Takes the turns of a schedule in virtual time."""

    def __init__(self, copies: int) -> None:
        self.schedule = Schedule(INTERVALS, random_part=random.Random(1).random)
        self.now = EPOCH
        self.checks: dict[CacheGuid, CopyCheck] = {}
        self.looks: list[tuple[float, CacheGuid, CheckDepth]] = []
        self.schedule.follow(guids(copies), self.checks, self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            look = self.schedule.next_look(self.now)
            assert look is not None
            if look.wait > 0:
                self.now += look.wait
                continue
            self.looks.append((self.now, look.cache_guid, look.depth))
            before = self.checks.get(look.cache_guid, CopyCheck(look.cache_guid))
            blobs = self.now if look.depth is CheckDepth.BLOBS else before.blobs_checked_at
            check = CopyCheck(look.cache_guid, checked_at=self.now, blobs_checked_at=blobs)
            self.checks[look.cache_guid] = check
            self.schedule.looked(check, self.now)
            self.now += self.schedule.pause_after(look.depth, self.now)

    def requests(self, since: float) -> list[tuple[float, int]]:
        return [
            (at - since, REQUESTS_FOR_BLOBS if depth is CheckDepth.BLOBS else 1)
            for at, _, depth in self.looks
            if at >= since
        ]


def test_copies_are_looked_for_as_before_when_a_clock_that_was_years_ahead_is_right() -> None:
    watch = Watch(3)
    watch.now = EPOCH + 10 * 365 * DAY
    watch.run(DAY)
    watch.now = EPOCH

    looks = len(watch.looks)
    watch.run(2 * DAY)

    later = watch.looks[looks:]
    assert {(guid, depth) for _, guid, depth in later} == {
        (guid, depth) for guid in guids(3) for depth in (CheckDepth.MANIFEST, CheckDepth.BLOBS)
    }
    assert len(later) <= 3 * 2 * DAY / HOUR * 1.4, "and no oftener than ever"


@pytest.mark.long
def test_ten_thousand_copies_cost_a_few_requests_a_second_spread_evenly() -> None:
    watch = Watch(10_000)
    watch.run(DAY)  # the first day, on which everything is due at once
    start = watch.now
    watch.run(2 * HOUR)

    requests = watch.requests(start)
    total = sum(count for _, count in requests)
    by_minute = [sum(count for at, count in requests if at // 60 == minute) for minute in range(120)]
    assert total / (2 * HOUR) <= MAX_REQUESTS_PER_SECOND
    assert max(by_minute) <= 2 * MAX_REQUESTS_PER_SECOND * 60
    assert min(by_minute) > 0
    assert {guid for at, guid, _ in watch.looks if at >= start} == set(guids(10_000))


def test_a_thousand_copies_are_each_looked_for_once_an_hour_and_their_blobs_once_a_day() -> None:
    watch = Watch(1000)
    watch.run(DAY)
    start = watch.now
    watch.run(DAY)

    looks = [depth for at, _, depth in watch.looks if at >= start]
    assert 1000 * 22 <= len(looks) <= 1000 * 27
    assert 1000 * 0.9 <= looks.count(CheckDepth.BLOBS) <= 1000 * 1.2
    pauses = [b - a for (a, *_), (b, *_) in zip(watch.looks, watch.looks[1:], strict=False) if a >= start]
    assert max(pauses) < 60


def test_few_copies_are_all_looked_for_soon_after_a_start() -> None:
    watch = Watch(5)
    watch.run(5 * 2 * LONGEST_PAUSE)

    assert {guid for _, guid, _ in watch.looks} == set(guids(5))


def test_a_restart_does_not_look_for_everything_anew() -> None:
    schedule = Schedule(INTERVALS)
    (guid,) = guids(1)
    schedule.follow([guid], {guid: CopyCheck(guid, checked_at=EPOCH, blobs_checked_at=EPOCH)}, EPOCH + 60)

    look = schedule.next_look(EPOCH + 60)

    assert look is not None
    assert look.depth is CheckDepth.MANIFEST
    assert 0.8 * HOUR < look.wait < 1.1 * HOUR


def test_a_time_in_the_future_is_none() -> None:
    schedule = Schedule(INTERVALS)
    (guid,) = guids(1)
    schedule.follow([guid], {guid: CopyCheck(guid, checked_at=EPOCH + 10 * DAY)}, EPOCH)

    look = schedule.next_look(EPOCH)

    assert look is not None
    assert look.wait < 1.2 * HOUR


def test_a_copy_that_nobody_uses_is_not_looked_for() -> None:
    schedule = Schedule(INTERVALS)
    first, second = guids(2)
    schedule.follow([first, second], {}, EPOCH)
    schedule.follow([second], {}, EPOCH)

    look = schedule.next_look(EPOCH)

    assert look is not None
    assert look.cache_guid == second
    schedule.follow([], {}, EPOCH)
    assert schedule.next_look(EPOCH) is None
    assert schedule.has_new([first])
