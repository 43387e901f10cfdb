"""Who must wait after failed copies have transferred too many bytes."""

from hypothesis import given
from hypothesis import strategies as st

from reconcile.failed_bytes import DAY, MOST_ORGANIZATIONS, FailedBytes, FailedBytesBudget

ACME, UMBRELLA = frozenset({"acme"}), frozenset({"umbrella"})


def test_an_organization_waits_until_less_than_its_budget_is_left_of_a_day() -> None:
    budget = FailedBytesBudget(100)
    budget.add(ACME, 60, 0.0)
    assert budget.seconds_until_allowed(ACME, 1.0) == 0

    budget.add(ACME, 60, 7200.0)

    assert budget.seconds_until_allowed(ACME, 7200.0) == DAY - 7200.0
    assert budget.seconds_until_allowed(ACME, DAY - 1) == 1
    assert budget.seconds_until_allowed(ACME, DAY) == 0
    assert budget.seconds_until_allowed(UMBRELLA, 7200.0) == 0


def test_a_copy_that_several_ask_for_is_made_as_soon_as_one_of_them_may_have_it_and_counts_for_all() -> None:
    budget = FailedBytesBudget(100)
    budget.add(ACME, 100, 0.0)
    assert budget.seconds_until_allowed(ACME | UMBRELLA, 0.0) == 0

    budget.add(ACME | UMBRELLA, 100, 0.0)

    assert budget.seconds_until_allowed(ACME | UMBRELLA, 0.0) == DAY


def test_what_is_taken_back_does_not_count() -> None:
    budget = FailedBytesBudget(100)
    budget.add(ACME, 150, 0.0)
    budget.add(ACME, -150, 5000.0)
    assert budget.seconds_until_allowed(ACME, 5000.0) == 0


def test_so_many_organizations_are_remembered_and_no_more() -> None:
    budget = FailedBytesBudget(1)
    for n in range(3 * MOST_ORGANIZATIONS):
        budget.add(frozenset({str(n)}), 1, float(n))
    known = [
        n for n in range(3 * MOST_ORGANIZATIONS) if budget.seconds_until_allowed(frozenset({str(n)}), 3000.0)
    ]
    assert known == list(range(2 * MOST_ORGANIZATIONS, 3 * MOST_ORGANIZATIONS))


@given(st.lists(st.tuples(st.floats(0, 3 * DAY), st.integers(0, 60)), max_size=60), st.floats(0, DAY))
def test_whatever_fails_few_hours_are_kept_and_no_wait_is_longer_than_a_day(
    failures: list[tuple[float, int]], later: float
) -> None:
    now = max((at for at, _ in failures), default=0.0) + later
    seen = FailedBytes()
    for at, size in sorted(failures):
        seen = seen.added(size, at)
    assert len(seen.parts) <= 25

    seconds = seen.seconds_until_below(100, now)

    assert 0 <= seconds <= DAY
    assert seen.seconds_until_below(100, now + seconds) == 0
