"""The stage of the BBS contract: raw calls that play a cell's part, names of one's own, and the cleaning up.

Speaks protobuf over plain httpx, so that a mistake of our client cannot hide itself.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import httpx
from google.protobuf.message import Message

from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs import evacuation_pb2 as evacuation
from protos.bbs import task_requests_pb2 as task_requests
from protos.bbs.actions_pb2 import Action, RunAction
from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInstanceKey, ActualLRPKey, ActualLRPNetInfo
from protos.bbs.desired_lrp_pb2 import DesiredLRP, ProtoRoutes
from protos.bbs.domain_pb2 import UpsertDomainRequest
from protos.bbs.error_pb2 import Error
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.task_pb2 import Task, TaskDefinition
from reconcile.events import (
    ActualLrpCreated,
    ActualLrpRemoved,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskCreated,
    TaskRemoved,
)
from reconcile.lrps import ProcessGuid, TaskGuid
from tests.contracts.bbs_client import ContractClient, open_contract_client

M = TypeVar("M", bound=Message)

LIMIT = 60.0
"""Seconds; only a failure ever meets it."""

NET = ActualLRPNetInfo(address="10.0.0.1", instance_address="10.255.0.1")


@dataclass(frozen=True)
class Target:
    url: str
    tls: ssl.SSLContext


@dataclass
class Scene:
    """What a test acts with.

    Attributes:
        client: The client under contract.
        http: For raw calls.
        is_2026: Whether the BBS has what came after 2024.
        domain: Of this test alone.
        placement_tag: No cell has it, so none ever takes what the test plays with.
        cell_id: A cell that nobody has registered.
    """

    client: ContractClient
    http: httpx.AsyncClient
    is_2026: bool
    domain: str = field(default_factory=lambda: f"suite-{uuid4()}")
    placement_tag: str = field(default_factory=lambda: f"suite-{uuid4()}")
    cell_id: str = field(default_factory=lambda: f"suite-cell-{uuid4()}")
    process_guids: list[ProcessGuid] = field(default_factory=list)
    task_guids: list[TaskGuid] = field(default_factory=list)

    async def post(self, path: str, body: bytes = b"") -> httpx.Response:
        return await self.http.post(path, content=body)

    async def ask(self, path: str, request: Message, answer: type[M]) -> M:
        response = await self.post(path, request.SerializeToString())
        assert response.status_code == 200, path
        return answer.FromString(response.content)

    async def send(self, path: str, request: Message) -> Error | None:
        """Make a call whose answer is its error."""
        answer = await self.ask(path, request, task_requests.TaskLifecycleResponse)
        return answer.error if answer.HasField("error") else None

    async def do(self, path: str, request: Message) -> None:
        """Make a call that must succeed."""
        error = await self.send(path, request)
        assert error is None, f"{path}: {error}"

    # Desired LRPs

    def lrp(self, *, instances: int = 1) -> DesiredLRP:
        """Make up a desired LRP; its process GUID has the 73 characters that Cloud Controller's have."""
        guid = ProcessGuid(f"{uuid4()}-{uuid4()}")
        self.process_guids.append(guid)
        return DesiredLRP(
            process_guid=guid,
            domain=self.domain,
            root_fs="docker:///suite/image#1",
            instances=instances,
            action=Action(run_action=RunAction(path="/bin/true", user="vcap")),
            metric_tags={"app_id": MetricTagValue(static="the-app"), "source_id": MetricTagValue(static="s")},
            log_guid="the-app",
            annotation="1700000000.5",
            memory_mb=16,
            disk_mb=16,
            routes=ProtoRoutes(routes={"cf-router": b"[]"}),
            PlacementTags=[self.placement_tag],
        )

    async def desire(self, lrp: DesiredLRP) -> ProcessGuid:
        await self.do("/v1/desired_lrp/desire.r2", desired_requests.DesireLRPRequest(desired_lrp=lrp))
        return ProcessGuid(lrp.process_guid)

    async def stored(self, process_guid: str) -> DesiredLRP:
        request = desired_requests.DesiredLRPByProcessGuidRequest(process_guid=process_guid)
        path = "/v1/desired_lrps/get_by_process_guid.r3"
        return (await self.ask(path, request, desired_requests.DesiredLRPResponse)).desired_lrp

    # Instances, as a cell sees them

    def key(self, process_guid: str, index: int = 0) -> ActualLRPKey:
        return ActualLRPKey(process_guid=process_guid, index=index, domain=self.domain)

    def instance(self, name: str = "instance") -> ActualLRPInstanceKey:
        return ActualLRPInstanceKey(instance_guid=name, cell_id=self.cell_id)

    async def rows(self, process_guid: str) -> list[ActualLRP]:
        request = actual_requests.ActualLRPsRequest(process_guid=process_guid)
        answer = await self.ask("/v1/actual_lrps/list", request, actual_requests.ActualLRPsResponse)
        return sorted(answer.actual_lrps, key=lambda row: (row.actual_lrp_key.index, row.presence))

    async def claim(self, process_guid: str, instance: ActualLRPInstanceKey, *, index: int = 0) -> None:
        request = actual_requests.ClaimActualLRPRequest(
            process_guid=process_guid, index=index, actual_lrp_instance_key=instance
        )
        await self.do("/v1/actual_lrps/claim", request)

    async def start(self, process_guid: str, instance: ActualLRPInstanceKey, *, index: int = 0) -> None:
        request = actual_requests.StartActualLRPRequest(
            actual_lrp_key=self.key(process_guid, index),
            actual_lrp_instance_key=instance,
            actual_lrp_net_info=NET,
            Routable=True,
        )
        await self.do("/v1/actual_lrps/start.r1", request)

    async def crash(self, process_guid: str, instance: ActualLRPInstanceKey) -> None:
        request = actual_requests.CrashActualLRPRequest(
            actual_lrp_key=self.key(process_guid), actual_lrp_instance_key=instance, error_message="boom"
        )
        await self.do("/v1/actual_lrps/crash", request)

    async def drop_row(self, process_guid: str, *, index: int = 0) -> None:
        request = actual_requests.RemoveActualLRPRequest(process_guid=process_guid, index=index)
        await self.do("/v1/actual_lrps/remove", request)

    async def evacuate(self, process_guid: str, instance: ActualLRPInstanceKey) -> None:
        request = evacuation.EvacuateRunningActualLRPRequest(
            actual_lrp_key=self.key(process_guid), actual_lrp_instance_key=instance, actual_lrp_net_info=NET
        )
        answer = await self.ask("/v1/actual_lrps/evacuate_running.r1", request, evacuation.EvacuationResponse)
        assert not answer.HasField("error"), answer.error

    # Tasks

    async def desire_task(self, *, placement_tags: tuple[str, ...] | None = None) -> TaskGuid:
        """Desire a made-up task; None keeps cells away from it."""
        guid = TaskGuid(f"suite-{uuid4()}")
        self.task_guids.append(guid)
        definition = TaskDefinition(
            root_fs="docker:///suite/image#1",
            action=Action(run_action=RunAction(path="/bin/true", args=["-a"], user="vcap")),
            log_guid="the-app",
            metric_tags={"app_id": MetricTagValue(static="the-app")},
            image_username="u",
            image_password="p",
            placement_tags=[self.placement_tag] if placement_tags is None else placement_tags,
        )
        request = task_requests.DesireTaskRequest(
            task_definition=definition, task_guid=guid, domain=self.domain
        )
        await self.do("/v1/tasks/desire.r2", request)
        return guid

    async def start_task(self, task_guid: str) -> bool:
        request = task_requests.StartTaskRequest(task_guid=task_guid, cell_id=self.cell_id)
        answer = await self.ask("/v1/tasks/start", request, task_requests.StartTaskResponse)
        assert not answer.HasField("error"), answer.error
        return answer.should_start

    async def complete_task(self, task_guid: str, *, cell_id: str = "") -> Error | None:
        request = task_requests.CompleteTaskRequest(
            task_guid=task_guid, cell_id=cell_id or self.cell_id, result="the result"
        )
        return await self.send("/v1/tasks/complete", request)

    async def stored_task(self, task_guid: str) -> Task:
        request = task_requests.TaskByGuidRequest(task_guid=task_guid)
        return (await self.ask("/v1/tasks/get_by_task_guid.r3", request, task_requests.TaskResponse)).task

    # The end

    async def clean_up(self) -> None:
        """Leave nothing behind, whatever state a test ended in."""
        for guid in self.process_guids:
            await self.send(
                "/v1/desired_lrp/remove", desired_requests.RemoveDesiredLRPRequest(process_guid=guid)
            )
            for row in await self.rows(guid):
                await self._remove(row)
        for task in self.task_guids:
            for step in ("cancel", "resolving", "delete"):
                await self.send(f"/v1/tasks/{step}", task_requests.TaskGuidRequest(task_guid=task))
        await self.send("/v1/domains/upsert", UpsertDomainRequest(domain=self.domain, ttl=1))

    async def _remove(self, row: ActualLRP) -> None:
        if row.presence == ActualLRP.EVACUATING:
            await self.send(
                "/v1/actual_lrps/remove_evacuating",
                evacuation.RemoveEvacuatingActualLRPRequest(
                    actual_lrp_key=row.actual_lrp_key, actual_lrp_instance_key=row.actual_lrp_instance_key
                ),
            )
            return
        key = row.actual_lrp_key
        await self.send(
            "/v1/actual_lrps/remove",
            actual_requests.RemoveActualLRPRequest(process_guid=key.process_guid, index=key.index),
        )


