"""Since when a database does not do what it is asked."""

from controller.store.availability import Availability, Outage, Use


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_lasts_from_the_first_failure_to_the_first_answer() -> None:
    clock = Clock()
    availability = Availability(clock)
    assert not availability.outage

    availability.failed(Use.READING, "no answer")
    clock.now = 107.0
    availability.failed(Use.READING, "connection refused")
    assert availability.outage == Outage(100.0, "connection refused")

    availability.answered(Use.READING)
    assert availability.outage is None


def test_a_database_that_only_reads_is_still_away() -> None:
    """So are a replica, and a server whose disk is full."""
    clock = Clock()
    availability = Availability(clock)
    availability.failed(Use.WRITING, "it is read-only")
    clock.now = 105.0
    availability.failed(Use.READING, "no answer")
    assert availability.outage == Outage(100.0, "no answer")

    availability.answered(Use.READING)
    assert availability.outage == Outage(100.0, "it is read-only")
    assert availability.is_away(Use.WRITING)
    assert not availability.is_away(Use.READING)
