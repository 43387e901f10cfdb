"""The client under contract, with the calls that only the suites make: those of other clients of the BBS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext

from controller.bbs import messages
from controller.bbs.client import DEFAULT_TIMEOUT, BbsClient, open_bbs
from protos.bbs import task_requests_pb2 as tasks
from protos.bbs.domain_pb2 import UpsertDomainRequest
from reconcile.errors import NotFound
from reconcile.lrps import DesiredLrp, Task, TaskGuid


@dataclass(frozen=True, slots=True)
class ContractClient(BbsClient):
    """What Cloud Controller and the cells ask of a BBS, beside what we ask of it."""

    async def upsert_domain_for_ever(self, domain: str) -> None:
        """Keep a domain fresh until somebody upserts it with a time."""
        await self.calls.call("/v1/domains/upsert", request=UpsertDomainRequest(domain=domain, ttl=0))

    async def find_task(self, task_guid: TaskGuid) -> Task | None:
        """Read one task; completed ones vanish after two minutes."""
        request = tasks.TaskByGuidRequest(task_guid=task_guid)
        try:
            path = "/v1/tasks/get_by_task_guid.r3"
            answer = await self.calls.read(path, answer=tasks.TaskResponse, request=request)
        except NotFound:
            return None
        return messages.task_from_message(answer.task)

    async def cancel_task(self, task_guid: TaskGuid) -> None:
        """Stop a task; it then is completed and failed.

        Raises:
            Conflict: It was completed already.
        """
        await self.calls.call("/v1/tasks/cancel", request=tasks.TaskGuidRequest(task_guid=task_guid))

    async def resolve_task(self, task_guid: TaskGuid) -> None:
        """Claim a completed task.

        Raises:
            Conflict: It is not completed, or claimed already.
        """
        await self.calls.call("/v1/tasks/resolving", request=tasks.TaskGuidRequest(task_guid=task_guid))

    async def delete_task(self, task_guid: TaskGuid) -> None:
        """Delete a claimed task.

        Raises:
            Conflict: It is not claimed.
        """
        await self.calls.call("/v1/tasks/delete", request=tasks.TaskGuidRequest(task_guid=task_guid))

    async def desire_definition(self, lrp: DesiredLrp) -> None:
        """Desire the received definition as it was.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """
        request = messages.original_definition(lrp.definition)
        await self.calls.call("/v1/desired_lrp/desire.r2", request=request)


@asynccontextmanager
async def open_contract_client(
    address: str, *, tls: SSLContext, timeout: float = DEFAULT_TIMEOUT
) -> AsyncIterator[ContractClient]:
    """Open a client as the daemon does."""
    async with open_bbs(address, tls=tls, timeout=timeout) as bbs:
        yield ContractClient(bbs.calls, bbs.streams)
