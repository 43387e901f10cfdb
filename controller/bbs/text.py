"""Reads text that the BBS passes on from others, which may be any bytes of any length.

The wire format's text is not checked as UTF-8 (see the .proto files), so the runtime gives bytes in
place of a text that is none. Only what people see of it may suffer for that, never the message.
"""

from collections.abc import Iterable, Iterator

from google.protobuf.message import Message


def text_of(message: Message, field: str) -> str:
    """Read a text field; bytes that are not UTF-8 become U+FFFD."""
    return _decoded(getattr(message, field))


def texts_of(values: Iterable[str]) -> Iterator[str]:
    """Read a repeated text field in the same way."""
    return (_decoded(value) for value in values)


def is_text(value: object) -> bool:
    """Whether what was typed as a text is one."""
    return isinstance(value, str)


def _decoded(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
