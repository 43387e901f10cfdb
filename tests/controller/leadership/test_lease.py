from dataclasses import dataclass

import pytest

from controller.leadership.lease import ActiveLease, boot_time, lease_without_lock
from reconcile.errors import LeaseLost, RateLimited, Unavailable
from reconcile.lease import LeaseTimes


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(clock: Clock) -> ActiveLease:
    return ActiveLease(LeaseTimes(15.0, 5.0), clock=clock, wall_clock=lambda: 1.7e9)


def test_a_standby_is_refused(lease: ActiveLease) -> None:
    with pytest.raises(LeaseLost, match="another instance is active, or none yet"):
        lease.check()
    assert (lease.remaining(), lease.since, lease.lost, lease.is_active) == (0.0, None, "", False)


def test_an_active_process_may_act_until_its_lease_ends(lease: ActiveLease, clock: Clock) -> None:
    lease.renewed(clock.now)

    lease.check()
    assert (lease.remaining(), lease.since, lease.is_active) == (12.0, 1.7e9, True)
    clock.now += 12.0
    with pytest.raises(LeaseLost, match="the lock was not renewed in time"):
        lease.check()
    assert not lease.is_active


def test_a_lease_that_ended_unseen_does_not_begin_anew(lease: ActiveLease, clock: Clock) -> None:
    """As after SIGSTOP and SIGCONT: the lock service lets the same owner renew, whoever held it meanwhile."""
    lease.renewed(clock.now)
    clock.now += 60.0

    with pytest.raises(LeaseLost):
        lease.renewed(clock.now)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_lock_that_was_taken_too_long_ago_gives_no_lease(lease: ActiveLease, clock: Clock) -> None:
    started, clock.now = clock.now, clock.now + 12.0

    with pytest.raises(LeaseLost):
        lease.renewed(started)
    assert lease.since is None


def test_a_revoked_lease_says_why(lease: ActiveLease, clock: Clock) -> None:
    lease.renewed(clock.now)
    lease.revoke("another instance holds the lock")

    with pytest.raises(LeaseLost, match="another instance holds the lock") as caught:
        lease.check()
    assert (caught.value.system, caught.value.code, caught.value.may_have_happened) == (
        "leadership",
        "not-active",
        False,
    )
    assert isinstance(caught.value, Unavailable)
    assert not isinstance(caught.value, RateLimited)


def test_a_process_without_a_lock_is_always_active_until_it_is_stopped() -> None:
    lease = lease_without_lock()

    lease.check()
    assert lease.remaining() == float("inf")
    lease.revoke("stopped")
    assert not lease.is_active


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    assert boot_time() <= boot_time()
