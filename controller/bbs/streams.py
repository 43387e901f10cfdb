"""Subscribes to events of the BBS.

A stream never ends regularly, and nothing is replayed: after any end the reader must subscribe again and then
list everything.

Source: cloudfoundry/bbs handlers/events_handlers.go and events/hub.go.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from controller.bbs.bbs_errors import SYSTEM, error_from_exception, error_from_response, reason_of
from controller.bbs.events import event_from_sse
from controller.bbs.sse import EventTooLarge, SseParser
from protos.bbs.events_pb2 import EventsByCellId
from reconcile.errors import Invalid, Unavailable
from reconcile.events import (
    Event,
)

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Streams:
    """Opens event streams through a client that allows them to be silent.

    Attributes:
        timeout: Seconds within which the headers of a stream must arrive.
    """

    http: httpx.AsyncClient
    timeout: float

    @asynccontextmanager
    async def subscribe(self, path: str, *, cell_id: str = "") -> AsyncIterator[AsyncIterator[Event]]:
        """Open a stream; the block begins when its headers have arrived, and no event after that is missed.

        Raises:
            Unavailable: On entering, the stream could not be opened. From the iterator, `stream-ended` after
                a clean end, by which the BBS drops a slow reader, and `stream-broken` after any other.
        """
        request = self.http.build_request(
            "POST",
            path,
            content=EventsByCellId(cell_id=cell_id).SerializeToString(),
            headers={"Content-Type": "application/x-protobuf", "Accept": EVENT_STREAM},
        )
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.http.send(request, stream=True)
        except (httpx.HTTPError, TimeoutError) as error:
            raise error_from_exception(error, attempt=str(request.url)) from error
        try:
            _check(response, path)
            yield _events(response, path)
        finally:
            await response.aclose()


def _check(response: httpx.Response, path: str) -> None:
    failure = error_from_response(response, attempt=path)
    if failure is not None:
        raise failure
    if not response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
        raise Invalid(SYSTEM, "InvalidResponse", f"{path}: the response is not {EVENT_STREAM}")


async def _events(response: httpx.Response, path: str) -> AsyncIterator[Event]:
    parser = SseParser()
    try:
        async for chunk in response.aiter_bytes():
            for event in parser.feed(chunk):
                yield event_from_sse(event.name, data=event.data)
    except (httpx.HTTPError, EventTooLarge) as error:
        raise Unavailable(SYSTEM, "stream-broken", f"{path}: {reason_of(error)}") from error
    raise Unavailable(SYSTEM, "stream-ended", f"{path}: the BBS closed the stream; events may be lost")
