"""The rate of lines in an app's log."""

from reconcile.line_rates import BURST, MOST_APPS, REFILL, LineRates
from reconcile.lrps import AppGuid

APP = AppGuid("app")


def test_a_burst_is_allowed_and_then_one_line_at_a_time() -> None:
    rates = LineRates()

    assert sum(rates.allows(APP, 0.0) for _ in range(2 * BURST)) == BURST
    assert not rates.allows(APP, REFILL / 2)
    assert rates.allows(APP, REFILL)
    assert not rates.allows(APP, REFILL)
    assert sum(rates.allows(APP, REFILL * 10 * BURST) for _ in range(2 * BURST)) == BURST


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rates = LineRates()
    for _ in range(BURST):
        rates.allows(APP, 1000.0)

    assert not rates.allows(APP, 0.0)


def test_apps_are_forgotten_before_there_are_too_many() -> None:
    rates = LineRates()
    for _ in range(BURST):
        rates.allows(APP, 0.0)
    assert not rates.allows(APP, 0.0)
    for number in range(MOST_APPS):
        rates.allows(AppGuid(str(number)), 0.0)

    assert rates.allows(APP, 0.0)
