"""One subscription to events of the BBS, from its headers to its end.

There is no good end and no replay: whoever reads must subscribe again and then look at everything.

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
    """Opens event streams through a client that does not mind silence.

    Attributes:
        timeout: Seconds until the headers of a stream must be there.
    """

    http: httpx.AsyncClient
    timeout: float

    @asynccontextmanager
    async def subscribe(self, path: str, *, cell_id: str = "") -> AsyncIterator[AsyncIterator[Event]]:
        """Enter when the headers have arrived: every event from then on will be seen.

        Raises:
            Unavailable: On entering, there is no stream; from the iterator, `stream-ended` after a
                clean end, which is what the BBS gives a slow reader, `stream-broken` after any other.
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
        raise Invalid(SYSTEM, "InvalidResponse", f"{path}: the answer is not {EVENT_STREAM}")


async def _events(response: httpx.Response, path: str) -> AsyncIterator[Event]:
    parser = SseParser()
    try:
        async for chunk in response.aiter_bytes():
            for event in parser.feed(chunk):
                yield event_from_sse(event.name, data=event.data)
    except (httpx.HTTPError, EventTooLarge) as error:
        raise Unavailable(SYSTEM, "stream-broken", f"{path}: {reason_of(error)}") from error
    raise Unavailable(SYSTEM, "stream-ended", f"{path}: the BBS closed the stream; events may be lost")
