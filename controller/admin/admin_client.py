"""Makes the calls of the admin API for commands, which get rows of plain values.

A row maps a field to text, number, list or None. Times are UTC seconds since 1970, None where there is none.
The daemon's errors are raised as `DockerCacheError`.
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
from controller.admin.grpc_status import SYSTEM, error_from_status
from controller.admin.request_options import Filters, PlanOptions
from controller.admin.rows import Row, enum_name, row_from_message
from controller.mutual_tls import MutualTls
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminStub
from reconcile.errors import ErrorCode, Invalid, Unavailable

CALL_WITHIN = 120.0
"""Seconds for a call with a single answer; calls that stream answers have no limit."""

PAGE_SIZE = 500

_PART = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ClientTls(MutualTls):
    """The files of mutual TLS, in PEM.

    Attributes:
        server_name: The name in the daemon's certificate, where it is not the host of the address.
    """

    server_name: str | None = None


class AdminClient:
    """The calls of the admin API."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._stub: Any = AdminStub(channel)
        self._address = address

    async def status(self) -> Row:
        """Get what the daemon is doing as a whole."""
        return row_from_message(await self._call("Status", pb.StatusRequest()))

    async def list_images(self, globs: Sequence[str] = ()) -> list[Row]:
        """List cached images, oldest first."""

        def request(token: str) -> pb.ListCachedImagesRequest:
            return pb.ListCachedImagesRequest(page_size=PAGE_SIZE, page_token=token, images=globs)

        return await self._list("ListCachedImages", request, "images")

    async def get_images(self, names: Sequence[str]) -> list[Row]:
        """Get cached images by GUID, prefix or source, each with the LRPs that use it."""
        answer = await self._call("GetCachedImages", pb.GetCachedImagesRequest(images=names))
        return [
            {**row_from_message(each.image), "process_guids": list(each.process_guids)}
            for each in answer.images
        ]

    async def list_jobs(self, states: Sequence[str] = (), job_ids: Sequence[str] = ()) -> list[Row]:
        """List jobs, the latest first; without states or ids those that are open or have failed."""
        names = [enum_name(pb.JobState, "JOB_STATE", state) for state in states]

        def request(token: str) -> pb.ListJobsRequest:
            return pb.ListJobsRequest(page_size=PAGE_SIZE, page_token=token, states=names, job_ids=job_ids)

        return await self._list("ListJobs", request, "jobs")

    async def list_migrations(self, process_guids: Sequence[str] = ()) -> list[Row]:
        """List the LRPs that are being migrated."""

        def request(token: str) -> pb.ListMigrationsRequest:
            return pb.ListMigrationsRequest(
                page_size=PAGE_SIZE, page_token=token, process_guids=process_guids
            )

        return await self._list("ListMigrations", request, "migrations")

    async def list_apps(self, filters: Filters, states: Sequence[str] = ()) -> list[Row]:
        """List the Docker LRPs, by process GUID.

        Raises:
            Unavailable: Some of them could not be read.
        """
        names = [enum_name(pb.AppState, "APP_STATE", state) for state in states]

        def request(token: str) -> pb.ListAppsRequest:
            return pb.ListAppsRequest(
                page_size=PAGE_SIZE, page_token=token, filter=_filter(filters), states=names
            )

        return await self._list("ListApps", request, "apps")

    async def list_droplets(self, filters: Filters, phases: Sequence[str] = ()) -> list[Row]:
        """List what the daemon has done about droplets, by the GUID of the droplet."""
        names = [enum_name(pb.DropletPhase, "DROPLET_PHASE", phase) for phase in phases]

        def request(token: str) -> pb.ListDropletsRequest:
            return pb.ListDropletsRequest(
                page_size=PAGE_SIZE, page_token=token, filter=_filter(filters), phases=names
            )

        return await self._list("ListDroplets", request, "droplets")

    async def list_audit(self) -> list[Row]:
        """List what operators told the daemon to do, the latest first."""

        def request(token: str) -> pb.ListAuditRequest:
            return pb.ListAuditRequest(page_size=PAGE_SIZE, page_token=token)

        return await self._list("ListAudit", request, "entries")

    async def cache_image(self, reference: str) -> Row:
        """Ask for a copy of an image, and get its job."""
        return row_from_message(await self._call("CacheImage", pb.CacheImageRequest(reference=reference)))

    async def watch_jobs(self, job_ids: Sequence[str] = ()) -> AsyncGenerator[Row, None]:
        """Get jobs at once, and each again whenever it changes."""
        async with aclosing(self._stream("WatchJobs", pb.WatchJobsRequest(job_ids=job_ids))) as jobs:
            async for job in jobs:
                yield row_from_message(job)

    async def plan(self, filters: Filters, options: PlanOptions) -> PlanDocument:
        """Ask what would be changed."""
        request = pb.PlanRequest(
            filter=_filter(filters),
            goal=enum_name(pb.Goal, "GOAL", options.goal),
            strategy=enum_name(pb.Strategy, "STRATEGY", options.strategy) if options.strategy else None,
            only_cached=options.only_cached,
            include_pinned=options.include_pinned,
        )
        async with aclosing(self._stream("Plan", request)) as entries:
            return PlanDocument.from_messages([entry async for entry in entries])

    async def apply(
        self, plan: PlanDocument, max_in_flight: int | None, stop: asyncio.Event | None = None
    ) -> AsyncGenerator[Row, None]:
        """Apply a plan, and get each change of its LRPs; a caller that leaves starts no further migration.

        Args:
            plan: To apply.
            max_in_flight: LRPs that are migrated at a time; None leaves it to the daemon.
            stop: Once it is set, no further migration is started, and the events end with those under way.
        """
        options, stopping = pb.ApplyOptions(max_in_flight=max_in_flight or 0), stop or asyncio.Event()
        ended = False

        async def requests() -> AsyncIterator[pb.ApplyRequest]:
            yield pb.ApplyRequest(options=options)
            for entry in plan.messages():
                yield pb.ApplyRequest(entry=entry)
            await stopping.wait()
            if not ended:
                yield pb.ApplyRequest(stop=pb.ApplyStop())

        try:
            async with aclosing(self._stream("Apply", requests())) as events:
                async for event in events:
                    yield row_from_message(event)
        finally:
            ended = True
            stopping.set()  # ends the requests

    async def plan_eviction(self, names: Sequence[str] = ()) -> list[Row]:
        """Ask which copies may be deleted, by GUID, prefix or source; of all copies when none is named."""
        request = pb.PlanEvictionRequest(images=names)
        async with aclosing(self._stream("PlanEviction", request)) as entries:
            return [row_from_message(each) async for each in entries]

    async def evict(self, names: Sequence[str]) -> AsyncGenerator[Row, None]:
        """Delete copies that nothing uses, by GUID, prefix or source."""
        async with aclosing(self._stream("Evict", pb.EvictRequest(images=names))) as evicted:
            async for each in evicted:
                yield row_from_message(each)

    async def verify(self, names: Sequence[str], *, repair: bool) -> AsyncGenerator[Row, None]:
        """Read copies back, by GUID, prefix or source; all of them when none is named.

        Args:
            names: Of the copies.
            repair: Whether what is missing or corrupt is sent again.
        """
        request = pb.VerifyRequest(images=names, repair=repair)
        async with aclosing(self._stream("Verify", request)) as verified:
            async for each in verified:
                yield row_from_message(each)

    async def rebuild(self, *, accept_unsealed: bool) -> AsyncGenerator[Row, None]:
        """Adopt copies and LRPs that the database does not know, and get what became of each copy."""
        request = pb.RebuildRequest(accept_unsealed=accept_unsealed)
        async with aclosing(self._stream("Rebuild", request)) as rebuilt:
            async for each in rebuilt:
                yield row_from_message(each)

    async def restore_backup(self, path: Path) -> Row:
        """Let the daemon restart on a backup; it refuses one that does not fit before it changes anything."""

        async def parts() -> AsyncIterator[pb.BackupPart]:
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while content := await asyncio.to_thread(file.read, _PART):
                    yield pb.BackupPart(content=content)
            finally:
                await asyncio.to_thread(file.close)

        try:
            return row_from_message(await self._stub.RestoreBackup(parts()))
        except grpc.aio.AioRpcError as error:
            raise error_from_status(error, attempt=f"RestoreBackup at {self._address}") from error

    async def pause(self) -> None:
        """Start no new work except what an operator asks for."""
        await self._call("Pause", pb.PauseRequest())

    async def resume(self) -> None:
        """End a pause."""
        await self._call("Resume", pb.ResumeRequest())

    async def reset_circuit_breaker(self) -> None:
        """Let migrations resume although some have failed."""
        await self._call("ResetCircuitBreaker", pb.ResetCircuitBreakerRequest())

    async def get_log_level(self) -> Row:
        """Say which log lines the daemon writes."""
        return row_from_message(await self._call("GetLogLevel", pb.GetLogLevelRequest()))

    async def set_log_level(self, level: str) -> Row:
        """Change which log lines the daemon writes, until it ends."""
        return row_from_message(await self._call("SetLogLevel", pb.SetLogLevelRequest(level=level)))

    async def seal_anew(self) -> Row:
        """Seal with the first journal key what an older one has sealed."""
        return row_from_message(await self._call("SealAnew", pb.SealAnewRequest()))

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
                raise Unavailable(SYSTEM, ErrorCode.CUT, cut) from error
            raise error_from_status(error, attempt=f"{call} at {self._address}") from error
        finally:
            answers.cancel()


def _filter(filters: Filters) -> pb.Filter:
    return pb.Filter(
        orgs=filters.orgs,
        spaces=filters.spaces,
        apps=filters.apps,
        images=filters.images,
        process_guids=filters.process_guids,
    )


@asynccontextmanager
async def open_client(address: str, tls: ClientTls | None) -> AsyncIterator[AdminClient]:
    """Open a client until the block ends; nothing is sent yet.

    Args:
        address: "host:port", or "unix:path".
        tls: None speaks without TLS.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),  # whatever the environment says
    ]
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
