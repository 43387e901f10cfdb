"""Makes requests and subscriptions to the BBS, with values of the core as arguments and results.

The connection finds the active node of the BBS: passive nodes refuse it, and every address of the host name
is tried.

Source: cloudfoundry/bbs routes.go and client.go.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from controller.bbs import canaries, messages
from controller.bbs.address import check_address
from controller.bbs.bbs_errors import SYSTEM
from controller.bbs.calls import Calls
from controller.bbs.listing import Listing
from controller.bbs.streams import Streams
from controller.bbs.text import texts_of
from controller.transport import Tls, open_calls, open_streams
from protos.bbs import actual_lrp_requests_pb2 as actual
from protos.bbs import desired_lrp_requests_pb2 as desired
from protos.bbs import task_requests_pb2 as tasks
from protos.bbs.actual_lrp_pb2 import ActualLRPKey
from protos.bbs.cells_pb2 import CellsResponse
from protos.bbs.domain_pb2 import DomainsResponse, UpsertDomainRequest
from protos.bbs.ping_pb2 import PingResponse
from reconcile.canary import Canary
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.events import Event
from reconcile.lease import always
from reconcile.lrps import (
    ActualLrp,
    Cell,
    Credentials,
    DesiredLrp,
    ProcessGuid,
    Pull,
    SchedulingInfo,
    Task,
    TaskGuid,
)
from reconcile.references import Rootfs

DEFAULT_TIMEOUT = 10.0
"""Seconds; what the Diego daemons ship as `communication_timeout`."""

MAX_TTL = 2**32 - 1
"""Seconds; the field of the request is a uint32."""

Subscription = AbstractAsyncContextManager[AsyncIterator[Event]]


@dataclass(frozen=True, slots=True)
class BbsClient:
    """Makes the calls. Every method raises the errors of `reconcile.errors`; only reads are retried."""

    calls: Calls
    streams: Streams

    def checked_by(self, check: Callable[[], None]) -> "BbsClient":
        """Return a client over the same connections that runs one more check before each change.

        Args:
            check: Raises an error when nothing must be changed now.
        """

        def check_both() -> None:
            self.calls.check_active()
            check()

        return replace(self, calls=replace(self.calls, check_active=check_both))

    async def ping(self) -> None:
        """Check that an active BBS responds."""
        await self.calls.read("/v1/ping", answer=PingResponse)

    async def fetch_date(self) -> str | None:
        """Fetch the Date header of a response of the BBS; None where there is none."""
        async with self.calls.open_body("/v1/ping") as answer:
            date: str | None = answer.headers.get("Date")
            return date

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""
        answer = await self.calls.read("/v1/domains/list", answer=DomainsResponse)
        return frozenset(texts_of(answer.domains))

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        """Keep a domain fresh for some whole seconds.

        Raises:
            Invalid: The time is less than one second; the BBS takes 0 as "forever".
        """
        if not 1 <= ttl <= MAX_TTL or ttl != int(ttl):
            raise Invalid(SYSTEM, "InvalidRequest", f"a domain cannot be fresh for {ttl} seconds")
        request = UpsertDomainRequest(domain=domain, ttl=int(ttl))
        await self.calls.call("/v1/domains/upsert", request=request)

    async def list_cells(self) -> tuple[Cell, ...]:
        """List the registered cells."""
        answer = await self.calls.read("/v1/cells/list.r1", answer=CellsResponse)
        return tuple(map(messages.cell_from_message, answer.cells))

    async def list_tasks(self, domain: str = "") -> tuple[Task, ...]:
        """List the tasks of one domain or all."""
        request = tasks.TasksRequest(domain=domain)
        answer = await self.calls.read("/v1/tasks/list.r3", answer=tasks.TasksResponse, request=request)
        return tuple(map(messages.task_from_message, answer.tasks))

    async def desire_canary_task(self, canary: Canary) -> None:
        """Desire the task of a canary."""
        await self.calls.call("/v1/tasks/desire.r2", request=canaries.task_request(canary))

    async def desire_canary_lrp(self, canary: Canary) -> None:
        """Desire the LRP of a canary, with an instance for each cell."""
        await self.calls.call("/v1/desired_lrp/desire.r2", request=canaries.lrp_request(canary))

    async def end_task(self, task_guid: TaskGuid) -> None:
        """Cancel a task that has not ended, and delete it; one that is gone already is no error."""
        request = tasks.TaskGuidRequest(task_guid=task_guid)
        with suppress(NotFound):
            with suppress(Conflict):  # it has ended
                await self.calls.call("/v1/tasks/cancel", request=request)
            with suppress(Conflict):  # somebody who deleted it was interrupted
                await self.calls.call("/v1/tasks/resolving", request=request)
            await self.calls.call("/v1/tasks/delete", request=request)

    def list_desired_lrps(
        self, domain: str = "", process_guids: Sequence[ProcessGuid] = ()
    ) -> Listing[DesiredLrp]:
        """List the desired LRPs of one domain or all, one at a time; with process GUIDs only those."""
        path = "/v1/desired_lrps/list.r3"
        request = desired.DesiredLRPsRequest(domain=domain, process_guids=process_guids)
        body = self.calls.open_body(path, request=request)
        return Listing(body, convert=messages.desired_lrp_from_record, call=path)

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Find one desired LRP; None when it is not desired."""
        request = desired.DesiredLRPByProcessGuidRequest(process_guid=process_guid)
        try:
            path = "/v1/desired_lrps/get_by_process_guid.r3"
            answer = await self.calls.read(path, answer=desired.DesiredLRPResponse, request=request)
        except NotFound:
            return None
        return messages.desired_lrp_from_message(answer.desired_lrp)

    def list_scheduling_infos(
        self, domain: str = "", *, docker_only: bool = False
    ) -> Listing[SchedulingInfo]:
        """List the scheduling infos of the desired LRPs of one domain or all, one at a time."""
        path = "/v1/desired_lrp_scheduling_infos/list"
        body = self.calls.open_body(path, request=desired.DesiredLRPsRequest(domain=domain))
        record = messages.scheduling_info_from_record
        convert = messages.docker_scheduling_info_from_record if docker_only else record
        return Listing(body, convert=convert, call=path)

    async def desire_lrp(self, lrp: DesiredLrp, rootfs: Rootfs, credentials: Credentials | None) -> None:
        """Desire the received definition with another rootfs and image credentials, and nothing else changed.

        The number of instances and the routes are those of the value, as its owner wants them by now.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """
        request = messages.definition_with_image(lrp.definition, rootfs=rootfs, credentials=credentials)
        messages.set_what_owners_change(request, instances=lrp.instances, routes=lrp.routes)
        await self.calls.call("/v1/desired_lrp/desire.r2", request=request)

    async def desire_another(
        self, lrp: DesiredLrp, process_guid: ProcessGuid, domain: str, pull: Pull, *, instances: int
    ) -> None:
        """Desire a bridge like a received LRP, with its own process GUID, domain, image and instances.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """
        request = messages.another_definition(
            lrp.definition, process_guid, domain=domain, pull=pull, instances=instances
        )
        await self.calls.call("/v1/desired_lrp/desire.r2", request=request)

    async def update_from(self, process_guid: ProcessGuid, lrp: DesiredLrp) -> None:
        """Update an LRP to the number of instances, the routes and the annotation of another.

        Raises:
            NotFound: It is not desired.
        """
        update = messages.LrpUpdate(lrp.instances, lrp.routes, lrp.annotation)
        await self.update_desired_lrp(process_guid, update)

    async def update_routes(self, process_guid: ProcessGuid, routes: Mapping[str, bytes]) -> None:
        """Update the routes of an LRP, and nothing else of it.

        Raises:
            NotFound: It is not desired.
        """
        await self.update_desired_lrp(process_guid, messages.LrpUpdate(routes=routes))

    async def update_credentials(self, process_guid: ProcessGuid, credentials: Credentials | None) -> None:
        """Update the image login of an LRP, and nothing else of it; None removes the login.

        A BBS of 2024 reports success and changes nothing.

        Raises:
            NotFound: It is not desired.
        """
        update = messages.LrpUpdate(credentials=credentials or messages.NO_LOGIN)
        await self.update_desired_lrp(process_guid, update)

    async def update_desired_lrp(self, process_guid: ProcessGuid, update: messages.LrpUpdate) -> None:
        """Update what the BBS can update in place; the rootfs is not among it."""
        request = messages.message_from_update(process_guid, update=update)
        await self.calls.call("/v1/desired_lrp/update", request=request)

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        """Remove a desired LRP; success means "no longer desired", not "stopped".

        Raises:
            NotFound: It was not desired.
        """
        request = desired.RemoveDesiredLRPRequest(process_guid=process_guid)
        await self.calls.call("/v1/desired_lrp/remove", request=request)

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's actual LRPs of every presence, all or none: callers rely on "there is none"."""
        request = actual.ActualLRPsRequest(process_guid=process_guid)
        path = "/v1/actual_lrps/list"
        answer = await self.calls.read(path, answer=actual.ActualLRPsResponse, request=request)
        return tuple(map(messages.actual_lrp_from_message, answer.actual_lrps))

    def list_actual_lrps_of_domain(self, domain: str) -> Listing[ActualLrp]:
        """List the actual LRPs of one domain of every presence, one at a time."""
        path = "/v1/actual_lrps/list"
        body = self.calls.open_body(path, request=actual.ActualLRPsRequest(domain=domain))
        return Listing(body, convert=messages.actual_lrp_from_record, call=path)

    async def retire_actual_lrp(self, process_guid: ProcessGuid, *, index: int, domain: str) -> None:
        """Stop one instance; the next convergence starts another where it is still desired.

        Raises:
            NotFound: There is no ordinary actual LRP at that index.
        """
        key = ActualLRPKey(process_guid=process_guid, index=index, domain=domain)
        await self.calls.call(
            "/v1/actual_lrps/retire", request=actual.RetireActualLRPRequest(actual_lrp_key=key)
        )

    def subscribe_tasks(self) -> Subscription:
        """Subscribe to the events of all tasks."""
        return self.streams.subscribe("/v1/events/tasks.r1")

    def subscribe_lrp_instances(self, cell_id: str = "") -> Subscription:
        """Subscribe to the events of desired LRPs, and of actual LRPs on one cell or all."""
        return self.streams.subscribe("/v1/events/lrp_instances.r1", cell_id=cell_id)


@asynccontextmanager
async def open_bbs(
    address: str,
    *,
    tls: Tls,
    timeout: float = DEFAULT_TIMEOUT,
    check_active: Callable[[], None] = always,
    unacknowledged: float | None = None,
) -> AsyncIterator[BbsClient]:
    """Open a client; nothing is sent yet.

    Args:
        address: "https://host:port"; the server's certificate must hold the host name.
        tls: See `controller.transport`.
        timeout: Seconds that one attempt of a call may take.
        check_active: Raises `LeaseLost` when this process must not change anything any more.
        unacknowledged: See `controller.transport.open_calls`.

    Raises:
        Invalid: The address is not a plain https URL.
    """
    check_address(address)
    async with (
        open_calls(address, tls=tls, timeout=timeout, unacknowledged=unacknowledged) as calls,
        open_streams(address, tls=tls) as streams,
    ):
        yield BbsClient(Calls(calls, timeout, check_active), Streams(streams, timeout))
