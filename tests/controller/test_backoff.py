"""The pause between attempts, as a function of the attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.backoff import backoff, exact_backoff

FAILURES = st.integers(1, 10_000)


@given(FAILURES)
def test_a_pause_lies_in_the_upper_half_of_the_doubled_one(failures: int) -> None:
    whole = min(0.5 * 2.0 ** min(failures - 1, 100), 300.0)

    assert whole / 2 <= backoff(0.5, 300.0)(failures) <= whole


def test_pauses_of_the_same_attempt_differ() -> None:
    pause = backoff(1.0, 60.0)

    assert len({pause(5) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 5.0), (2, 10.0), (6, 160.0), (7, 300.0), (8, 300.0), (5000, 300.0)]
)
def test_an_exact_pause_doubles_up_to_the_longest(failures: int, seconds: float) -> None:
    assert exact_backoff(5.0, 300.0)(failures) == seconds


def test_a_first_pause_that_is_longer_than_the_longest_is_cut() -> None:
    assert exact_backoff(5.0, 2.0)(1) == 2.0
    assert 1.0 <= backoff(5.0, 2.0)(1) <= 2.0
