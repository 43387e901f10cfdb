from controller.leadership.lease import ActiveLease, lease_without_lock
from controller.leadership.ports import Holder, HolderNote
from controller.leadership.standing import Standing
from reconcile.lease import LeaseTimes

HOLDER = Holder("a-1", HolderNote("a", "1", "a:8910", 1_767_225_600.0, "1"))


def standby() -> ActiveLease:
    return ActiveLease(LeaseTimes(15.0, 5.0), clock=lambda: 1000.0, wall_clock=lambda: 1.7e9)


def test_a_process_that_waits_says_for_what_until_it_knows_who_is_active() -> None:
    found: list[Holder] = []
    standing = Standing("b", standby(), lambda: found[0] if found else None)
    standing.reach("it waits for the lock")

    assert standing.position.obstacle == "it waits for the lock"
    found.append(HOLDER)
    position = standing.position
    assert position.obstacle == (
        "it stands by: instance a at a:8910 since 2026-01-01T00:00:00+00:00 is active"
    )
    assert (position.is_active, position.since, position.lease, position.holder) == (False, None, 0.0, HOLDER)


def test_an_active_process_is_ready_when_its_loops_run() -> None:
    lease = standby()
    standing = Standing("a", lease)
    lease.renewed(1000.0)
    standing.reach("it takes over")

    assert standing.position.obstacle == "it takes over"
    standing.reach("")
    position = standing.position
    assert position.obstacle == ""
    assert (position.is_active, position.since, position.lease) == (True, 1.7e9, 12.0)


def test_something_else_may_keep_an_active_process_from_being_ready() -> None:
    standing, obstacle = Standing("a", lease_without_lock()), ["another store is in use"]
    standing.reach("")
    standing.add_obstacle(lambda: obstacle[0])

    assert standing.position.obstacle == "another store is in use"
    obstacle[0] = ""
    assert standing.position.obstacle == ""


def test_a_process_that_lost_its_lease_says_why() -> None:
    lease = lease_without_lock()
    standing = Standing("a", lease)
    standing.reach("")
    lease.revoke("the lock could not be renewed")

    assert standing.position.obstacle == "it is not active any more: the lock could not be renewed"