@asynccontextmanager
async def open_scene(target: Target) -> AsyncIterator[Scene]:
    """Open a scene on a BBS, find out which version it is, and clean up at the end."""
    async with (
        open_contract_client(target.url, tls=target.tls) as client,
        httpx.AsyncClient(base_url=target.url, verify=target.tls, trust_env=False) as http,
    ):
        newest = "/v1/actual_lrps/list_by_process_guids"
        request = actual_requests.ActualLRPsByProcessGuidsRequest(process_guids=["none"])
        answer = await http.post(newest, content=request.SerializeToString())
        scene = Scene(client, http, is_2026=answer.status_code != 404)
        try:
            yield scene
        finally:
            await scene.clean_up()


async def read_until(events: AsyncIterator[Event], *wanted: Callable[[Event], bool]) -> list[Event]:
    """Read events until each wanted one was seen, in any order, and give the first that fits each."""
    found: list[Event | None] = [None] * len(wanted)
    async with asyncio.timeout(LIMIT):
        async for event in events:
            for at, is_wanted in enumerate(wanted):
                if found[at] is None and is_wanted(event):
                    found[at] = event
                    break
            if all(found):
                return [event for event in found if event is not None]
    raise AssertionError("the stream ended")


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until the world is as it should be."""
    async with asyncio.timeout(LIMIT):
        while not await condition():  # noqa: ASYNC110  # the world is on another machine
            await asyncio.sleep(0.05)  # no event tells it


def comparable(lrp: DesiredLRP, *, without: Iterable[str] = ()) -> DesiredLRP:
    """Copy a desired LRP without what the BBS makes itself."""
    copy = DesiredLRP()
    copy.CopyFrom(lrp)
    for name in ("modification_tag", "metrics_guid", *without):
        copy.ClearField(name)
    return copy


def is_created(guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DesiredLrpCreated) and event.lrp.process_guid == guid


def is_removed(guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DesiredLrpRemoved) and event.lrp.process_guid == guid


def is_row(kind: type[ActualLrpCreated | ActualLrpRemoved], guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and event.lrp.process_guid == guid


def is_task(kind: type[TaskCreated | TaskRemoved], guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and event.task.task_guid == guid
