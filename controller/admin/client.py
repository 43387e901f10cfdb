"""What commands use of the admin API: rows of plain values, in the words of the program.

A row maps a column to text, number, list or None; times are UTC seconds since 1970, None where there is
none. Errors of the daemon come as ours.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from controller.admin.documents import PlanDocument
from controller.admin.errors import SYSTEM, error_from_status
from controller.admin.questions import Chosen, PlanOptions
from controller.admin.rows import Row, enum_name, row_from_message
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminStub
from reconcile.errors import Invalid, Unavailable

CALL_WITHIN = 120.0
"""Seconds for a call that answers once; one that answers bit by bit has no limit."""

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class ClientTls:
    """The files of mutual TLS, in PEM.

    Attributes:
        server_name: What must stand in the daemon's certificate, where it is not the host of the address.
    """

    ca_cert_file: Path
    cert_file: Path
    key_file: Path
    server_name: str | None = None


class AdminClient:
    """The calls of the admin API."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._stub: Any = AdminStub(channel)
        self._address = address

    async def status(self) -> Row:
        """Tell what the daemon is doing as a whole."""
        return row_from_message(await self._call("Status", pb.StatusRequest()))

    async def list_images(self, images: Sequence[str] = (), guids: Sequence[str] = ()) -> list[Row]:
        """List copies, oldest first; with GUIDs also which LRPs run from each."""

        def request(token: str) -> pb.ListCachedImagesRequest:
            return pb.ListCachedImagesRequest(
                page_size=PAGE_SIZE, page_token=token, images=images, cache_guids=guids
            )

        return await self._list("ListCachedImages", request, "images")

    async def list_jobs(self, states: Sequence[str] = (), images: Sequence[str] = ()) -> list[Row]:
        """List jobs, the latest to be asked for first; without states those that are open or have failed."""
        names = [enum_name(pb.JobState, "JOB_STATE", state) for state in states]

        def request(token: str) -> pb.ListJobsRequest:
            return pb.ListJobsRequest(page_size=PAGE_SIZE, page_token=token, states=names, images=images)

        return await self._list("ListJobs", request, "jobs")

    async def list_migrations(self) -> list[Row]:
        """List the LRPs that are being moved."""

        def request(token: str) -> pb.ListMigrationsRequest:
            return pb.ListMigrationsRequest(page_size=PAGE_SIZE, page_token=token)

        return await self._list("ListMigrations", request, "migrations")

    async def list_apps(self, chosen: Chosen, states: Sequence[str] = ()) -> list[Row]:
        """List the Docker LRPs, by process GUID.

        Raises:
            Unavailable: Some of them could not be read.
        """
        names = [enum_name(pb.AppState, "APP_STATE", state) for state in states]

        def request(token: str) -> pb.ListAppsRequest:
            return pb.ListAppsRequest(
                page_size=PAGE_SIZE, page_token=token, filter=_filter(chosen), states=names
            )

        return await self._list("ListApps", request, "apps")

    async def list_audit(self) -> list[Row]:
        """List what operators did, the latest first."""

        def request(token: str) -> pb.ListAuditRequest:
            return pb.ListAuditRequest(page_size=PAGE_SIZE, page_token=token)

        return await self._list("ListAudit", request, "entries")

    async def cache_image(self, reference: str) -> Row:
        """Ask for a copy of an image, and give its job."""
        return row_from_message(await self._call("CacheImage", pb.CacheImageRequest(reference=reference)))

    async def watch_jobs(self, job_ids: Sequence[str] = ()) -> AsyncGenerator[Row, None]:
        """Give jobs at once, and each again whenever something of it changes."""
        async with aclosing(self._stream("WatchJobs", pb.WatchJobsRequest(job_ids=job_ids))) as jobs:
            async for job in jobs:
                yield row_from_message(job)

    async def plan(self, chosen: Chosen, options: PlanOptions) -> PlanDocument:
        """Ask what would be changed."""
        request = pb.PlanRequest(
            filter=_filter(chosen),
            goal=enum_name(pb.Goal, "GOAL", options.goal),
            strategy=enum_name(pb.Strategy, "STRATEGY", options.strategy) if options.strategy else None,
            only_cached=options.only_cached,
            include_pinned=options.include_pinned,
        )
        async with aclosing(self._stream("Plan", request)) as entries:
            return PlanDocument.from_messages([entry async for entry in entries])

    async def apply(self, plan: PlanDocument, max_in_flight: int | None) -> AsyncGenerator[Row, None]:
        """Apply a plan, and tell how each LRP of it gets on; leaving it stops what is not begun."""
        options = pb.ApplyOptions(max_in_flight=max_in_flight or 0)

        async def requests() -> AsyncIterator[pb.ApplyRequest]:
            yield pb.ApplyRequest(options=options)
            for entry in plan.messages():
                yield pb.ApplyRequest(entry=entry)

        async with aclosing(self._stream("Apply", requests())) as news:
            async for each in news:
                yield row_from_message(each)

    async def evict(self, cache_guid: str) -> Row:
        """Delete a copy that nothing runs from."""
        return row_from_message(await self._call("Evict", pb.EvictRequest(cache_guid=cache_guid)))

    async def verify(self, cache_guids: Sequence[str]) -> AsyncGenerator[Row, None]:
        """Read copies back, all of them when none is named."""
        request = pb.VerifyRequest(cache_guids=cache_guids)
        async with aclosing(self._stream("Verify", request)) as verified:
            async for each in verified:
                yield row_from_message(each)

    async def pause(self) -> None:
        """Begin no copy and no migration any more."""
        await self._call("Pause", pb.PauseRequest())

    async def resume(self) -> None:
        """Go on."""
        await self._call("Resume", pb.ResumeRequest())

    async def reset_circuit(self) -> None:
        """Let migrations go on although some have failed."""
        await self._call("ResetCircuit", pb.ResetCircuitRequest())

    async def _list(self, call: str, request: Callable[[str], object], field: str) -> list[Row]:
        rows, token = list[Row](), ""
        while True:
            answer = await self._call(call, request(token))
            rows += [row_from_message(each) for each in getattr(answer, field)]
            if getattr(answer, "unreadable", 0):
                raise Invalid(SYSTEM, "unreadable", f"{answer.unreadable} LRPs in the BBS cannot be read")
            token = answer.next_page_token
            if not token:
                return rows

    async def _call(self, call: str, request: object) -> Any:
        try:
            return await getattr(self._stub, call)(request, timeout=CALL_WITHIN)
        except grpc.aio.AioRpcError as error:
            raise error_from_status(error, attempt=f"{call} at {self._address}") from error

    async def _stream(self, call: str, request: object) -> AsyncGenerator[Any, None]:
        answers, has_answered = getattr(self._stub, call)(request), False
        try:
            async for answer in answers:
                has_answered = True
                yield answer
        except grpc.aio.AioRpcError as error:
            if has_answered and error.code() is grpc.StatusCode.UNAVAILABLE:
                cut = f"{call} at {self._address}: the daemon ended, or the connection to it; ask again"
                raise Unavailable(SYSTEM, "cut", cut) from error
            raise error_from_status(error, attempt=f"{call} at {self._address}") from error
        finally:
            answers.cancel()


def _filter(chosen: Chosen) -> pb.Filter:
    return pb.Filter(
        orgs=chosen.orgs,
        spaces=chosen.spaces,
        apps=chosen.apps,
        images=chosen.images,
        process_guids=chosen.process_guids,
    )


@asynccontextmanager
async def open_client(address: str, tls: ClientTls | None) -> AsyncIterator[AdminClient]:
    """Open a client until the block ends; nothing is sent yet.

    Args:
        address: "host:port", or "unix:path".
        tls: None speaks without TLS.
    """
    options: list[tuple[str, Any]] = [("grpc.enable_retries", 0)]
    if tls is None:
        channel = grpc.aio.insecure_channel(address, options=options)
    else:
        if tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        channel = grpc.aio.secure_channel(
            address, await asyncio.to_thread(_credentials, tls), options=options
        )
    async with channel:
        yield AdminClient(channel, address)


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca_cert_file.read_bytes(),
        private_key=tls.key_file.read_bytes(),
        certificate_chain=tls.cert_file.read_bytes(),
    )
