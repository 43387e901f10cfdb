"""Daemons with stores of their own on one BBS, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from controller.metrics import Metrics
from controller.store_marker import StoreMarker
from reconcile.errors import Conflict, ErrorCode, Unavailable
from reconcile.store_markers import COURTESY, LOOK_INTERVAL, MARKER_TTL, PATIENCE, StoreId, marker_of
from tests.simulators.bbs.state import SECOND, State, upsert_domain

LESSER = StoreId("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
GREATER = StoreId("9b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
LONGEST_WAIT = MARKER_TTL + 2 * LOOK_INTERVAL

pytestmark = pytest.mark.looptime


async def at_once() -> None:
    """Let a call take no time."""


@dataclass
class Bbs:
    """What the daemons see of one BBS: its domains expire as those of the simulator do.

    Attributes:
        way: What happens to a call before the BBS has it, and again after that; it may raise an error.
        ahead: Seconds by which the BBS's clock is ahead.
    """

    way: Callable[[], Awaitable[None]] = at_once
    ahead: float = 0.0
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(now=lambda: int((1e9 + now() + self.ahead) * SECOND))

    async def list_domains(self) -> frozenset[str]:
        await self.way()
        found = frozenset(self.state.fresh_domains())
        await self.way()
        return found

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        await self.way()
        upsert_domain(self.state, domain, ttl)
        await self.way()


def now() -> float:
    """Give virtual seconds."""
    return asyncio.get_running_loop().time()


@dataclass
class Daemon:
    """A process that marks its store, until it is killed."""

    marker: StoreMarker
    task: asyncio.Task[None]
    is_killed: bool = False

    def works(self) -> bool:
        """Whether it may change something on the BBS now."""
        return not self.is_killed and self.marker.may_change

    async def kill(self) -> None:
        """End it without a last word."""
        self.is_killed = True
        self.task.cancel()
        await asyncio.wait([self.task])


def start(bbs: Bbs, store: StoreId) -> Daemon:
    """Start a process."""
    marker = StoreMarker(bbs, store, metrics=Metrics(), clock=now)

    async def run() -> None:
        await marker.claim()
        await marker.run()

    return Daemon(marker, asyncio.create_task(run()))


async def test_a_daemon_alone_works_at_once_and_for_good() -> None:
    bbs = Bbs()
    daemon = start(bbs, GREATER)

    await asyncio.sleep(0.1)
    for _ in range(500):
        assert daemon.works()
        assert marker_of(GREATER) in bbs.state.fresh_domains()
        daemon.marker.check()
        await asyncio.sleep(7.0)
    assert not daemon.marker.others


@pytest.mark.parametrize(("first", "second"), [(LESSER, GREATER), (GREATER, LESSER)])
async def test_a_second_one_stands_by_until_the_marker_of_the_first_has_expired(
    first: StoreId, second: StoreId
) -> None:
    bbs = Bbs()
    active = start(bbs, first)
    await asyncio.sleep(10.0)
    standby = start(bbs, second)

    await asyncio.sleep(3600.0)
    assert (active.works(), standby.works()) == (True, False)
    assert standby.marker.others == (first,)
    assert marker_of(second) not in bbs.state.fresh_domains()
    assert not active.marker.others
    with pytest.raises(Unavailable, match=first) as refused:
        standby.marker.check()
    assert refused.value.code == ErrorCode.OTHER_STORE_ACTIVE
    assert not refused.value.may_have_happened

    await active.kill()
    await asyncio.sleep(MARKER_TTL / 2)
    assert not standby.works()
    await asyncio.sleep(LONGEST_WAIT - MARKER_TTL / 2)
    assert standby.works()
    assert not standby.marker.others


async def test_a_restart_finds_its_own_marker_and_works_at_once() -> None:
    bbs = Bbs()
    before = start(bbs, GREATER)
    await asyncio.sleep(10.0)
    await before.kill()

    after = start(bbs, GREATER)
    await asyncio.sleep(0.1)

    assert after.works()


async def test_one_that_ends_with_nothing_undone_makes_way_at_once() -> None:
    bbs = Bbs()
    active = start(bbs, LESSER)
    await asyncio.sleep(10.0)
    standby = start(bbs, GREATER)
    await asyncio.sleep(1.0)

    await active.kill()
    await active.marker.end()
    assert not active.marker.may_change
    await asyncio.sleep(2 * LOOK_INTERVAL)

    assert standby.works()


async def test_one_that_stands_by_ends_no_marker() -> None:
    bbs = Bbs()
    start(bbs, LESSER)
    await asyncio.sleep(1.0)
    standby = start(bbs, GREATER)
    await asyncio.sleep(1.0)
    before = len(bbs.state.fresh_domains())

    await standby.kill()
    await standby.marker.end()
    await asyncio.sleep(5.0)

    assert len(bbs.state.fresh_domains()) == before


async def test_the_end_of_a_marker_that_the_bbs_does_not_answer_is_no_failure() -> None:
    async def fail() -> None:
        raise Unavailable("bbs", "ConnectionFailed", "refused")

    bbs = Bbs()
    daemon = start(bbs, LESSER)
    await asyncio.sleep(1.0)
    await daemon.kill()
    bbs.way = fail

    await daemon.marker.end()

    assert not daemon.marker.may_change


async def test_two_that_start_at_once_see_each_other_and_one_works_in_the_end() -> None:
    """Both look, then both write, then both look again."""

    async def slowly() -> None:
        await asyncio.sleep(0.2)

    bbs = Bbs(slowly)
    lesser, greater = start(bbs, LESSER), start(bbs, GREATER)

    await asyncio.sleep(5.0)
    assert lesser.marker.others == (GREATER,)
    assert greater.marker.others == (LESSER,)
    assert (lesser.works(), greater.works()) == (False, False)
    await asyncio.sleep(LONGEST_WAIT)
    assert (lesser.works(), greater.works()) == (True, False)
    await asyncio.sleep(600.0)
    assert (lesser.works(), greater.works()) == (True, False)


async def test_when_the_clock_of_the_bbs_jumps_both_pause_and_the_greater_gives_way() -> None:
    bbs = Bbs()
    greater = start(bbs, GREATER)
    await asyncio.sleep(1.0)
    bbs.ahead = 1000.0
    lesser = start(bbs, LESSER)
    await asyncio.sleep(31.0)

    assert greater.marker.others == (LESSER,)
    await asyncio.sleep(31.0)
    assert (lesser.works(), greater.works()) == (False, False)
    await asyncio.sleep(PATIENCE + MARKER_TTL + 2 * LOOK_INTERVAL)
    assert (lesser.works(), greater.works()) == (True, False)
    assert not lesser.marker.others


async def test_a_marker_that_nobody_refreshes_pauses_whom_it_meets_until_it_has_expired() -> None:
    bbs = Bbs()
    daemon = start(bbs, GREATER)
    await asyncio.sleep(1.0)
    upsert_domain(bbs.state, marker_of(LESSER), MARKER_TTL)

    await asyncio.sleep(40.0)
    assert not daemon.works()
    await asyncio.sleep(MARKER_TTL - 40.0 + 2 * LOOK_INTERVAL)
    assert daemon.works()


async def test_without_an_answer_of_the_bbs_nothing_is_changed_after_a_while_and_again_afterwards() -> None:
    async def fail() -> None:
        raise Unavailable("bbs", "ConnectionFailed", "refused")

    bbs = Bbs()
    daemon = start(bbs, LESSER)
    await asyncio.sleep(1.0)
    bbs.way = fail
    await asyncio.sleep(60.0)
    assert daemon.works()
    await asyncio.sleep(60.0)
    assert not daemon.works()
    with pytest.raises(Unavailable, match="not taken the marker"):
        daemon.marker.check()

    bbs.way = at_once
    await asyncio.sleep(2 * LOOK_INTERVAL)
    assert daemon.works()


async def test_a_start_without_a_bbs_goes_on_and_changes_nothing_before_the_store_is_marked() -> None:
    async def fail() -> None:
        raise Unavailable("bbs", "ConnectionFailed", "refused")

    bbs = Bbs(fail)
    for claim in ("claim", "claim_at_once"):
        marker = StoreMarker(bbs, LESSER, metrics=Metrics(), clock=now)
        await getattr(marker, claim)()
        assert not marker.may_change


async def test_a_command_without_a_daemon_is_refused_while_another_store_is_active() -> None:
    bbs = Bbs()
    start(bbs, LESSER)
    await asyncio.sleep(1.0)

    with pytest.raises(Conflict, match=LESSER) as refused:
        await StoreMarker(bbs, GREATER, metrics=Metrics(), clock=now).claim_at_once()

    assert refused.value.code == ErrorCode.OTHER_STORE_ACTIVE
    assert marker_of(GREATER) not in bbs.state.fresh_domains()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_at_most_one_store_works_and_in_the_end_one_does(seed: int) -> None:
    """Slow and lost calls, processes that stand still, are killed and start again with this or a new store."""
    chance, is_calm = random.Random(seed), False

    async def trouble() -> None:
        if is_calm or chance.random() < 0.3:
            return
        what = chance.random()
        if what < 0.8:
            await asyncio.sleep(chance.uniform(0.0, 3.0))
        elif what < 0.93:
            await asyncio.sleep(chance.uniform(0.0, 10.0))
            raise Unavailable("bbs", "Timeout", "no answer")
        else:
            await asyncio.sleep(chance.uniform(0.0, 300.0))  # as after SIGSTOP

    bbs = Bbs(trouble)

    def new_store() -> StoreId:
        return StoreId(str(UUID(int=chance.getrandbits(128), version=4)))

    daemons = {store: start(bbs, store) for store in (new_store(), new_store(), new_store())}
    for _ in range(800):
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        assert sum(daemon.works() for daemon in daemons.values()) <= 1
        if chance.random() < 0.01:
            store = chance.choice(list(daemons))
            await daemons.pop(store).kill()
            again = new_store() if chance.random() < 0.5 else store
            daemons[again] = start(bbs, again)
    is_calm = True
    await asyncio.sleep(300.0 + 3 * (LONGEST_WAIT + COURTESY) + PATIENCE)

    assert sum(daemon.works() for daemon in daemons.values()) == 1
