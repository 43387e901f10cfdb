"""Reads messages of the admin API as rows of plain values, with enum values in the program's own words."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from controller.admin.reason_names import REASON_NAMES
from reconcile.errors import Invalid

Row = Mapping[str, Any]
"""Field to text, number, truth value, list, row or None."""

_REASONS = {name: reason for reason, name in REASON_NAMES.items()}
_TIMES = frozenset(
    {"created_at", "updated_at", "verified_at", "started_at", "entered_at", "listed_at", "made_at"}
    | {
        "retry_at",
        "next_attempt_at",
        "needs_verification_since",
        "at",
        "since",
        "missing_since",
        "lost_since",
        "deletable_from",
        "unused_since",
        "active_since",
        "reachable_since",
        "failing_since",
        "requests_renewed_at",
        "last_success",
        "droplets_listed_at",
    }
)


def row_from_message(message: Message) -> Row:
    """Read a message: every field, in the order of the .proto file; None for what is not set."""
    return {
        field.name: _value(message, field)
        for field in message.DESCRIPTOR.fields
        if not _is_unset(message, field)
    }


def _is_unset(message: Message, field: Any) -> bool:
    return field.containing_oneof is not None and not message.HasField(field.name)


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_plain(each, field) for each in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    if field.name in _TIMES and not value:
        return None
    return _plain(value, field)


def _plain(value: Any, field: Any) -> Any:
    if field.enum_type is not None:
        return _text_of_enum(field, value)
    return row_from_message(value) if field.message_type is not None else value


def _text_of_enum(field: Any, number: int) -> str:
    known = field.enum_type.values_by_number.get(number)
    if known is None or number == 0:
        return ""
    if known.name in _REASONS:
        return str(_REASONS[known.name])
    prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name).removeprefix(prefix).lower().replace("_", "-")


def enum_name(enum: Any, prefix: str, text: str) -> str:
    """Find the name on the wire of a value that was written in the program's words.

    Raises:
        Invalid: There is no such value.
    """
    name = f"{prefix}_{text.upper().replace('-', '_')}"
    if name not in enum.keys() or not enum.Value(name):  # noqa: SIM118 - no mapping
        raise Invalid("admin", "no-such-value", f"there is no {prefix.lower()} {text!r}")
    return name
