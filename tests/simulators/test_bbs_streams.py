"""The simulated BBS's event streams: their bytes, their buffers, and the ways in which they break."""

import asyncio
import base64

import httpx
import pytest

from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey
from protos.bbs.events_pb2 import EventsByCellId, TaskCreatedEvent
from tests.simulators.bbs import Bbs, actual, desired, serve_bbs, tasks
from tests.simulators.bbs.connections import reset
from tests.simulators.bbs.events import BUFFER_SIZE
from tests.simulators.bbs_probe import INSTANCES, TASKS, probe, raw_stream, some_lrp, some_task, until
from tests.simulators.certificates import Certificates

pytestmark = pytest.mark.usefixtures("servers")

HEADERS = {
    "cache-control": "no-cache, no-store, must-revalidate",
    "connection": "keep-alive",
    "content-type": "text/event-stream; charset=utf-8",
    "transfer-encoding": "chunked",
}


def desire_task(bbs: Bbs, guid: str) -> None:
    tasks.desire(bbs.state, guid, "some-domain", some_task())


async def test_headers_come_at_once_and_after_the_subscription(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        lines = stream.head.decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])

        assert lines[0] == "HTTP/1.1 200 OK"
        assert {name: headers[name] for name in HEADERS} == HEADERS
        desire_task(bbs, "first")
        number, name, payload = await stream.event()
        assert (number, name) == (0, "task_created")
        assert TaskCreatedEvent.FromString(payload).task.task_guid == "first"


