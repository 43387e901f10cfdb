"""Replays recordings of two real BBS versions against the simulator of that version."""

import asyncio
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import httpx
import pytest
from google.protobuf.message import Message

from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs import cells_pb2, domain_pb2, events_pb2, ping_pb2
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs import task_requests_pb2 as task_requests
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import Bbs, Version, serve_bbs
from tests.simulators.bbs_probe import INSTANCES, TASKS, probe, until
from tests.simulators.cell import CellSettings, SimulatedCell, TaskResult
from tests.simulators.certificates import Certificates

FIXTURES = Path(__file__).parent.parent / "fixtures"

RESPONSES: dict[str, type[Message]] = {
    "/v1/ping": ping_pb2.PingResponse,
    "/v1/domains/list": domain_pb2.DomainsResponse,
    "/v1/domains/upsert": domain_pb2.UpsertDomainResponse,
    "/v1/cells/list.r1": cells_pb2.CellsResponse,
    "/v1/tasks/list.r3": task_requests.TasksResponse,
    "/v1/tasks/get_by_task_guid.r3": task_requests.TaskResponse,
    "/v1/tasks/desire.r2": task_requests.TaskLifecycleResponse,
    "/v1/tasks/resolving": task_requests.TaskLifecycleResponse,
    "/v1/tasks/delete": task_requests.TaskLifecycleResponse,
    "/v1/tasks/cancel": task_requests.TaskLifecycleResponse,
    "/v1/desired_lrp/desire.r2": desired_requests.DesiredLRPLifecycleResponse,
    "/v1/desired_lrp/update": desired_requests.DesiredLRPLifecycleResponse,
    "/v1/desired_lrp/remove": desired_requests.DesiredLRPLifecycleResponse,
    "/v1/desired_lrps/list.r3": desired_requests.DesiredLRPsResponse,
    "/v1/desired_lrps/get_by_process_guid.r3": desired_requests.DesiredLRPResponse,
    "/v1/desired_lrp_scheduling_infos/list": desired_requests.DesiredLRPSchedulingInfosResponse,
    "/v1/actual_lrps/list": actual_requests.ActualLRPsResponse,
}
EVENTS: dict[str, type[Message]] = {
    "task_created": events_pb2.TaskCreatedEvent,
    "task_changed": events_pb2.TaskChangedEvent,
    "task_removed": events_pb2.TaskRemovedEvent,
    "desired_lrp_created": events_pb2.DesiredLRPCreatedEvent,
    "desired_lrp_changed": events_pb2.DesiredLRPChangedEvent,
    "desired_lrp_removed": events_pb2.DesiredLRPRemovedEvent,
    "actual_lrp_instance_created": events_pb2.ActualLRPInstanceCreatedEvent,
    "actual_lrp_instance_changed": events_pb2.ActualLRPInstanceChangedEvent,
    "actual_lrp_instance_removed": events_pb2.ActualLRPInstanceRemovedEvent,
}
UNDETERMINED = frozenset(
    {
        "created_at",
        "updated_at",
        "first_completed_at",
        "since",
        "epoch",
        "instance_guid",
        "address",
        "instance_address",
        "rep_address",
        "rep_url",
    }
)
"""Fields that the server or the cell makes up; whether they are set is compared, what they hold is not."""
BLOCK = re.compile(r"id: (\d+)\nevent: (\w+)\ndata: ([A-Za-z0-9+/]+=*)\n\n")


class Exchange(TypedDict):
    name: str
    method: str
    path: str
    request: str
    status: int
    content_type: str
    headers: dict[str, str]
    response: str


class RecordedStream(TypedDict):
    status: int
    headers: dict[str, str]
    raw: str


class Recording(TypedDict):
    source: str
    exchanges: list[Exchange]
    streams: dict[str, RecordedStream]


def recording(version: Version) -> Recording:
    loaded: Recording = json.loads((FIXTURES / f"bbs-exchanges-{version}.json").read_text())
    return loaded


RECORDINGS = {version: recording(version) for version in Version}
STREAMS = {
    "tasks": (TASKS, ""),
    "lrp_instances": (INSTANCES, ""),
    "lrp_instances_cell": (INSTANCES, "no-such-cell"),
}


def normal(message: Message) -> object:
    """Turn a message into values that compare: no order of lists, nothing that the server made up."""
    fields: dict[str, object] = {}
    for field, value in message.ListFields():
        if (
            field.name == "ports" and message.DESCRIPTOR.name == "ActualLRPNetInfo"
        ) or field.name in UNDETERMINED:
            fields[field.name] = "made up"
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = {
                key: normal(part) if isinstance(part, Message) else part
                for key, part in sorted(value.items())
            }
        elif isinstance(value, Message):
            fields[field.name] = normal(value)
        elif field.message_type is not None:
            fields[field.name] = sorted((normal(part) for part in value), key=repr)
        elif isinstance(value, str | bytes | int):
            fields[field.name] = value
        else:
            fields[field.name] = list(value)
    return fields


