"""Which instances may be asked to stop, and which events only announce that."""

from dataclasses import replace

from reconcile.lrps import ActualLrp, ActualLrpState, ModificationTag, Presence, ProcessGuid
from reconcile.stop_requests import REMEMBERED, StopRequests

ROW = ActualLrp(
    ProcessGuid("p"),
    0,
    "cf-apps",
    ActualLrpState.RUNNING,
    Presence.ORDINARY,
    instance_guid="a",
    cell_id="cell-1",
    tag=ModificationTag("", 0),
)
UNCLAIMED = replace(ROW, state=ActualLrpState.UNCLAIMED, instance_guid="", cell_id="")


def is_due(stops: StopRequests, row: ActualLrp, now: float) -> bool:
    return stops.is_due(row, now, repeat_after=30.0)


def test_an_instance_is_retired_once_until_its_stop_must_be_lost() -> None:
    stops = StopRequests()
    assert is_due(stops, ROW, 100.0)

    stops.note(ROW, 100.0)

    assert [is_due(stops, ROW, now) for now in (100.0, 129.9, 130.0)] == [False, False, True]
    assert is_due(stops, replace(ROW, instance_guid="b"), 100.0), "another instance of that index"


def test_a_clock_that_was_set_back_does_not_keep_an_instance_for_ever() -> None:
    stops = StopRequests()
    stops.note(ROW, 1e9)

    assert is_due(stops, ROW, 100.0)


def test_a_row_without_a_container_may_always_be_retired() -> None:
    stops = StopRequests()
    stops.note(UNCLAIMED, 100.0)

    assert is_due(stops, UNCLAIMED, 100.0)
    assert not stops.is_announcement(UNCLAIMED)


def test_each_request_is_announced_by_one_event() -> None:
    stops = StopRequests()
    assert not stops.is_announcement(ROW), "somebody else stops it"

    for now in (100.0, 130.0):
        stops.note(ROW, now)
        assert [stops.is_announcement(ROW), stops.is_announcement(ROW)] == [True, False]


def test_an_instance_that_was_gone_already_is_announced_by_no_event() -> None:
    stops = StopRequests()
    stops.note(ROW, 100.0)
    stops.note_gone(ROW)

    assert not stops.is_announcement(ROW)


def test_no_more_requests_are_remembered_than_needed() -> None:
    stops = StopRequests()
    for number in range(REMEMBERED + 1):
        stops.note(replace(ROW, instance_guid=str(number)), 100.0)

    assert is_due(stops, replace(ROW, instance_guid="0"), 100.0)
    assert not is_due(stops, replace(ROW, instance_guid="1"), 100.0)