async def test_each_event_is_a_chunk_whose_size_ends_in_a_bare_semicolon(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        desire_task(bbs, "some-task")

        line, data = await stream.chunk()

        assert line == b"%x;\r\n" % len(data)
        number, name, payload, *rest = data.split(b"\n")
        assert (number, name, rest) == (b"id: 0", b"event: task_created", [b"", b""])
        assert base64.b64decode(payload.removeprefix(b"data: "), validate=True)


async def test_ids_count_from_0_on_each_connection_and_nothing_is_replayed(
    certificates: Certificates,
) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as first:
        desire_task(bbs, "one")
        created, rejected = await first.event(), await first.event()
        async with raw_stream(bbs, TASKS) as second:
            desire_task(bbs, "two")

            assert [created[0], rejected[0], (await first.event())[0]] == [0, 1, 2]
            number, _, payload = await second.event()
            assert number == 0
            assert TaskCreatedEvent.FromString(payload).task.task_guid == "two"


async def test_a_subscriber_1024_events_behind_gets_those_and_a_clean_end(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        open_stream = bbs.streams[0]
        open_stream.stall()
        for number in range(BUFFER_SIZE // 2 + 1):  # each one is created and, without a cell, rejected
            desire_task(bbs, f"task-{number}")
        await bbs.state.events.settle()
        assert (open_stream.waiting, open_stream.is_closed) == (BUFFER_SIZE, True)

        open_stream.resume()

        numbers = [(await stream.event())[0] for _ in range(BUFFER_SIZE)]
        assert numbers == list(range(BUFFER_SIZE))
        assert await stream.rest() == b"0\r\n\r\n"


async def test_a_subscriber_that_keeps_up_gets_more_than_1024_events_of_one_call(
    certificates: Certificates,
) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, INSTANCES) as stream:
        desired.desire(bbs.state, some_lrp(instances=2 * BUFFER_SIZE))

        for _ in range(2 * BUFFER_SIZE):
            await stream.event()


async def test_a_clean_end_delivers_what_waits_first(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, INSTANCES) as stream:
        desired.desire(bbs.state, some_lrp(instances=0))
        await bbs.state.events.settle()
        bbs.streams[0].end()

        assert (await stream.event())[1] == "desired_lrp_created"
        assert await stream.rest() == b"0\r\n\r\n"
        await until(lambda: not bbs.streams)


async def test_a_reset_breaks_off(certificates: Certificates) -> None:
    async with (
        serve_bbs(certificates) as bbs,
        probe(bbs) as probed,
        probed.client.stream("POST", TASKS) as response,
    ):
        bbs.streams[0].reset()

        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await response.aread()


async def test_a_stalled_stream_is_silent_but_open(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        bbs.streams[0].stall()
        desire_task(bbs, "some-task")
        await bbs.state.events.settle()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await stream.reader.read(1)
        bbs.streams[0].resume()
        assert (await stream.event())[1] == "task_created"


async def test_bytes_events_and_broken_payloads_can_be_injected(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        bbs.streams[0].inject(b"neither this nor that")
        bbs.streams[0].inject_event("unheard_of", "AA==")
        bbs.streams[0].inject_event("task_created", "%%%")
        bbs.streams[0].inject_raw(b"zzz")
        bbs.streams[0].end()

        assert [data for _, data in (await stream.chunk(), await stream.chunk(), await stream.chunk())] == [
            b"neither this nor that",
            b"id: 0\nevent: unheard_of\ndata: AA==\n\n",
            b"id: 1\nevent: task_created\ndata: %%%\n\n",
        ]
        assert await stream.rest() == b"zzz0\r\n\r\n"


async def test_a_cell_id_filters_instances_but_never_desired_lrps(certificates: Certificates) -> None:
    body = EventsByCellId(cell_id="cell-b").SerializeToString()
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, INSTANCES, body) as stream:
        desired.desire(bbs.state, some_lrp(instances=2))
        for index, cell_id in enumerate(("cell-a", "cell-b")):
            instance = ActualLRPInstanceKey(instance_guid=f"instance-{index}", cell_id=cell_id)
            actual.claim(bbs.state, "some-guid", index, instance)
        desired.remove(bbs.state, "some-guid")

        names = [(await stream.event())[1] for _ in range(3)]

    assert names == ["desired_lrp_created", "actual_lrp_instance_changed", "desired_lrp_removed"]


async def test_a_body_that_is_no_protobuf_is_answered_500(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        answer = await probed.client.post(INSTANCES, content=b"\xff\xff\xff")

    assert (answer.status_code, answer.content) == (500, b"")


async def test_operations_overtake_each_other_when_reordered(certificates: Certificates) -> None:
    count = 50
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, INSTANCES) as stream:
        bbs.state.events.reorder(1)
        for number in range(count):
            desired.desire(bbs.state, some_lrp(f"guid-{number}", instances=0))

        payloads = [(await stream.event())[2] for _ in range(count)]

    guids = [f"guid-{number}" for number in range(count)]
    order = [next(guid for guid in guids if f"{guid}\x12".encode() in payload) for payload in payloads]
    assert order != guids
    assert sorted(order) == sorted(guids)


async def test_events_can_be_lost_while_the_data_changes(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, INSTANCES) as stream:
        bbs.state.events.losing = True
        desired.desire(bbs.state, some_lrp("unseen", instances=0))
        bbs.state.events.losing = False
        desired.remove(bbs.state, "unseen")

        assert (await stream.event())[1] == "desired_lrp_removed"
        assert bbs.state.events.lost == 1


async def test_a_client_that_leaves_is_forgotten(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs:
        async with raw_stream(bbs, TASKS):
            assert len(bbs.streams) == 1

        await until(lambda: not bbs.streams)


async def test_nothing_is_written_to_a_client_that_is_gone_whatever_waits_for_it(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """A transport warns of each write after the fifth to a connection that is lost."""
    async with serve_bbs(certificates) as bbs, raw_stream(bbs, TASKS) as stream:
        open_stream = bbs.streams[0]
        open_stream.stall()
        for number in range(50):
            desire_task(bbs, f"task-{number}")
        await bbs.state.events.settle()
        reset(stream.writer)
        open_stream.resume()
        await until(lambda: not bbs.streams)

    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
