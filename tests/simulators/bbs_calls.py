"""The calls that Cloud Controller makes to a BBS: in process past its port, or over a client.

Source: cloud_controller_ng lib/cloud_controller/diego/bbs_apps_client.rb, bbs_task_client.rb.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import httpx
from google.protobuf.message import Message

from protos.bbs.actual_lrp_pb2 import ActualLRP
from protos.bbs.actual_lrp_requests_pb2 import ActualLRPsRequest, ActualLRPsResponse
from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate
from protos.bbs.desired_lrp_requests_pb2 import (
    DesiredLRPByProcessGuidRequest,
    DesiredLRPLifecycleResponse,
    DesiredLRPResponse,
    DesiredLRPSchedulingInfosResponse,
    DesiredLRPsRequest,
    DesireLRPRequest,
    RemoveDesiredLRPRequest,
    UpdateDesiredLRPRequest,
)
from protos.bbs.domain_pb2 import UpsertDomainRequest, UpsertDomainResponse
from protos.bbs.error_pb2 import Error
from protos.bbs.task_pb2 import Task, TaskDefinition
from protos.bbs.task_requests_pb2 import (
    DesireTaskRequest,
    TaskGuidRequest,
    TaskLifecycleResponse,
    TasksRequest,
    TasksResponse,
)
from tests.simulators.bbs import Bbs

TTL = 120

Response = TypeVar("Response", bound=Message)


class BbsRefused(Exception):
    """The BBS answered with an error."""

    def __init__(self, problem: Error) -> None:
        super().__init__(problem.message)
        self.kind = problem.type


class Caller(Protocol):
    """A way to call the BBS."""

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""


class InProcess:
    """Calls a simulated BBS past its port, so that faults of the port do not matter."""

    def __init__(self, bbs: Bbs) -> None:
        self._bbs = bbs

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""
        body = self._bbs.handle(path, request.SerializeToString(), str(uuid.uuid4()))
        response.ParseFromString(body or b"")
        await self._bbs.state.events.settle()
        return response


class OverHttp:
    """Calls a BBS over a client with its URL and certificates."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""
        headers = {"Content-Type": "application/x-protobuf", "X-Vcap-Request-Id": str(uuid.uuid4())}
        answer = await self._client.post(path, content=request.SerializeToString(), headers=headers)
        answer.raise_for_status()
        response.ParseFromString(answer.content)
        return response


class Diego:
    """What Cloud Controller asks of Diego."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def annotations(self, domain: str) -> dict[str, str]:
        """List the LRPs of a domain: process GUID to annotation."""
        infos = await self._call(
            "/v1/desired_lrp_scheduling_infos/list",
            DesiredLRPsRequest(domain=domain),
            DesiredLRPSchedulingInfosResponse(),
        )
        return {
            info.desired_lrp_key.process_guid: info.annotation for info in infos.desired_lrp_scheduling_infos
        }

    async def find(self, process_guid: str) -> DesiredLRP | None:
        """Find an LRP."""
        request = DesiredLRPByProcessGuidRequest(process_guid=process_guid)
        try:
            found = await self._call("/v1/desired_lrps/get_by_process_guid.r3", request, DesiredLRPResponse())
        except BbsRefused as problem:
            if problem.kind != Error.ResourceNotFound:
                raise
            return None
        return found.desired_lrp

    async def desire(self, lrp: DesiredLRP) -> None:
        """Desire an LRP; one that is there already is good enough."""
        with tolerated(Error.ResourceExists):
            request = DesireLRPRequest(desired_lrp=lrp)
            await self._call("/v1/desired_lrp/desire.r2", request, DesiredLRPLifecycleResponse())

    async def update(self, process_guid: str, change: DesiredLRPUpdate) -> None:
        """Change an LRP in place."""
        request = UpdateDesiredLRPRequest(process_guid=process_guid, update=change)
        await self._call("/v1/desired_lrp/update", request, DesiredLRPLifecycleResponse())

    async def remove(self, process_guid: str) -> None:
        """Remove an LRP; one that is gone already is good enough."""
        with tolerated(Error.ResourceNotFound):
            request = RemoveDesiredLRPRequest(process_guid=process_guid)
            await self._call("/v1/desired_lrp/remove", request, DesiredLRPLifecycleResponse())

    async def freshen(self, domain: str) -> None:
        """Make a domain fresh."""
        request = UpsertDomainRequest(domain=domain, ttl=TTL)
        await self._call("/v1/domains/upsert", request, UpsertDomainResponse())

    async def instances(self, process_guid: str) -> Sequence[ActualLRP]:
        """List the instances of an LRP."""
        request = ActualLRPsRequest(process_guid=process_guid)
        return (await self._call("/v1/actual_lrps/list", request, ActualLRPsResponse())).actual_lrps

    async def desire_task(self, guid: str, domain: str, definition: TaskDefinition) -> None:
        """Desire a task."""
        request = DesireTaskRequest(task_guid=guid, domain=domain, task_definition=definition)
        await self._call("/v1/tasks/desire.r2", request, TaskLifecycleResponse())

    async def cancel_task(self, guid: str) -> None:
        """Cancel a task; one that has ended is good enough."""
        with tolerated(Error.ResourceNotFound, Error.InvalidStateTransition):
            await self._call("/v1/tasks/cancel", TaskGuidRequest(task_guid=guid), TaskLifecycleResponse())

    async def tasks(self, domain: str) -> Sequence[Task]:
        """List the tasks of a domain."""
        found = await self._call("/v1/tasks/list.r3", TasksRequest(domain=domain), TasksResponse())
        return found.tasks

    async def _call(self, path: str, request: Message, response: Response) -> Response:
        answer = await self._caller.call(path, request, response)
        # Every response has its error under the same number.
        failure = DesiredLRPLifecycleResponse.FromString(answer.SerializeToString())
        if failure.HasField("error"):
            raise BbsRefused(failure.error)
        return answer


@contextlib.contextmanager
def tolerated(*kinds: Error.Type) -> Iterator[None]:
    """Go on after errors of some kinds."""
    try:
        yield
    except BbsRefused as problem:
        if problem.kind not in kinds:
            raise
