"""Reads text fields of the BBS's messages, which others filled with any bytes.

The text of this wire format is not checked to be UTF-8 (see the .proto files): the runtime returns bytes
where it is not. Only what people see of such a text is changed, never the message.
"""

from collections.abc import Iterable, Iterator

from google.protobuf.message import Message


def text_of(message: Message, field: str) -> str:
    """Read a text field; bytes that are not UTF-8 are replaced by U+FFFD."""
    return _decoded(getattr(message, field))


def texts_of(values: Iterable[str]) -> Iterator[str]:
    """Read a repeated text field; bytes that are not UTF-8 are replaced by U+FFFD."""
    return (_decoded(value) for value in values)


def is_text(value: object) -> bool:
    """Whether a value of a text field is UTF-8 text."""
    return isinstance(value, str)


def _decoded(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
