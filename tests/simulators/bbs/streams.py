"""One event stream on one connection, with its chunks written by hand, and the ways in which it can break.

Source: bbs handlers/events_handlers.go; go-sse sse/event_source.go for the other side.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from enum import StrEnum

from tests.simulators.bbs.connections import reset
from tests.simulators.bbs.events import Event, EventBus, Subscription, Topic, frame

HEAD = (
    "HTTP/1.1 200 OK\r\n"
    "Cache-Control: no-cache, no-store, must-revalidate\r\n"
    "Connection: keep-alive\r\n"
    "Content-Type: text/event-stream; charset=utf-8\r\n"
    "Date: {date}\r\n"
    "Transfer-Encoding: chunked\r\n"
    "\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
AT_ONCE = 65536
"""Bytes after which a write ends, and other callbacks have a turn."""


class _End(StrEnum):
    CLEAN = "clean"
    RESET = "reset"
    GONE = "gone"


def chunk(data: bytes) -> bytes:
    """Frame one event as the BBS does: the size, a lone semicolon, the event."""
    return b"%x;\r\n%b\r\n" % (len(data), data)


class Stream:
    """One subscriber, from its request to the end of its connection."""

    def __init__(self, path: str, bus: EventBus, topics: Iterable[Topic], cell_id: str) -> None:
        self.path = path
        self.sent = 0
        self._bus = bus
        self._cell_id = cell_id
        self._wake = asyncio.Event()
        self._raw: deque[bytes] = deque()
        self._ending: _End | None = None
        self._stalled = False
        # Before the headers: who has seen them misses no event.
        self._subscriptions = [bus.subscribe(topic, self._wake.set) for topic in topics]

    @property
    def waiting(self) -> int:
        """Count the events in this subscriber's buffers."""
        return sum(len(subscription.waiting) for subscription in self._subscriptions)

    @property
    def is_closed(self) -> bool:
        """Whether a hub has given this subscriber up."""
        return any(subscription.closed for subscription in self._subscriptions)

    def end(self) -> None:
        """End the stream cleanly, as on a shutdown: zero chunk, then close."""
        self._finish(_End.CLEAN)

    def reset(self) -> None:
        """Break the connection off."""
        self._finish(_End.RESET)

    def stall(self) -> None:
        """Send nothing more, but keep the connection."""
        self._stalled = True

    def resume(self) -> None:
        """Send again what has waited."""
        self._stalled = False
        self._wake.set()

    def inject(self, data: bytes) -> None:
        """Send bytes as one chunk, whatever they are."""
        self._raw.append(chunk(data))
        self._wake.set()

    def inject_raw(self, data: bytes) -> None:
        """Send bytes as they are, without a chunk around them."""
        self._raw.append(data)
        self._wake.set()

    def inject_event(self, name: str, data: str) -> None:
        """Send an event with the next number; `data` is its data line, valid or not."""
        self.inject(f"id: {self.sent}\nevent: {name}\ndata: {data}\n\n".encode())
        self.sent += 1

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the stream until one side ends it."""
        watcher = asyncio.create_task(self._watch(reader))
        try:
            writer.write(HEAD.format(date=formatdate(usegmt=True)).encode())
            await writer.drain()
            await self._pump(writer)
            if self._ending is _End.RESET:
                reset(writer)
            elif self._ending is _End.CLEAN:
                writer.write(LAST_CHUNK)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])
            for subscription in self._subscriptions:
                self._bus.unsubscribe(subscription)

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        while self._ending in {None, _End.CLEAN}:
            if not self._stalled:
                await self._send_waiting(writer)
                if self._ending is _End.CLEAN:
                    return
                if any(part.closed and not part.waiting for part in self._subscriptions):
                    self._ending = _End.CLEAN
                    return
            elif self._ending is _End.CLEAN:
                return
            await self._wake.wait()
            self._wake.clear()

    async def _send_waiting(self, writer: asyncio.StreamWriter) -> None:
        while self._ending in {None, _End.CLEAN} and not self._stalled:
            data = self._take()
            if not data:
                return
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)  # over TLS `drain` does not, and only then a lost connection is noticed

    def _take(self) -> bytes:
        """Take what is written at once of what waits; nothing when nothing waits."""
        data = bytearray()
        while len(data) < AT_ONCE:
            if self._raw:
                data += self._raw.popleft()
            elif (event := self._next()) is not None:
                if event.cell_id is None or self._cell_id in {"", event.cell_id}:
                    data += chunk(frame(self.sent, event))
                    self.sent += 1
            else:
                break
        return bytes(data)

    def _next(self) -> Event | None:
        """Take the oldest event, until a hub that gave up has been emptied."""
        if any(part.closed and not part.waiting for part in self._subscriptions):
            return None
        heads: list[tuple[int, Subscription]] = [
            (part.waiting[0][0], part) for part in self._subscriptions if part.waiting
        ]
        if not heads:
            return None
        _, first = min(heads, key=lambda head: head[0])
        return first.waiting.popleft()[1]

    def _finish(self, ending: _End) -> None:
        self._ending = self._ending or ending
        self._wake.set()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass  # a client has nothing to say; what it says is skipped
        self._finish(_End.GONE)
