"""Messages as rows of plain values, in the words of the program."""

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from controller.admin.copies import CopyStatus
from controller.admin.rows import enum_name, row_from_message
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid
from reconcile.migrations import Goal, Phase, Strategy
from reconcile.reasons import AppState, Reason
from reconcile.records import JobState

MESSAGES = [
    message_factory.GetMessageClass(descriptor)
    for descriptor in pb.DESCRIPTOR.message_types_by_name.values()
    if not descriptor.oneofs
]
TIMES = [
    (message, field.name)
    for message in MESSAGES
    for field in message.DESCRIPTOR.fields
    if field.type == FieldDescriptor.TYPE_DOUBLE
]


def names(pairs: Iterable[tuple[type[Any], str]]) -> list[str]:
    return [f"{message.DESCRIPTOR.name}.{field}" for message, field in pairs]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.DESCRIPTOR.name)
def test_a_row_has_every_field_in_the_order_of_the_proto_file(message: type[Any]) -> None:
    assert list(row_from_message(message())) == [field.name for field in message.DESCRIPTOR.fields]


def test_texts_numbers_and_truths_are_taken_as_they_are() -> None:
    row = row_from_message(pb.CircuitBreaker(open=True, failures=2**40, last="x"))

    assert row == {
        "open": True,
        "failures": 2**40,
        "last": "x",
        "retry_at": None,
        "cell": "",
    }


@pytest.mark.parametrize(("message", "field"), TIMES, ids=names(TIMES))
def test_a_time_that_is_not_set_is_none(message: type[Any], field: str) -> None:
    """Every double of the API is a time: 1970 would be shown for it otherwise."""
    assert row_from_message(message())[field] is None


@pytest.mark.parametrize(("message", "field"), TIMES, ids=names(TIMES))
def test_a_time_that_is_set_is_a_number(message: type[Any], field: str) -> None:
    assert row_from_message(message(**{field: 1.5}))[field] == 1.5


def test_a_number_that_is_no_time_may_be_zero() -> None:
    assert row_from_message(pb.Job())["attempts"] == 0


def test_a_message_in_it_is_a_row_or_none() -> None:
    assert row_from_message(pb.Job())["progress"] is None
    assert row_from_message(pb.Job(progress=pb.CopyProgress(total_bytes=5)))["progress"] == {
        "total_bytes": 5,
        "transferred_bytes": 0,
        "skipped_bytes": 0,
        "retries": 0,
    }


def test_a_message_that_is_set_and_empty_is_a_row() -> None:
    assert row_from_message(pb.StatusResponse(circuit_breaker=pb.CircuitBreaker()))["circuit_breaker"] == {
        "open": False,
        "failures": 0,
        "last": "",
        "retry_at": None,
        "cell": "",
    }


def test_several_values_are_a_list() -> None:
    assert row_from_message(pb.PlanEnd(problems=["a", "b"]))["problems"] == ["a", "b"]
    assert row_from_message(pb.PlanEnd())["problems"] == []


def test_several_messages_are_a_list_of_rows() -> None:
    row = row_from_message(pb.ListMigrationsResponse(migrations=[pb.Migration(phase="PHASE_REMOVED")]))

    assert [each["phase"] for each in row["migrations"]] == ["removed"]


def test_several_states_are_a_list_of_words() -> None:
    row = row_from_message(pb.ListAppsRequest(states=["APP_STATE_SKIPPED", "APP_STATE_CACHED"]))

    assert row["states"] == ["skipped", "cached"]


def test_counts_by_name_are_a_mapping() -> None:
    row = row_from_message(pb.StatusResponse(jobs_by_state={"queued": 2, "failed": 1}))

    assert row["jobs_by_state"] == {"queued": 2, "failed": 1}
    assert row["apps_by_state"] == {}


def test_of_several_things_that_a_message_can_be_only_the_one_it_is_stands_in_its_row() -> None:
    assert list(row_from_message(pb.PlanEntry(end=pb.PlanEnd()))) == ["end"]
    assert row_from_message(pb.PlanEntry()) == {}


@pytest.mark.parametrize("number", [0, 9999])
def test_a_word_that_is_not_set_or_of_a_newer_daemon_is_empty(number: int) -> None:
    row = row_from_message(pb.App(reason=number, state=number))  # type: ignore[arg-type]

    assert (row["reason"], row["state"]) == ("", "")


@pytest.mark.parametrize(
    ("message", "field", "enum", "prefix", "words"),
    [
        (pb.App, "state", pb.AppState, "APP_STATE", AppState),
        (pb.Job, "state", pb.JobState, "JOB_STATE", JobState),
        (pb.Migration, "phase", pb.Phase, "PHASE", Phase),
        (pb.Migration, "goal", pb.Goal, "GOAL", Goal),
        (pb.Migration, "strategy", pb.Strategy, "STRATEGY", Strategy),
        (pb.VerifiedCopy, "status", pb.CopyStatus, "COPY_STATUS", CopyStatus),
    ],
    ids=["AppState", "JobState", "Phase", "Goal", "Strategy", "CopyStatus"],
)
def test_words_go_to_the_wire_and_come_back_as_they_were(
    message: type[Any], field: str, enum: Any, prefix: str, words: Any
) -> None:
    there = [message(**{field: enum_name(enum, prefix, str(word))}) for word in words]

    assert [row_from_message(each)[field] for each in there] == [str(word) for word in words]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_reads_as_the_program_writes_it(reason: str) -> None:
    name = "REASON_" + reason.replace(": ", "_").replace("-", "_").upper()

    assert row_from_message(pb.ApplyEvent(reason=name))["reason"] == reason


@pytest.mark.parametrize("text", ["", "moved", "unspecified", "left alone", "Übergang"])
def test_a_word_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        enum_name(pb.AppState, "APP_STATE", text)

    assert caught.value.code == "no-such-value"
