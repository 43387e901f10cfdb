"""A lease ends before another instance can have the lock, and never begins anew."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from reconcile.lease import Lease, LeaseTimes

TIMES = LeaseTimes(ttl=15.0, retry_interval=5.0)


def test_a_process_that_never_held_the_lock_may_not_act() -> None:
    assert Lease().remaining(0.0) == 0.0
    assert not Lease().at(1e9).lost


def test_a_lease_counts_from_when_the_request_was_sent() -> None:
    lease = Lease().renewed(100.0, 104.0, TIMES)

    assert lease.valid_until == 112.0
    assert lease.remaining(104.0) == 8.0


def test_a_lease_that_has_ended_is_not_renewed() -> None:
    """Another instance may have held the lock, and given it back, in between."""
    lease = Lease().renewed(100.0, 100.1, TIMES).renewed(111.0, 112.0, TIMES)

    assert lease.lost == "the lock was not renewed in time: the lease ended 0.0 s ago"
    assert lease.renewed(112.5, 112.6, TIMES) == lease


def test_a_revoked_lease_stays_so_with_its_first_reason() -> None:
    lease = Lease().renewed(100.0, 100.1, TIMES).revoked("stolen").revoked("released")

    assert lease.lost == "stolen"
    assert lease.remaining(100.2) == 0.0
    assert lease.renewed(100.3, 100.4, TIMES).lost == "stolen"


def test_an_answer_to_an_older_renewal_shortens_no_lease() -> None:
    lease = Lease().renewed(105.0, 105.1, TIMES).renewed(100.0, 105.2, TIMES)

    assert lease.valid_until == 117.0


def test_the_times_of_the_family_can_be_kept_and_tighter_ones_cannot() -> None:
    assert TIMES.can_be_kept
    assert not LeaseTimes(ttl=12.0, retry_interval=5.0).can_be_kept
    assert not LeaseTimes(ttl=15.0, retry_interval=0.0).can_be_kept


@dataclass
class World:
    """A lock service that frees the lock at the first moment that it may, and one holder of it."""

    now: float = 0.0
    free_at: float = 0.0
    was_free: bool = False
    lease: Lease = field(default_factory=Lease)

    def renew(self, waits: float, travels: float, answers: float) -> None:
        """Send a renewal after a while; it reaches the service later, and its answer comes later still."""
        self.now += waits
        sent = self.now
        self.now += travels
        self.was_free |= self.lease.valid_until is not None and self.now >= self.free_at
        self.free_at = self.now + TIMES.ttl
        self.now += answers
        self.lease = self.lease.renewed(sent, self.now, TIMES)


delays = st.floats(0, 20)


@given(st.lists(st.tuples(delays, delays, delays), max_size=12), delays)
def test_no_instance_may_act_while_another_could_have_had_the_lock(
    renewals: list[tuple[float, float, float]], later: float
) -> None:
    world = World()
    for renewal in renewals:
        world.renew(*renewal)
    at = world.now + later

    if world.lease.remaining(at):
        assert not world.was_free
        assert at < world.free_at
