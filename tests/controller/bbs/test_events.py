"""Covers one event at a time: its name, its payload, and that nothing in it raises."""

import base64

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from controller.bbs.events import event_from_sse
from protos.bbs import events_pb2 as messages
from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInfo, ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.task_pb2 import Task
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    BrokenEvent,
    DesiredLrpRemoved,
    TaskChanged,
    UnknownEvent,
)
from reconcile.lrps import ProcessGuid, TaskState

NAMES = [
    *("task_created", "task_changed", "task_removed"),
    *("desired_lrp_created", "desired_lrp_changed", "desired_lrp_removed"),
    *(f"actual_lrp_instance_{done}" for done in ("created", "changed", "removed")),
    "actual_lrp_crashed",
]


def payload(message: Message) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


@given(
    name=st.sampled_from([*NAMES, "other", ""]),
    data=st.one_of(st.text(), st.binary().map(lambda b: base64.b64encode(b).decode())),
)
def test_nothing_that_a_peer_sends_raises(name: str, data: str) -> None:
    event_from_sse(name, data=data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data", ["", "%%%", "Zm9", "AA==\n", "é", base64.b64encode(b"\x0a\xff").decode(), "GAA="]
)
def test_a_payload_that_cannot_be_read_is_a_broken_event(name: str, data: str) -> None:
    event = event_from_sse(name, data=data)

    assert isinstance(event, BrokenEvent)
    assert event.name == name
    assert event.reason


@pytest.mark.parametrize(
    "name", ["actual_lrp_created", "actual_lrp_changed", "actual_lrp_removed", "moon_phase", "message"]
)
def test_a_name_that_we_do_not_know_is_skipped_whatever_it_carries(name: str) -> None:
    assert event_from_sse(name, data="%%%") == UnknownEvent(name)


def test_a_change_of_a_task_may_have_an_empty_before() -> None:
    event = event_from_sse(
        "task_changed", data=payload(messages.TaskChangedEvent(after=Task(task_guid="t", state=Task.Pending)))
    )

    assert isinstance(event, TaskChanged)
    assert (event.before.task_guid, event.before.state) == ("", TaskState.INVALID)
    assert (event.after.task_guid, event.after.state) == ("t", TaskState.PENDING)


def test_a_change_of_an_instance_carries_its_keys_on_both_sides() -> None:
    message = messages.ActualLRPInstanceChangedEvent(
        actual_lrp_key=ActualLRPKey(process_guid="p", index=2, domain="d"),
        actual_lrp_instance_key=ActualLRPInstanceKey(instance_guid="i", cell_id="c"),
        before=ActualLRPInfo(state="CLAIMED"),
        after=ActualLRPInfo(state="RUNNING", Routable=False),
    )
    event = event_from_sse("actual_lrp_instance_changed", data=payload(message))

    assert isinstance(event, ActualLrpChanged)
    assert (event.before.process_guid, event.after.index, event.after.instance_guid) == ("p", 2, "i")
    assert (event.before.routable, event.after.routable) == (True, False)


def test_a_crash_tells_where_and_how_often() -> None:
    message = messages.ActualLRPCrashedEvent(
        actual_lrp_key=ActualLRPKey(process_guid="p", index=2, domain="d"),
        actual_lrp_instance_key=ActualLRPInstanceKey(instance_guid="i", cell_id="c"),
        crash_count=3,
        crash_reason="boom",
    )

    assert event_from_sse("actual_lrp_crashed", data=payload(message)) == ActualLrpCrashed(
        ProcessGuid("p"), 2, "d", "i", "c", 3, "boom"
    )


def test_an_instance_in_an_unknown_state_is_a_broken_event() -> None:
    row = ActualLRP(actual_lrp_key=ActualLRPKey(process_guid="p"), state="DANCING")
    event = event_from_sse(
        "actual_lrp_instance_created", data=payload(messages.ActualLRPInstanceCreatedEvent(actual_lrp=row))
    )

    assert isinstance(event, BrokenEvent)
    row.state = "UNCLAIMED"
    event = event_from_sse(
        "actual_lrp_instance_created", data=payload(messages.ActualLRPInstanceCreatedEvent(actual_lrp=row))
    )
    assert isinstance(event, ActualLrpCreated)


def test_an_event_keeps_what_we_do_not_know_of_a_desired_lrp() -> None:
    lrp = DesiredLRP.FromString(b"\x0a\x01p\xfa\x3f\x02hi")
    event = event_from_sse(
        "desired_lrp_removed", data=payload(messages.DesiredLRPRemovedEvent(desired_lrp=lrp))
    )

    assert isinstance(event, DesiredLrpRemoved)
    assert event.lrp.definition == b"\x0a\x01p\xfa\x3f\x02hi"
