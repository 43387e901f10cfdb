"""Converts server-sent events of the BBS to event values.

An event that cannot be converted becomes a `BrokenEvent` instead of an exception, so that it does not end the
stream. The ids of the events are ignored: the BBS cannot resume a stream from an id.

Source: cloudfoundry/bbs models/events.proto, models/events.go and events/event_source.go.
"""

import base64
import binascii
from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError

from controller.bbs.messages import (
    actual_lrp_from_message,
    desired_lrp_from_message,
    instance_from_message,
    task_from_message,
)
from controller.bbs.text import text_of
from protos.bbs import events_pb2
from reconcile.errors import Invalid
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    ActualLrpRemoved,
    BrokenEvent,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskChanged,
    TaskCreated,
    TaskRemoved,
    UnknownEvent,
)
from reconcile.foreign_text import one_line
from reconcile.lrps import ProcessGuid


def event_from_sse(name: str, *, data: str) -> Event:
    """Convert one event; `data` is its protobuf message in base64."""
    convert = _CONVERTERS.get(name)
    if convert is None:
        return UnknownEvent(one_line(name))
    if not data:
        return BrokenEvent(name, "empty")
    try:
        event = convert(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return BrokenEvent(name, "not base64")
    except DecodeError:
        return BrokenEvent(name, "not a protobuf message")
    except Invalid as error:
        return BrokenEvent(name, error.detail)
    return event if _guid_of(event) else BrokenEvent(name, "without the GUID of its task or LRP")


def _guid_of(event: Event) -> str:
    match event:
        case TaskCreated(task) | TaskRemoved(task) | TaskChanged(after=task):
            return task.task_guid
        case DesiredLrpCreated(lrp) | DesiredLrpRemoved(lrp) | DesiredLrpChanged(after=lrp):
            return lrp.process_guid
        case ActualLrpCreated(row) | ActualLrpRemoved(row) | ActualLrpChanged(after=row):
            return row.process_guid
        case ActualLrpCrashed():
            return event.process_guid
        case UnknownEvent() | BrokenEvent():
            return event.name


def _task_created(data: bytes) -> Event:
    return TaskCreated(task_from_message(events_pb2.TaskCreatedEvent.FromString(data).task))


def _task_changed(data: bytes) -> Event:
    message = events_pb2.TaskChangedEvent.FromString(data)
    return TaskChanged(task_from_message(message.before), task_from_message(message.after))


def _task_removed(data: bytes) -> Event:
    return TaskRemoved(task_from_message(events_pb2.TaskRemovedEvent.FromString(data).task))


def _desired_created(data: bytes) -> Event:
    return DesiredLrpCreated(
        desired_lrp_from_message(events_pb2.DesiredLRPCreatedEvent.FromString(data).desired_lrp)
    )


def _desired_changed(data: bytes) -> Event:
    message = events_pb2.DesiredLRPChangedEvent.FromString(data)
    return DesiredLrpChanged(
        desired_lrp_from_message(message.before), desired_lrp_from_message(message.after)
    )


def _desired_removed(data: bytes) -> Event:
    return DesiredLrpRemoved(
        desired_lrp_from_message(events_pb2.DesiredLRPRemovedEvent.FromString(data).desired_lrp)
    )


def _actual_created(data: bytes) -> Event:
    return ActualLrpCreated(
        actual_lrp_from_message(events_pb2.ActualLRPInstanceCreatedEvent.FromString(data).actual_lrp)
    )


def _actual_changed(data: bytes) -> Event:
    message = events_pb2.ActualLRPInstanceChangedEvent.FromString(data)
    key, instance_key = message.actual_lrp_key, message.actual_lrp_instance_key
    return ActualLrpChanged(
        instance_from_message(key, instance_key, message.before),
        instance_from_message(key, instance_key, message.after),
    )


def _actual_removed(data: bytes) -> Event:
    return ActualLrpRemoved(
        actual_lrp_from_message(events_pb2.ActualLRPInstanceRemovedEvent.FromString(data).actual_lrp)
    )


def _actual_crashed(data: bytes) -> Event:
    message = events_pb2.ActualLRPCrashedEvent.FromString(data)
    key, instance_key = message.actual_lrp_key, message.actual_lrp_instance_key
    return ActualLrpCrashed(
        process_guid=ProcessGuid(text_of(key, "process_guid")),
        index=key.index,
        domain=text_of(key, "domain"),
        instance_guid=text_of(instance_key, "instance_guid"),
        cell_id=text_of(instance_key, "cell_id"),
        crash_count=message.crash_count,
        crash_reason=text_of(message, "crash_reason"),
    )


_CONVERTERS: Mapping[str, Callable[[bytes], Event]] = {
    "task_created": _task_created,
    "task_changed": _task_changed,
    "task_removed": _task_removed,
    "desired_lrp_created": _desired_created,
    "desired_lrp_changed": _desired_changed,
    "desired_lrp_removed": _desired_removed,
    "actual_lrp_instance_created": _actual_created,
    "actual_lrp_instance_changed": _actual_changed,
    "actual_lrp_instance_removed": _actual_removed,
    "actual_lrp_crashed": _actual_crashed,
}
