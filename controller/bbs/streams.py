"""Subscribes to event streams of the BBS.

A stream ends only by a failure, and the BBS does not replay events. After the end of a stream its reader must
subscribe again and then list everything.

Source: cloudfoundry/bbs handlers/events_handlers.go and events/hub.go.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from controller.bbs.bbs_errors import SYSTEM, describe_error, error_from_exception, error_from_response
from controller.bbs.events import event_from_sse
from controller.bbs.sse import EventTooLarge, SseParser
from protos.bbs.events_pb2 import EventsByCellId
from reconcile.errors import Invalid, Unavailable
from reconcile.events import Event

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Streams:
    """Opens event streams.

    Attributes:
        http: A client whose read timeout allows for streams on which no event arrives for long.
        timeout: Seconds within which the headers of a stream's response must arrive.
    """

    http: httpx.AsyncClient
    timeout: float

    @asynccontextmanager
    async def subscribe(self, path: str, *, cell_id: str = "") -> AsyncIterator[AsyncIterator[Event]]:
        """Open a stream. The `async with` block begins when the headers of its response have arrived.

        The iterator yields every event from then on.

        Raises:
            Unavailable: On entering, the stream could not be opened. From the iterator, `stream-ended` when
                the BBS closed the stream, as it does to a slow reader, and `stream-broken` when the
                connection failed or an event was too large.
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
            raise error_from_exception(error, call=str(request.url)) from error
        try:
            _check(response, path)
            yield _events(response, path)
        finally:
            await response.aclose()


def _check(response: httpx.Response, path: str) -> None:
    failure = error_from_response(response, call=path)
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
        raise Unavailable(SYSTEM, "stream-broken", f"{path}: {describe_error(error)}") from error
    raise Unavailable(SYSTEM, "stream-ended", f"{path}: the BBS closed the stream; events may be lost")
