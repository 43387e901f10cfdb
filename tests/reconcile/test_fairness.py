"""Whose turn it is: by example, and as a law about any number of tenants."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from reconcile.fairness import BACKLOG_TURN, FairShares, Share, Slots, Urgency

ONE_AT_A_TIME = Slots(common=1, reserve=0)


def shares(slots: Slots = ONE_AT_A_TIME, **waiting: int) -> FairShares[str]:
    """Let some numbers of jobs of organizations wait, all from one host."""
    line: FairShares[str] = FairShares(slots)
    for organization, number in waiting.items():
        for n in range(number):
            line.add(f"{organization}{n}", Share(organization, "r.example"))
    return line


def drain(line: FairShares[str], turns: int | None = None) -> list[str]:
    """Take one job after another, each when the one before has ended."""
    taken = list[str]()
    while turns is None or len(taken) < turns:
        key = line.choose()
        if key is None:
            return taken
        taken.append(key)
        line.release(key)
    return taken


def test_organizations_take_turns_however_many_jobs_each_has() -> None:
    line = shares(a=1000, b=2)

    assert drain(line, 4) == ["a0", "b0", "a1", "b1"]


def test_jobs_of_one_organization_run_in_the_order_in_which_they_came() -> None:
    assert drain(shares(a=3)) == ["a0", "a1", "a2"]


def test_an_organization_that_comes_later_does_not_make_up_for_the_turns_before() -> None:
    line = shares(a=100)
    drain(line, 50)
    for n in range(10):
        line.add(f"b{n}", Share("b", "r.example"))

    assert Counter(key[0] for key in drain(line, 10)) == {"a": 5, "b": 5}


def test_an_organization_with_a_weight_gets_so_many_turns() -> None:
    line = shares(Slots(common=1, reserve=0, organizations={"a": 3.0}), a=100, b=100)

    assert Counter(key[0] for key in drain(line, 40)) == {"a": 30, "b": 10}


def test_hosts_of_one_organization_take_turns_by_weight() -> None:
    line: FairShares[str] = FairShares(Slots(common=1, reserve=0, hosts={"x.example": 2.0}))
    for n in range(50):
        line.add(f"x{n}", Share("a", "x.example"))
        line.add(f"y{n}", Share("a", "y.example"))

    assert Counter(key[0] for key in drain(line, 30)) == {"x": 20, "y": 10}


def test_stagings_go_first_and_every_fourth_turn_is_the_backlogs() -> None:
    line: FairShares[str] = FairShares(ONE_AT_A_TIME)
    for n in range(100):
        line.add(f"backlog{n}", Share("a", "r.example", Urgency.BACKLOG))
        line.add(f"staging{n}", Share("b", "r.example", Urgency.STAGING))

    kinds = [key.rstrip("0123456789") for key in drain(line, 2 * BACKLOG_TURN)]

    assert kinds == ["staging", "staging", "staging", "backlog"] * 2


def test_the_backlog_has_all_turns_while_nothing_else_waits() -> None:
    line: FairShares[str] = FairShares(ONE_AT_A_TIME)
    for n in range(3):
        line.add(f"{n}", Share("a", "r.example", Urgency.BACKLOG))

    assert drain(line) == ["0", "1", "2"]


def test_one_organization_uses_all_common_slots_and_no_reserve() -> None:
    line = shares(Slots(common=4, reserve=4), a=10)

    assert [line.choose() for _ in range(5)] == ["a0", "a1", "a2", "a3", None]


def test_whoever_holds_all_common_slots_keeps_no_other_organization_waiting() -> None:
    line = shares(Slots(common=4, reserve=4), a=10)
    for _ in range(4):
        line.choose()
    for organization in ("b", "c"):
        for n in range(2):
            line.add(f"{organization}{n}", Share(organization, "r.example"))

    assert [line.choose() for _ in range(3)] == ["b0", "c0", None]


def test_the_first_slot_that_ends_goes_to_who_has_least_under_way() -> None:
    line = shares(Slots(common=4, reserve=4), a=10)
    for _ in range(4):
        line.choose()
    line.add("b0", Share("b", "r.example"))
    line.add("b1", Share("b", "r.example"))
    assert line.choose() == "b0"

    line.release("a0")
    line.release("a1")

    assert line.choose() == "b1"


def test_a_hanging_host_holds_up_no_other_host_of_the_same_organization() -> None:
    line: FairShares[str] = FairShares(Slots(common=4, reserve=4))
    for organization in ("a", "b", "c", "d"):
        line.add(organization, Share(organization, "hangs.example"))
        line.choose()
    line.add("other", Share("a", "r.example"))
    line.add("same", Share("a", "hangs.example"))

    assert [line.choose(), line.choose()] == ["other", None]


def test_an_organization_with_ever_new_hosts_does_not_get_the_reserve_by_them() -> None:
    line: FairShares[str] = FairShares(Slots(common=4, reserve=4))
    for n in range(100):
        line.add(f"{n}", Share("a", f"{n}.attacker.example"))

    assert sum(line.choose() is not None for _ in range(100)) == 4


def test_a_staging_need_not_wait_for_the_backlog_of_its_own_organization() -> None:
    line: FairShares[str] = FairShares(Slots(common=2, reserve=2))
    for n in range(5):
        line.add(f"backlog{n}", Share("a", "r.example", Urgency.BACKLOG))
    assert [line.choose(), line.choose(), line.choose()] == ["backlog0", "backlog1", None]

    line.add("staging", Share("a", "r.example", Urgency.STAGING))

    assert line.choose() == "staging"


def test_a_job_that_two_organizations_asked_for_runs_once_at_the_first_turn_of_either() -> None:
    line = shares(a=3)
    line.add("shared", Share("a", "r.example"))
    line.add("shared", Share("b", "r.example"))

    assert drain(line) == ["a0", "shared", "a1", "a2"]
    assert len(line) == 0


def test_a_job_that_is_discarded_waits_no_longer() -> None:
    line = shares(a=2)
    line.discard("a0")
    line.discard("unknown")

    assert drain(line) == ["a1"]


def test_nothing_is_kept_of_organizations_that_have_nothing_any_more() -> None:
    line: FairShares[str] = FairShares(Slots(common=2, reserve=2))
    for n in range(1000):
        line.add(f"{n}", Share(f"organization {n}", f"{n}.example", Urgency(n % 2)))
    drain(line)

    kept = [name for name, value in vars(line).items() if hasattr(value, "__len__") and len(value)]
    assert kept == ["_counts", "_lines"]
    assert not any(line._counts.values())
    assert not any(line._lines.values())
    assert not line._organizations._given
    assert not line._organizations._running


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from(Urgency)), max_size=40),
    st.lists(st.booleans(), max_size=80),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_every_job_runs_once_and_no_more_at_a_time_than_there_are_slots(
    jobs: list[tuple[int, int, Urgency]], ends: list[bool], common: int, reserve: int
) -> None:
    line: FairShares[int] = FairShares(Slots(common, reserve))
    waiting, numbers = iter(jobs), count()
    added, taken, running = list[int](), list[int](), list[int]()
    for ends_one in [*ends, *[True, False, False] * 50]:
        if ends_one and running:
            line.release(running.pop(0))
        for organization, host, urgency in islice(waiting, 1):
            added.append(number := next(numbers))
            line.add(number, Share(f"{organization}", f"{host}.example", urgency))
        key = line.choose()
        if key is None:
            assert len(line) == 0 or len(running) >= common
            continue
        running.append(key)
        taken.append(key)
        assert len(running) <= common + reserve

    assert sorted(taken) == added


def test_a_job_that_waits_with_both_urgencies_counts_for_the_higher() -> None:
    line: FairShares[str] = FairShares(Slots())
    for key, urgency in (("a", Urgency.BACKLOG), ("a", Urgency.STAGING), ("b", Urgency.BACKLOG)):
        line.add(key, Share("acme", "docker.io", urgency))
    line.add("a", Share("acme", "docker.io", Urgency.BACKLOG))  # once more

    assert [line.count(each) for each in (Urgency.STAGING, Urgency.BACKLOG)] == [1, 1]
    assert line.choose() == "a"
    assert [line.count(each) for each in (Urgency.STAGING, Urgency.BACKLOG)] == [0, 1]
    line.discard("b")
    line.discard("b")
    assert [line.count(each) for each in (Urgency.STAGING, Urgency.BACKLOG)] == [0, 0]


def test_another_thread_may_count_while_keys_come_and_go() -> None:
    line: FairShares[str] = FairShares(Slots())
    for number in range(2000):
        line.add(f"stays{number}", Share("acme", "docker.io"))
    with ThreadPoolExecutor(1) as threads:
        counting = threads.submit(lambda: [line.count(Urgency.STAGING) for _ in range(200)])
        while not counting.done():
            line.add("comes and goes", Share("acme", "docker.io"))
            line.discard("comes and goes")

    assert set(counting.result()) <= {2000, 2001}
