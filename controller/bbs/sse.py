"""Parses the event-stream format: bytes in, events out, without I/O.

It finds where an event begins and ends, however the bytes are split into chunks; `controller.bbs.events`
converts the events.

Source: WHATWG HTML, section "Parsing an event stream".
"""

from collections.abc import Iterator
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
MAX_EVENT = 64 * 1024 * 1024
"""Bytes; the event of a changed desired LRP may have several megabytes, and no event has this many."""

_LINE_ENDS = (b"\n", b"\r")


class EventTooLarge(Exception):
    """An event is larger than any event of the BBS."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; its name is "message" where the stream names none."""

    name: str
    data: str


class SseParser:
    """Parses the events of one stream.

    Ids and retry times of a stream are skipped: the BBS numbers each stream from 0 and repeats no event.
    """

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._head: bytes | None = b""  # the first bytes, until they are known to be a BOM or not
        self._line = bytearray()  # that has not ended yet
        self._after_cr = False
        self._size = 0
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Yield the events that a chunk completes; the iterator must be exhausted.

        Raises:
            EventTooLarge: The current event is larger than allowed.
        """
        if self._head is not None:
            chunk, self._head = self._head + chunk, None
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._head = chunk
                return
            chunk = chunk.removeprefix(BOM)
        if not chunk:
            return
        if self._after_cr:  # a line feed here is the second half of a line end
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        for piece in chunk.splitlines(keepends=True):
            self._grow(len(piece))
            self._line += piece
            if piece.endswith(_LINE_ENDS):
                line, self._line = bytes(self._line), bytearray()
                yield from self._end_line(line.rstrip(b"\r\n"))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._max_event:
            raise EventTooLarge(f"an event of more than {self._max_event} bytes")

    def _end_line(self, line: bytes) -> Iterator[SseEvent]:
        if line:
            self._read_field(line.decode("utf-8", errors="replace"))
            return
        if self._data:
            yield SseEvent(self._name or "message", "\n".join(self._data))
        self._name, self._data, self._size = "", [], 0

    def _read_field(self, line: str) -> None:
        name, _, value = line.partition(":")  # a comment has an empty name
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case _:
                pass
