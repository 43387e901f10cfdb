"""When migrations may start no more, and when they may again."""

from reconcile.circuit_breaker import PROBE_CHECK_INTERVAL, CircuitBreaker

CLOSED = CircuitBreaker(max_failures=2, retry_after=60.0)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    once = CLOSED.failed("a: bridge-crashed", 10.0)
    assert not once.is_open
    assert not once.succeeded().failed("b", 11.0).is_open, "a success in between starts the count anew"

    opened = once.failed("b: bridge-timeout", 11.0)

    assert opened.is_open
    assert "b: bridge-timeout" in str(opened)
    assert opened.seconds_until_allowed(11.0) == 60.0


def test_after_a_while_one_probe_is_allowed() -> None:
    opened = CLOSED.failed("a", 0.0).failed("b", 0.0)
    assert opened.seconds_until_allowed(60.0) == 0.0

    probing = opened.started()

    assert probing.seconds_until_allowed(60.0) == PROBE_CHECK_INTERVAL
    assert not probing.succeeded().is_open
    assert probing.failed("c", 61.0).seconds_until_allowed(61.0) == 60.0
    assert probing.cancelled().seconds_until_allowed(61.0) == 0.0, "a cancelled probe makes room for another"


def test_a_closed_one_allows_all() -> None:
    assert CLOSED.started().seconds_until_allowed(0.0) == 0.0
    assert not CLOSED.started().is_probing
