"""How the simulated Locket lets keys expire: as the timers of its servers have it, never early and at most 5 s late."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protos.locket import locket_pb2 as pb
from tests.simulators.locket import SCAN_INTERVAL, State
from tests.simulators.locket.state import MAX_KEY, MAX_OWNER, MAX_VALUE, Burglar, Refusal, Refused

TTL = 15
KEY = "some-lock"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A state, with a clock that stands still until it is moved."""

    clock: Clock = field(default_factory=Clock)
    state: State = field(init=False)
    first: Burglar = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(self.clock)
        self.first = self.state.start_server()

    def lock(self, owner: str, *, by: Burglar | None = None, value: str = "") -> None:
        self.state.lock(request_of(owner, value=value), by or self.first)

    def is_free(self) -> bool:
        return KEY not in self.state.rows


def request_of(
    owner: str, *, value: str = "", ttl: int = TTL, code: pb.TypeCode = pb.LOCK, key: str = KEY
) -> pb.LockRequest:
    resource = pb.Resource(key=key, owner=owner, value=value, type="lock", type_code=code)
    return pb.LockRequest(resource=resource, ttl_in_seconds=ttl)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_key_belongs_to_one_owner_until_it_is_released(scene: Scene) -> None:
    scene.lock("one")
    with pytest.raises(Refusal, match="lock-collision"):
        scene.lock("two")
    with pytest.raises(Refusal, match="lock-collision"):
        scene.state.release(pb.Resource(key=KEY, owner="two"))

    scene.state.release(pb.Resource(key=KEY, owner="one"))
    scene.lock("two")

    assert scene.state.fetch(KEY).owner == "two"


def test_a_renewal_changes_the_row_and_keeps_its_identity(scene: Scene) -> None:
    scene.lock("one", value="a")
    before = scene.state.rows[KEY]
    scene.lock("one", value="b")

    row = scene.state.rows[KEY]
    assert (row.value, row.index, row.row_id) == ("b", 2, before.row_id)


def test_a_key_expires_when_its_time_is_over_and_not_before(scene: Scene) -> None:
    scene.lock("one")

    scene.clock.now += TTL - 0.1
    assert not scene.is_free()
    scene.clock.now += 0.1
    assert scene.is_free()
    assert [row.owner for row in scene.state.expired] == ["one"]


def test_each_renewal_restarts_the_time(scene: Scene) -> None:
    scene.lock("one")
    for _ in range(10):
        scene.clock.now += TTL - 1
        scene.lock("one")

    scene.clock.now += TTL - 1
    assert not scene.is_free()
    scene.clock.now += 1
    assert scene.is_free()


def test_a_key_expires_late_when_the_server_that_has_renewed_it_is_gone(scene: Scene) -> None:
    other = scene.state.start_server()  # looks at all rows at 1000, 1005 and so on
    scene.clock.now += 1
    scene.lock("one", by=other)
    scene.state.stop_server(other)

    scene.clock.now += TTL
    assert not scene.is_free(), "the first server has known of it for 11 s only"
    with pytest.raises(Refusal, match="lock-collision"):
        scene.lock("two")
    assert scene.state.fetch_all(pb.LOCK)[0].owner == "one"
    scene.clock.now += 4
    assert scene.is_free()


def test_nothing_expires_while_no_server_runs_and_the_next_one_begins_with_the_full_time(
    scene: Scene,
) -> None:
    scene.lock("one")
    scene.state.stop_server(scene.first)
    scene.clock.now += 1000
    assert not scene.is_free()

    scene.state.start_server()
    scene.clock.now += TTL - 0.1
    assert not scene.is_free()
    scene.clock.now += 0.1
    assert scene.is_free()


def test_a_row_that_was_made_anew_outlives_the_timer_of_the_one_before(scene: Scene) -> None:
    scene.lock("one")
    scene.state.release(pb.Resource(key=KEY, owner="one"))
    scene.clock.now += TTL - 1
    scene.lock("one")

    scene.clock.now += 1
    assert not scene.is_free()


def test_a_stolen_key_has_another_owner_for_its_time(scene: Scene) -> None:
    scene.lock("one")
    scene.state.steal(KEY, "thief")

    with pytest.raises(Refusal, match="lock-collision"):
        scene.lock("one")
    scene.clock.now += TTL
    assert scene.is_free()


def test_locks_and_presences_share_their_keys(scene: Scene) -> None:
    scene.state.lock(request_of("cell", code=pb.PRESENCE), scene.first)

    with pytest.raises(Refusal, match="lock-collision"):
        scene.lock("one")
    assert scene.state.fetch(KEY).type_code == pb.PRESENCE
    assert scene.state.fetch_all(pb.LOCK) == []
    assert [each.key for each in scene.state.fetch_all(pb.PRESENCE)] == [KEY]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (request_of("", ttl=0, code=pb.UNKNOWN), Refused.INVALID_TYPE),
        (request_of("", ttl=0), Refused.INVALID_TTL),
        (request_of("one", ttl=-1), Refused.INVALID_TTL),
        (request_of(""), Refused.INVALID_OWNER),
        (request_of("one", key="k" * (MAX_KEY + 1)), Refused.BAD_REQUEST),
        (request_of("o" * (MAX_OWNER + 1)), Refused.BAD_REQUEST),
        (request_of("one", value="v" * (MAX_VALUE + 1)), Refused.BAD_REQUEST),
    ],
)
def test_a_wrong_request_is_refused_in_the_order_of_the_checks(
    scene: Scene, request_: pb.LockRequest, why: Refused
) -> None:
    with pytest.raises(Refusal) as refused:
        scene.state.lock(request_, scene.first)

    assert refused.value.why is why
    assert scene.is_free()


class Expiry(RuleBasedStateMachine):
    """However servers come and go: no key expires early, and none lives on for long while a server runs."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.state = State(self.clock)
        self.servers = [self.state.start_server()]
        self.written_at = self.watched_since = self.clock.now
        self.is_locked = False

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.9, 5.0, 7.3, 14.9]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: self.servers)
    def lock(self, which: int) -> None:
        self.state.lock(request_of("one"), self.servers[which % len(self.servers)])
        self.written_at, self.is_locked = self.clock.now, True

    @rule()
    @precondition(lambda self: len(self.servers) < 3)
    def start(self) -> None:
        if not self.servers:
            self.watched_since = self.clock.now
        self.servers.append(self.state.start_server())

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: self.servers)
    def stop(self, which: int) -> None:
        server = self.servers.pop(which % len(self.servers))
        self.state.stop_server(server)
        # Others may know of the last write for less time.
        self.watched_since = self.clock.now

    @invariant()
    def no_key_expires_early_or_very_late(self) -> None:
        is_free = KEY not in self.state.rows
        age = self.clock.now - self.written_at
        if self.is_locked and is_free:
            assert age >= TTL - 1e-6, "sums of floating-point numbers are not exact"
            self.is_locked = False
        if self.is_locked and self.servers:
            latest = max(self.written_at, self.watched_since) + TTL + SCAN_INTERVAL
            assert self.clock.now <= latest


TestExpiry = Expiry.TestCase
TestExpiry.settings = settings(max_examples=30, stateful_step_count=30)
