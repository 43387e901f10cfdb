"""Covers what two versions of a real BBS said, through our client: every answer and all three streams."""

import base64
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.bbs.events import event_from_sse
from controller.bbs.listing import Listing
from controller.bbs.messages import LrpUpdate, definition_with_image, original_definition
from controller.bbs.sse import SseParser
from protos.bbs import desired_lrp_requests_pb2 as desired
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCreated,
    ActualLrpRemoved,
    BrokenEvent,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskChanged,
    TaskCreated,
    TaskRemoved,
    UnknownEvent,
)
from reconcile.lrps import Credentials, ProcessGuid, Secret, TaskGuid, TaskState
from reconcile.references import Rootfs
from tests.contracts.bbs_client import ContractClient, open_contract_client
from tests.controller.bbs.lrps import LRP
from tests.controller.bbs.peers import LAST_CHUNK, STREAM_HEAD, Answer, Then, chunks, head, serve

pytestmark = pytest.mark.usefixtures("servers")

FIXTURES = Path(__file__).parents[2] / "fixtures"
Recording = dict[str, Any]


@pytest.fixture(params=["2024", "2026"])
def recording(request: pytest.FixtureRequest) -> Recording:
    recorded: Recording = json.loads((FIXTURES / f"bbs-exchanges-{request.param}.json").read_text())
    return recorded


def exchange(recording: Recording, name: str) -> Recording:
    (found,) = (one for one in recording["exchanges"] if one["name"] == name)
    return dict(found)


def played(one: Recording) -> Answer:
    body = base64.b64decode(one["response"])
    reason = {200: "OK", 404: "Not Found"}[one["status"]]
    lines = [f"{name}: {value}" for name, value in one["headers"].items()]
    return Answer(head(*lines, status=f"{one['status']} {reason}") + body)


def frames(raw: str) -> Iterator[bytes]:
    for frame in raw.split("\n\n")[:-1]:
        yield f"{frame}\n\n".encode()


PROCESS, TASK = ProcessGuid("some-process"), TaskGuid("some-task")


async def read_all(listing: Listing[Any]) -> tuple[Any, ...]:
    return tuple([record async for record in listing])


CALLS: dict[str, Callable[[ContractClient], Awaitable[object]]] = {
    "ping": lambda bbs: bbs.ping(),
    "domains": lambda bbs: bbs.list_domains(),
    "domain_upsert": lambda bbs: bbs.upsert_domain("d", ttl=60),
    "cells": lambda bbs: bbs.list_cells(),
    "tasks_list": lambda bbs: bbs.list_tasks(),
    "task_get": lambda bbs: bbs.find_task(TASK),
    "task_resolving": lambda bbs: bbs.resolve_task(TASK),
    "task_delete": lambda bbs: bbs.delete_task(TASK),
    "task": lambda bbs: bbs.cancel_task(TASK),  # and desires, whose answers are of the same kind
    "desired_lrp_get": lambda bbs: bbs.find_desired_lrp(PROCESS),
    "desired_lrp_update": lambda bbs: bbs.update_desired_lrp(PROCESS, LrpUpdate(instances=1)),
    "desired_lrp_remove": lambda bbs: bbs.remove_desired_lrp(PROCESS),
    "desired_lrp_desire": lambda bbs: bbs.desire_definition(LRP),
    "desired_lrps_list": lambda bbs: read_all(bbs.list_desired_lrps()),
    "malformed_request": lambda bbs: read_all(bbs.list_desired_lrps()),
    "unknown_route": lambda bbs: read_all(bbs.list_desired_lrps()),
    "scheduling_infos": lambda bbs: read_all(bbs.list_scheduling_infos()),
    "actual_lrps": lambda bbs: bbs.list_actual_lrps(PROCESS),
}
"""The beginning of an exchange's name to the call of ours that gets such an answer."""


def call_for(name: str) -> Callable[[ContractClient], Awaitable[object]]:
    return CALLS[max((prefix for prefix in CALLS if name.startswith(prefix)), key=len)]


FAILURES = {
    "domain_upsert_invalid": "InvalidRequest",
    "task_desire_duplicate": "ResourceExists",
    "task_desire_invalid": "InvalidRequest",
    "task_delete_not_resolving": "InvalidStateTransition",
    "task_cancel_completed": "InvalidStateTransition",
    "desired_lrp_desire_duplicate": "ResourceExists",
    "desired_lrp_desire_invalid": "InvalidRequest",
    "desired_lrp_update_missing": "ResourceNotFound",
    "desired_lrp_remove_missing": "ResourceNotFound",
    "malformed_request": "InvalidRequest",
    "unknown_route": "UnknownRoute",
}
NOTHING: dict[str, object] = {
    "domains_empty": frozenset(),
    "task_get_missing": None,
    "desired_lrp_get_missing": None,
}


