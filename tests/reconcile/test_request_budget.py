"""Which requests may go out, by what was sent and by what the server says of its limit."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.request_budget import HOUR, BudgetSettings, RequestBudget, RequestUse, StatedLimit

URGENT, BACKGROUND, CHANGE = RequestUse.URGENT, RequestUse.BACKGROUND, RequestUse.BACKGROUND_CHANGE
SETTINGS = BudgetSettings(per_hour=2000, background_share=0.5)


def after(budget: RequestBudget, now: float, *, urgent: int = 0, background: int = 0) -> RequestBudget:
    for use, count in ((URGENT, urgent), (BACKGROUND, background)):
        for _ in range(count):
            budget = budget.sent(now, use)
    return budget


def test_the_configured_limit_holds_for_an_hour_from_the_first_request() -> None:
    budget = after(RequestBudget(SETTINGS), 100.0, urgent=2000)

    assert budget.left(200.0) == 0
    assert budget.delay(200.0, URGENT) == HOUR - 100.0
    assert budget.delay(100.0 + HOUR, URGENT) == 0.0
    assert budget.left(100.0 + HOUR) == 2000


def test_the_background_may_use_a_tenth_of_its_share_at_once_and_the_rest_in_equal_steps() -> None:
    budget = after(RequestBudget(SETTINGS), 0.0, background=99)
    assert budget.delay(0.0, BACKGROUND) == 0.0

    budget = budget.sent(0.0, BACKGROUND)
    assert budget.delay(0.0, BACKGROUND) == pytest.approx(HOUR / 901)

    budget = after(budget, 0.0, background=450)
    assert budget.delay(0.0, BACKGROUND) == pytest.approx(HOUR * 451 / 901)


def test_a_change_of_the_background_waits_for_nothing_and_counts_for_the_background() -> None:
    budget = after(RequestBudget(SETTINGS), 0.0, background=999)

    assert budget.delay(0.0, CHANGE) == 0.0
    budget = budget.sent(0.0, CHANGE)
    assert budget.delay(HOUR - 10, BACKGROUND) == 10.0
    assert budget.delay(0.0, CHANGE) == 0.0

    spent = after(budget, 0.0, urgent=1000)
    assert spent.delay(0.0, CHANGE) == HOUR


def test_the_background_stops_at_its_share_though_all_else_is_unused() -> None:
    budget = after(RequestBudget(SETTINGS), 0.0, background=1000)

    assert budget.delay(HOUR - 10, BACKGROUND) == 10.0
    assert budget.delay(HOUR - 10, URGENT) == 0.0


def test_what_others_use_of_the_same_limit_is_left_to_what_is_urgent() -> None:
    """The reserve is a thousand, less what urgent requests have used of it."""
    budget = after(RequestBudget(SETTINGS), 0.0, urgent=100)
    at_reserve = StatedLimit(2000, 600, resets_at=900.0)

    assert budget.answered(0.0, replace(at_reserve, remaining=800)).delay(0.0, BACKGROUND) == 0.0
    assert budget.answered(0.0, at_reserve).delay(0.0, BACKGROUND) == 900.0
    assert budget.answered(0.0, at_reserve).delay(0.0, URGENT) == 0.0


def test_a_statement_that_is_rounded_down_does_not_stop_the_background_before_its_share() -> None:
    """After 801 requests the API says 1000 of 2000 are left, and means up to 1199."""
    sent = after(RequestBudget(SETTINGS), 0.0, background=801)

    budget = sent.answered(HOUR - 100, StatedLimit(2000, 1000, resets_at=HOUR))

    assert budget.left(HOUR - 100) == 1199
    assert budget.delay(HOUR - 100, BACKGROUND) == 0.0


def test_urgent_requests_go_on_when_little_is_left_until_they_are_refused() -> None:
    budget = RequestBudget(SETTINGS).answered(0.0, StatedLimit(2000, 0, resets_at=60.0))
    assert budget.delay(0.0, URGENT) == 0.0

    budget = budget.refused(0.0, 30.0)

    assert budget.delay(10.0, URGENT) == 20.0
    assert budget.delay(30.0, URGENT) == 0.0
    assert budget.delay(30.0, BACKGROUND) == 30.0


def test_a_refusal_counts_for_the_background_too() -> None:
    budget = RequestBudget(SETTINGS).refused(0.0, 30.0)

    assert budget.delay(10.0, BACKGROUND) == 20.0


def test_a_shorter_refusal_does_not_end_a_longer_one() -> None:
    assert RequestBudget(SETTINGS).refused(0.0, 30.0).refused(1.0, 5.0).delay(10.0, URGENT) == 20.0


def test_a_process_of_the_server_that_has_counted_less_gives_nothing_back() -> None:
    budget = RequestBudget(SETTINGS).answered(0.0, StatedLimit(2000, 400, resets_at=900.0))

    budget = budget.answered(1.0, StatedLimit(2000, 1800, resets_at=901.0))

    assert budget.left(1.0) == 599


def test_after_the_reset_all_is_there_again() -> None:
    stated = StatedLimit(2000, 0, resets_at=60.0)
    budget = after(RequestBudget(SETTINGS), 0.0, background=900).answered(0.0, stated)

    assert budget.left(60.0) == 2000
    assert budget.delay(60.0, BACKGROUND) == 0.0
    assert budget.ends_at(60.0) == 60.0 + HOUR
    assert budget.ends_at(60.0 + 5 * HOUR) == 60.0 + 6 * HOUR


def test_a_server_that_states_no_limit_any_more_is_asked_by_the_configured_one() -> None:
    budget = RequestBudget(SETTINGS).answered(0.0, StatedLimit(100, 10, resets_at=60.0))

    assert budget.answered(1.0, None).limit == 2000


@dataclass(frozen=True)
class Step:
    after: float
    use: RequestUse
    stated: bool
    refused: bool


STEPS = st.lists(
    st.builds(
        Step,
        after=st.sampled_from((0.0, 0.5, 10.0, 400.0, 4000.0)),
        use=st.sampled_from(RequestUse),
        stated=st.booleans(),
        refused=st.booleans(),
    ),
    max_size=80,
)


@given(
    settings=st.builds(
        BudgetSettings,
        per_hour=st.integers(1, 40),
        background_share=st.floats(0.01, 1, allow_nan=False),
    ),
    steps=STEPS,
    is_limited=st.booleans(),
    others=st.integers(0, 2),
)
def test_whatever_happens_the_share_and_the_limit_hold(
    settings: BudgetSettings, steps: list[Step], *, is_limited: bool, others: int
) -> None:
    """The server is one with a window of its own, in which others send requests too."""
    budget, now, used = RequestBudget(settings), 1000.0, 0
    server_end, limit = 1000.0 + HOUR, settings.per_hour
    started: float | None = None
    sent = dict.fromkeys(RequestUse, 0)
    for step in steps:
        now += step.after
        if is_limited and now >= server_end:
            server_end, used = now + HOUR, 0
        delay = budget.delay(now, step.use)
        assert 0 <= delay <= 2 * HOUR
        if step.refused:
            budget = budget.refused(now, 5.0)
            assert all(budget.delay(now, use) >= 5.0 for use in RequestUse)
            continue
        if delay:
            continue
        if not is_limited and (started is None or now >= started + HOUR):
            started, sent = now, dict.fromkeys(RequestUse, 0)
        budget = budget.sent(now, step.use)
        sent[step.use] += 1
        used += 1 + others
        if is_limited and step.stated:
            unit = max(1, limit // 10)
            remaining = max(0, limit - used) // unit * unit
            budget = budget.answered(now, StatedLimit(limit, remaining, server_end))
        if not is_limited:
            assert sum(sent.values()) <= limit
            assert sent[BACKGROUND] <= max(1, int(limit * settings.background_share))
        assert 0 <= budget.left(now) <= limit
