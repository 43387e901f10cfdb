"""What a chaos run with several instances would notice: two that act, and one that acts too late."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.locket.lock import LOCK_KEY
from protos.locket.locket_pb2 import LOCK, LockRequest, ReleaseRequest, Resource
from reconcile.lease import LeaseTimes
from tests.daemon.chaos.lock_watch import LOCK as WATCHED
from tests.daemon.chaos.lock_watch import LockWatch
from tests.daemon.chaos.store_watch import DATABASE, StoreWatch
from tests.daemon.chaos.takeovers import LATE_EXPIRY, RECOVERY, TakeOvers
from tests.daemon.invariants import Invariants
from tests.own_server import OwnServer, run_own_server
from tests.simulators.bbs import Bbs
from tests.simulators.capi.server import CapiSimulator, HttpService
from tests.simulators.certificates import make_certificates
from tests.simulators.cloud_controller import CloudController, InProcess
from tests.simulators.locket import State

pytestmark = pytest.mark.usefixtures("servers")

TIMES = LeaseTimes(ttl=10.0, retry_interval=2.0)
REMOVE = "/v1/desired_lrp/remove"
FIRST, SECOND = "instance-1", "instance-2"


class Locking:
    """A lock that is watched, with a clock that a test sets."""

    def __init__(self, bbs: Bbs) -> None:
        self.now = 100.0
        self.bbs = bbs
        self.state = State(lambda: self.now)
        cloud = CloudController(InProcess(bbs))
        self.capi = CapiSimulator(cloud)
        self.invariants = Invariants(bbs, [], cloud)
        self.watch = LockWatch(self.invariants, self.state, TIMES, lambda: self.now)
        self._burglar = self.state.start_server()

    def lock(self, name: str) -> None:
        resource = Resource(key=LOCK_KEY, owner=f"{name}-run", type_code=LOCK)
        self.state.lock(LockRequest(resource=resource, ttl_in_seconds=10), self._burglar)

    def change(self, name: str, path: str = REMOVE) -> list[str]:
        """Let an instance call the BBS, and give what was noticed."""
        for caller in self.bbs.named_callers:
            caller(name, path)
        return self.invariants.violations

    def ask(self, service: HttpService, client: str, what: str) -> list[str]:
        """Let a client ask Cloud Controller or UAA, and give what was noticed."""
        for caller in service.callers:
            caller(client, what)
        return self.invariants.violations


@pytest.fixture
async def locking(tmp_path: Path) -> AsyncIterator[Locking]:
    async with Bbs(make_certificates(tmp_path)) as bbs:
        made = Locking(bbs)
        with made.watch.watching(bbs, made.capi):
            yield made


def test_the_lock_that_is_watched_is_that_of_the_program() -> None:
    assert WATCHED == LOCK_KEY


async def test_who_holds_the_lock_may_change_the_bbs(locking: Locking) -> None:
    locking.lock(FIRST)
    locking.now += TIMES.length

    assert locking.change(FIRST) == []
    assert locking.watch.changes[FIRST] == 1


async def test_who_does_not_hold_the_lock_may_read_alone(locking: Locking) -> None:
    locking.lock(FIRST)

    assert locking.change(SECOND, "/v1/desired_lrps/list.r3") == []
    assert locking.change(SECOND) == [f"{SECOND} changes the BBS by {REMOVE} while {FIRST}-run has the lock"]


async def test_who_has_given_the_lock_back_changes_nothing(locking: Locking) -> None:
    locking.lock(FIRST)
    locking.state.release(ReleaseRequest(resource=Resource(key=LOCK_KEY, owner=f"{FIRST}-run")).resource)

    assert locking.change(FIRST) == [f"{FIRST} changes the BBS by {REMOVE} while nobody has the lock"]


async def test_nothing_is_changed_after_the_lease_although_nobody_else_has_the_lock(locking: Locking) -> None:
    locking.lock(FIRST)
    locking.now += TIMES.ttl

    assert locking.change(FIRST) == [f"{FIRST} changes the BBS by {REMOVE} 2.00 s after its lease has ended"]


async def test_who_does_not_hold_the_lock_asks_cloud_controller_for_nothing(locking: Locking) -> None:
    locking.lock(FIRST)
    capi, what = locking.capi, "GET /v3/droplets"
    assert locking.ask(capi.api, FIRST, what) == []
    assert locking.ask(capi.api, "", what) == [], "whose token has ended nobody knows"

    noticed = f"{SECOND} asks Cloud Controller: {what} while {FIRST}-run has the lock"
    assert locking.ask(capi.api, SECOND, what) == [noticed]
    assert len(locking.ask(capi.uaa, SECOND, "POST /oauth/token")) == 2
    assert locking.watch.questions == {FIRST: 1, SECOND: 2}


async def test_an_instance_that_writes_to_the_store_in_the_term_of_another_is_noticed() -> None:
    async with run_own_server() as server:
        watch = StoreWatch(server)
        await watch.prepare(FIRST, SECOND)
        write(server, FIRST, "CREATE TABLE leadership (term bigint); INSERT INTO leadership VALUES (0)")
        write(server, FIRST, "CREATE TABLE jobs (name text)")
        write(server, FIRST, "UPDATE leadership SET term = 1", "INSERT INTO jobs VALUES ('in time')")
        write(server, SECOND, "UPDATE leadership SET term = 2", "INSERT INTO jobs VALUES ('in time')")
        assert await watch.find_late_writes() == []

        write(server, FIRST, "INSERT INTO jobs VALUES ('late')")

        assert await watch.find_late_writes() == [f"{FIRST} has written to jobs in the term 2 of {SECOND}"]
        assert (watch.writes, watch.terms) == (3, 2)


def write(server: OwnServer, user: str, *statements: str) -> None:
    with server.connect(DATABASE) as connection:
        connection.execute(f'SET SESSION AUTHORIZATION "{user}"')
        for statement in statements:
            connection.execute(statement)


AT_MOST = TIMES.ttl + LATE_EXPIRY + TIMES.retry_interval + RECOVERY


def test_a_take_over_that_takes_too_long_is_told_once() -> None:
    takeovers = TakeOvers(TIMES)

    told = [takeovers.wait(seconds, is_held=False) for seconds in (AT_MOST, 0.5, 0.5)]

    assert told == ["", f"nobody has taken over within {AT_MOST} s", ""]


def test_a_take_over_begins_anew_when_whoever_takes_over_ends() -> None:
    takeovers = TakeOvers(TIMES)
    takeovers.wait(AT_MOST, is_held=True)

    assert takeovers.wait(1.0, is_held=False) == ""
    takeovers.work()
    assert takeovers.longest == (1.0, AT_MOST)


def test_a_take_over_may_take_longer_when_locket_fails() -> None:
    takeovers = TakeOvers(TIMES)
    takeovers.wait(AT_MOST, is_held=False)
    takeovers.grant_calls(2)

    assert takeovers.wait(2 * TIMES.retry_interval, is_held=False) == ""
    assert takeovers.wait(0.1, is_held=False) != ""