async def test_every_answer_is_read(
    recording: Recording, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    exchanges = recording["exchanges"]
    outcomes: dict[str, object] = {}
    async with (
        serve(server_tls, map(played, exchanges)) as peer,
        open_contract_client(peer.address, tls=tls) as bbs,
    ):
        for one in exchanges:
            try:
                outcomes[one["name"]] = await call_for(one["name"])(bbs)
            except DockerCacheError as error:
                outcomes[one["name"]] = error.code

    assert {name: code for name, code in outcomes.items() if isinstance(code, str)} == FAILURES
    assert {name: outcomes[name] for name in NOTHING} == NOTHING
    assert len(peer.requests) == len(exchanges)


async def test_the_answers_say_what_was_desired(
    recording: Recording, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    names = ["desired_lrp_get", "scheduling_infos_list", "actual_lrps_list", "task_get_completed", "cells"]
    script = [played(exchange(recording, name)) for name in names]
    asked = base64.b64decode(exchange(recording, "desired_lrp_desire")["request"])
    original = desired.DesireLRPRequest.FromString(asked).desired_lrp
    async with serve(server_tls, script) as peer, open_contract_client(peer.address, tls=tls) as bbs:
        lrp = await bbs.find_desired_lrp(PROCESS)
        (info,) = [one async for one in bbs.list_scheduling_infos(docker_only=True)]
        rows = await bbs.list_actual_lrps(PROCESS)
        task = await bbs.find_task(TASK)
        cells = await bbs.list_cells()

    assert lrp is not None
    assert (lrp.process_guid, lrp.domain, lrp.instances) == (original.process_guid, original.domain, 2)
    assert lrp.rootfs == Rootfs(original.root_fs)
    assert lrp.app_guid == original.log_guid
    assert (info.process_guid, info.app_guid, info.rootfs) == (lrp.process_guid, lrp.app_guid, lrp.rootfs)
    assert info.tag == lrp.tag
    assert sorted(row.index for row in rows) == [0, 1]
    assert {row.process_guid for row in rows} == {lrp.process_guid}
    assert task is not None
    assert task.state is TaskState.COMPLETED
    assert "docker" in cells[0].rootfs_schemes


def test_a_rewrite_of_the_recorded_definition_changes_the_image_only(recording: Recording) -> None:
    body = base64.b64decode(exchange(recording, "desired_lrp_get")["response"])
    definition = desired.DesiredLRPResponse.FromString(body).desired_lrp.SerializeToString()
    credentials = Credentials("u", Secret("p"))
    after = definition_with_image(definition, rootfs=Rootfs("docker://c/g#latest"), credentials=credentials)
    before = original_definition(definition)

    assert after.desired_lrp.root_fs == "docker://c/g#latest"
    for field in ("root_fs", "image_username", "image_password"):
        after.desired_lrp.ClearField(field)
        before.desired_lrp.ClearField(field)
    assert after == before


STREAMS = {"tasks": 14, "lrp_instances": 16, "lrp_instances_cell": 4}
KINDS: dict[str, tuple[type, ...]] = {
    "tasks": (TaskCreated, TaskChanged, TaskRemoved),
    "lrp_instances": (
        *(DesiredLrpCreated, DesiredLrpChanged, DesiredLrpRemoved),
        *(ActualLrpCreated, ActualLrpChanged, ActualLrpRemoved),
    ),
    "lrp_instances_cell": (DesiredLrpCreated, DesiredLrpChanged, DesiredLrpRemoved),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_every_event_is_read_over_the_wire_and_without_it(
    name: str, recording: Recording, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    raw = recording["streams"][name]["raw"]
    direct = [event_from_sse(one.name, data=one.data) for one in SseParser().feed(raw.encode())]
    wire = Answer(STREAM_HEAD + chunks(*frames(raw)) + LAST_CHUNK, Then.CLOSE)
    over_the_wire: list[Event] = []
    async with (
        serve(server_tls, [wire]) as peer,
        open_contract_client(peer.address, tls=tls) as bbs,
        bbs.subscribe_lrp_instances() as events,
    ):
        with pytest.raises(Unavailable, match="stream-ended"):
            over_the_wire.extend([event async for event in events])

    assert b"".join(frames(raw)).decode() == raw
    assert len(direct) == STREAMS[name]
    assert {type(event) for event in direct} == set(KINDS[name])
    assert not any(isinstance(event, BrokenEvent | UnknownEvent) for event in direct)


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_the_stream_may_be_cut_anywhere(size: int, recording: Recording) -> None:
    raw = recording["streams"]["lrp_instances"]["raw"].encode()
    parser = SseParser()
    cut = [event for i in range(0, len(raw), size) for event in parser.feed(raw[i : i + size])]

    assert cut == list(SseParser().feed(raw))
