"""Since when a database does not do what it is asked."""

from controller.store.availability import Availability, Outage, Use


def test_an_outage_lasts_from_the_first_failed_request_to_the_first_answer() -> None:
    availability = Availability()

    availability.failed(Use.READING, "no answer", asked_at=100.0)
    availability.failed(Use.READING, "connection refused", asked_at=107.0)
    assert availability.outage == Outage(100.0, "connection refused")

    availability.answered(Use.READING)
    assert [Availability().outage, availability.outage] == [None, None]


def test_a_database_that_only_reads_is_still_away() -> None:
    """So are a replica, and a server whose disk is full."""
    availability = Availability()
    availability.failed(Use.WRITING, "it is read-only", asked_at=100.0)
    availability.failed(Use.READING, "no answer", asked_at=105.0)
    assert availability.outage == Outage(100.0, "no answer")

    availability.answered(Use.READING)
    assert availability.outage == Outage(100.0, "it is read-only")
    assert availability.is_away(Use.WRITING)
    assert not availability.is_away(Use.READING)
