# ruff: noqa: N802 - names carry the numbers of known bugs
"""Covers subscriptions against a real server: when they begin, what they skip, how they end."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator

import pytest

from controller.bbs.client import open_bbs
from protos.bbs.events_pb2 import EventsByCellId, TaskCreatedEvent
from protos.bbs.task_pb2 import Task
from reconcile.errors import DockerCacheError, Invalid, Unavailable
from reconcile.events import (
    BrokenEvent,
    Event,
    TaskCreated,
    UnknownEvent,
)
from tests.conftest import PassTime
from tests.controller.bbs.peers import (
    LAST_CHUNK,
    STREAM_HEAD,
    Answer,
    Then,
    answer,
    chunks,
    head,
    passing_time,
    serve,
)

pytestmark = pytest.mark.usefixtures("servers")


def frame(number: int, name: str, data: bytes) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {data.decode()}\n\n".encode()


def created(guid: str, number: int = 0) -> bytes:
    message = TaskCreatedEvent(task=Task(task_guid=guid, state=Task.Pending))
    return frame(number, "task_created", base64.b64encode(message.SerializeToString()))


async def read(events: AsyncIterator[Event]) -> tuple[list[Event], DockerCacheError]:
    """Read a stream to its end, which always is an error."""
    seen: list[Event] = []
    try:
        async with asyncio.timeout(60):
            async for event in events:
                seen.append(event)  # noqa: PERF401  # what came before the error is the point
    except DockerCacheError as error:
        return seen, error
    raise AssertionError("the stream ended without an error")


def guids(events: list[Event]) -> list[str]:
    return [event.task.task_guid for event in events if isinstance(event, TaskCreated)]


async def test_P1_chunk_headers_with_a_lone_semicolon_are_read(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    """The BBS writes them so, and not every HTTP library reads them: keep this test for ever."""
    data = STREAM_HEAD + chunks(created("a"), created("b", 1)) + LAST_CHUNK
    assert b";\r\nid: 0\n" in data
    async with (
        serve(server_tls, [Answer(data, Then.CLOSE)]) as peer,
        open_bbs(peer.address, tls=tls) as bbs,
        bbs.subscribe_tasks() as events,
    ):
        seen, error = await read(events)

    assert guids(seen) == ["a", "b"]
    assert (type(error), error.code) == (Unavailable, "stream-ended")


async def test_P2_a_clean_end_is_a_loss_and_an_unclean_one_is_told_apart(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    whole = STREAM_HEAD + chunks(created("a"))
    script = [
        Answer(whole + LAST_CHUNK, Then.CLOSE),
        Answer(whole, Then.CLOSE),
        Answer(whole + chunks(created("b"))[:20], Then.CLOSE),
        Answer(whole + b"zz;\r\n", Then.CLOSE),
    ]
    codes = []
    async with serve(server_tls, script) as peer, open_bbs(peer.address, tls=tls) as bbs:
        for _ in script:
            async with bbs.subscribe_tasks() as events:
                seen, error = await read(events)
            assert guids(seen) == ["a"]
            assert isinstance(error, Unavailable)
            codes.append(error.code)

    assert codes == ["stream-ended", "stream-broken", "stream-broken", "stream-broken"]


async def test_a_reset_is_a_broken_stream(server_tls: ssl.SSLContext, tls: ssl.SSLContext) -> None:
    async with (
        serve(server_tls, [Answer(STREAM_HEAD, Then.RESET)]) as peer,
        open_bbs(peer.address, tls=tls) as bbs,
    ):
        with pytest.raises(Unavailable):
            async with bbs.subscribe_tasks() as events:
                await anext(events)


async def test_a_bad_or_unknown_event_costs_only_itself(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    pieces = (
        created("a"),
        frame(1, "task_created", b"%%%"),
        frame(2, "task_created", base64.b64encode(b"\x0a\xff")),
        frame(3, "task_created", b""),
        frame(4, "moon_phase", b"Zm9v"),
        created("b", 0),
    )
    data = STREAM_HEAD + chunks(*pieces) + LAST_CHUNK
    async with (
        serve(server_tls, [Answer(data, Then.CLOSE)]) as peer,
        open_bbs(peer.address, tls=tls) as bbs,
        bbs.subscribe_tasks() as events,
    ):
        seen, _ = await read(events)

    assert guids(seen) == ["a", "b"]
    assert [type(event) for event in seen[1:5]] == [BrokenEvent, BrokenEvent, BrokenEvent, UnknownEvent]


async def test_the_body_begins_with_the_headers_and_not_with_the_first_event(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    script = [Answer(STREAM_HEAD, Then.HANG)] * 2
    async with serve(server_tls, script) as peer, open_bbs(peer.address, tls=tls) as bbs:
        async with bbs.subscribe_tasks(), bbs.subscribe_lrp_instances("cell-1"):
            asked = [request.path for request in peer.requests]
        await asyncio.wait_for(peer.hung_up.wait(), 60)

    assert asked == ["/v1/events/tasks.r1", "/v1/events/lrp_instances.r1"]
    assert EventsByCellId.FromString(peer.requests[1].body).cell_id == "cell-1"
    assert "x-vcap-request-id" not in peer.requests[0].headers
    assert "last-event-id" not in peer.requests[0].headers


async def test_silence_before_the_headers_has_a_limit_and_silence_after_them_has_none(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext, pass_time: PassTime
) -> None:
    script = [Answer(then=Then.HANG), Answer(STREAM_HEAD, Then.HANG)]
    async with serve(server_tls, script) as peer, open_bbs(peer.address, tls=tls, timeout=60.0) as bbs:
        async with passing_time(peer, pass_time, 60.0):
            with pytest.raises(Unavailable) as caught:
                async with bbs.subscribe_tasks():
                    pass
        assert caught.value.code == "Timeout"
        async with bbs.subscribe_tasks() as events:
            following = asyncio.ensure_future(anext(events))
            await pass_time(3600.0)
            assert not following.done()
            following.cancel()
            await asyncio.wait([following])


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (answer(status="503 Service Unavailable"), Unavailable, "HTTP-503"),
        (answer(status="500 Internal Server Error"), Unavailable, "HTTP-500"),
        (answer(status="404 Not Found"), Invalid, "UnknownRoute"),
        (Answer(head("Content-Length: 0", status="204 No Content")), Invalid, "HTTP-204"),
        (answer(b"data: x\n\n"), Invalid, "InvalidResponse"),
        (Answer(then=Then.CLOSE), Unavailable, "ConnectionFailed"),
    ],
)
async def test_what_is_no_stream_is_refused_on_entering(
    refusal: Answer, kind: type[DockerCacheError], code: str, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    async with serve(server_tls, [refusal]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(kind) as caught:
            async with bbs.subscribe_tasks():
                pass

    assert caught.value.code == code
    assert len(peer.requests) == 1
