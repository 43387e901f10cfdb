"""When nothing is begun any more, and how it goes on."""

from reconcile.circuit import WHILE_PROBING, Circuit

CLOSED = Circuit(most=2, retry_after=60.0)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    once = CLOSED.failed("a: bridge-crashed", 10.0)
    assert not once.is_open
    assert not once.succeeded().failed("b", 11.0).is_open, "a success in between begins the count anew"

    opened = once.failed("b: bridge-timeout", 11.0)

    assert opened.is_open
    assert "b: bridge-timeout" in str(opened)
    assert opened.closed_for(11.0) == 60.0


def test_after_a_while_one_probe_gets_through() -> None:
    opened = CLOSED.failed("a", 0.0).failed("b", 0.0)
    assert opened.closed_for(60.0) == 0.0

    probing = opened.begun()

    assert probing.closed_for(60.0) == WHILE_PROBING
    assert not probing.succeeded().is_open
    assert probing.failed("c", 61.0).closed_for(61.0) == 60.0
    assert probing.cancelled().closed_for(61.0) == 0.0, "what tells neither way makes room for another"


def test_a_closed_one_lets_all_through() -> None:
    assert CLOSED.begun().closed_for(0.0) == 0.0
    assert not CLOSED.begun().is_probing