def events_of(raw: str) -> list[tuple[str, object]]:
    """Read a stream's text strictly: the numbers count from 0 and nothing is left over."""
    blocks = BLOCK.findall(raw)
    assert "".join(f"id: {number}\nevent: {name}\ndata: {data}\n\n" for number, name, data in blocks) == raw
    assert [str(at) for at in range(len(blocks))] == [number for number, _, _ in blocks]
    return [
        (name, normal(EVENTS[name].FromString(base64.b64decode(data, validate=True))))
        for _, name, data in blocks
    ]


def recorded_results(of: Recording) -> dict[str, str]:
    """Take from the task stream what the recorded cell made of each task."""
    results = {}
    for _, name, data in BLOCK.findall(of["streams"]["tasks"]["raw"]):
        if name == "task_changed":
            task = events_pb2.TaskChangedEvent.FromString(base64.b64decode(data)).after
            results[task.task_guid] = task.result
    return results


class Stage:
    """The recorded cell's part: what has to be so before an exchange of that name is made."""

    def __init__(self, bbs: Bbs, cell: SimulatedCell) -> None:
        self._bbs = bbs
        self._cell = cell
        self._steps: dict[str, Callable[[], bool]] = {
            "tasks_list": lambda: self._task_states() == {Task.Running},
            "task_get_completed": self._complete_tasks,
            "actual_lrps_list": lambda: self._instance_states() == ["RUNNING"] * 2,
            "desired_lrp_remove": lambda: self._instance_states() == ["RUNNING"] * 3,
            "actual_lrps_after_stop": self._stop_instances,
        }
        cell.task_gate.clear()
        cell.stop_gate.clear()

    async def prepare(self, name: str) -> None:
        if name in self._steps:
            await until(self._steps[name])

    def _complete_tasks(self) -> bool:
        self._cell.task_gate.set()
        return self._task_states() == {Task.Completed}

    def _stop_instances(self) -> bool:
        self._cell.stop_gate.set()
        return not self._instance_states()

    def _task_states(self) -> set[Task.State]:
        return {task.state for task in self._bbs.state.tasks.values()}

    def _instance_states(self) -> list[str]:
        return [row.state for row in self._bbs.state.rows()]


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("version", [*Version])
async def test_it_answers_and_tells_what_the_recorded_bbs_did(
    certificates: Certificates, version: Version
) -> None:
    recorded = RECORDINGS[version]
    results = recorded_results(recorded)
    settings = CellSettings(
        cell_id="lab-cell",
        reports_tags=False,
        start_delay=0,
        stop_delay=0,
        task_delay=0,
        task_result=lambda task: TaskResult(results[task.task_guid]),
    )
    async with (
        serve_bbs(certificates, version=version) as bbs,
        SimulatedCell(bbs, settings) as cell,
        probe(bbs) as probed,
    ):
        stage = Stage(bbs, cell)
        reading = {name: asyncio.create_task(read_stream(probed.client, name)) for name in STREAMS}
        await until(lambda: len(bbs.streams) == len(STREAMS))
        for exchange in recorded["exchanges"]:
            await stage.prepare(exchange["name"])
            answer = await probed.client.request(
                exchange["method"],
                exchange["path"],
                content=base64.b64decode(exchange["request"]),
                headers={"X-Vcap-Request-Id": f"cap-{exchange['name']}"},
            )
            check_answer(exchange, answer)
        await bbs.state.events.settle()
        await bbs.stop_listening()
        heard = {name: await task for name, task in reading.items()}
    for name, stream in recorded["streams"].items():
        assert sorted(events_of(stream["raw"]), key=repr) == sorted(events_of(heard[name]), key=repr)


async def read_stream(client: httpx.AsyncClient, name: str) -> str:
    path, cell_id = STREAMS[name]
    body = events_pb2.EventsByCellId(cell_id=cell_id).SerializeToString()
    async with client.stream("POST", path, content=body) as response:
        for recorded in RECORDINGS.values():
            stream = recorded["streams"][name]
            assert stream["status"] == response.status_code
            assert {key: response.headers[key] for key in stream["headers"]} == stream["headers"]
        return (await response.aread()).decode()


def check_answer(exchange: Exchange, answer: httpx.Response) -> None:
    name = exchange["name"]
    assert (name, exchange["status"]) == (name, answer.status_code)
    expected = {key: value for key, value in exchange["headers"].items() if key != "Content-Length"}
    assert expected == {key: answer.headers[key] for key in expected}
    body = base64.b64decode(exchange["response"])
    if exchange["path"] not in RESPONSES:
        assert body == answer.content
        return
    response = RESPONSES[exchange["path"]]
    assert (name, normal(response.FromString(body))) == (name, normal(response.FromString(answer.content)))
