"""Answers the calls of the admin API; what a call may do and how it fails is the same for all."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog

from controller.admin import messages, queries
from controller.admin.audit import Arguments
from controller.admin.callers import caller_of
from controller.admin.errors import BadRequest, status_of
from controller.admin.planner import Wanted
from controller.admin.queries import Desk
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminServicer
from reconcile.errors import Denied, DockerCacheError, Invalid
from reconcile.images import CacheGuid, ImageReference, parse_image_reference, without_login
from reconcile.lrps import AppGuid
from reconcile.plan import Plan as ReconcilePlan
from reconcile.policy import refusal_of
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, Goal, JobId, requester_of_operator
from reconcile.selection import Selection
from reconcile.staging import Signal

log = structlog.get_logger(scope="admin")

_LONG = frozenset({"Apply", "Restore", "Verify"})

MOST_ENTRIES = 1_000_000
"""Of a plan that is to be applied."""

Context = grpc.aio.ServicerContext[Any, Any]


class Servicer(AdminServicer):
    """The calls of the admin API."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Status(self, _: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Tell what the daemon is doing as a whole."""
        async with _answering(context):
            return await queries.status(self._desk)

    async def ListCachedImages(
        self, request: pb.ListCachedImagesRequest, context: Context
    ) -> pb.ListCachedImagesResponse:
        """List copies, oldest first."""
        async with _answering(context):
            return await queries.cached_images(self._desk, request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """List jobs, the latest to be asked for first."""
        async with _answering(context):
            return await queries.jobs(self._desk, request)

    async def ListMigrations(
        self, request: pb.ListMigrationsRequest, context: Context
    ) -> pb.ListMigrationsResponse:
        """List the LRPs that are being moved."""
        async with _answering(context):
            return await queries.migrations(self._desk, request)

    async def ListApps(self, request: pb.ListAppsRequest, context: Context) -> pb.ListAppsResponse:
        """List the Docker LRPs, by process GUID."""
        async with _answering(context):
            return await queries.apps(self._desk, request)

    async def ListAudit(self, request: pb.ListAuditRequest, context: Context) -> pb.ListAuditResponse:
        """List what operators did, the latest first."""
        async with _answering(context):
            return await queries.audit(self._desk, request)

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Context) -> AsyncIterator[pb.Job]:
        """Give jobs again whenever something of them changes."""
        wanted = tuple(map(JobId, request.job_ids))
        async with _answering(context), aclosing(queries.watch_jobs(self._desk, wanted)) as jobs:
            async for job in jobs:
                yield job

    async def CacheImage(self, request: pb.CacheImageRequest, context: Context) -> pb.Job:
        """Ask for a copy of an image, and do not wait for it."""
        async with self._changing(context, "CacheImage", {"reference": without_login(request.reference)}):
            source = _reference(request.reference)
            rules = self._desk.survey.rules
            refusal = refusal_of(rules.policy, image=source, signal=Signal.OPT_IN, cache=rules.cache)
            if refusal == Reason.ALREADY_CACHED:
                raise Invalid("admin", refusal, f"{source} lies in the private registry: name its source")
            if refusal is not None:
                raise Denied("admin", refusal, f"{source}: allow_images or deny_images do not allow it")
            job = await self._desk.jobs.request(
                CacheRequest(
                    app_guid=AppGuid(""),
                    source=source,
                    requester=requester_of_operator(str(uuid.uuid4())),
                    staged_at=0,
                    reason=Reason.OPERATOR_REQUEST,
                    is_ordered=True,
                )
            )
            return queries.job_message(self._desk, job)

    async def Plan(self, request: pb.PlanRequest, context: Context) -> AsyncIterator[pb.PlanEntry]:
        """Tell what would be changed, without changing it."""
        async with _answering(context):
            plan = await self._plan(messages.wanted_from_message(request))
            for entry in messages.messages_from_plan(plan):
                yield entry

    async def _plan(self, wanted: Wanted) -> ReconcilePlan:
        return await self._desk.planner.plan(wanted, now=self._desk.process.clock())

    async def Apply(
        self, requests: AsyncIterator[pb.ApplyRequest], context: Context
    ) -> AsyncIterator[pb.Progress]:
        """Apply a plan, whole and unchanged."""
        async with _answering(context):
            options, entries = await _read_plan(requests)
        migrations = sum(entry.HasField("migration") for entry in entries)
        arguments = {"max_in_flight": options.max_in_flight, "migrations": migrations}
        async with self._changing(context, "Apply", arguments):
            plan = messages.plan_from_messages(entries)
            async with aclosing(self._apply(plan, options.max_in_flight)) as news:
                async for each in news:
                    yield each

    async def Restore(self, request: pb.RestoreRequest, context: Context) -> AsyncIterator[pb.Progress]:
        """Plan the way back to the sources, and apply it at once."""
        chosen = {name: list(getattr(request.filter, name)) for name in Selection.__slots__}
        async with self._changing(context, "Restore", {"filter": chosen}):
            selection = messages.selection_from_message(request.filter)
            if selection.is_everything and not request.all:
                raise BadRequest("which-apps", "give a filter, or say that all apps are meant")
            plan = await self._plan(Wanted(selection, Goal.SOURCE))
            async with aclosing(self._apply(plan, request.max_in_flight)) as news:
                async for each in news:
                    yield each

    async def _apply(self, plan: ReconcilePlan, max_in_flight: int) -> AsyncGenerator[pb.Progress, None]:
        circuit = self._desk.breaker.circuit
        if circuit.is_open:
            raise Invalid("admin", "circuit-open", f"{circuit}; look into it, then reset-circuit")
        now = self._desk.process.clock()
        applied = self._desk.applier.apply(plan, now=now, max_in_flight=max_in_flight or None)
        async with aclosing(applied) as news:
            async for each in news:
                yield messages.event_message(each)

    async def Evict(self, request: pb.EvictRequest, context: Context) -> pb.EvictResponse:
        """Delete a copy that nothing runs from."""
        async with self._changing(context, "Evict", {"cache_guid": request.cache_guid[:256]}):
            image = await self._desk.images.evict(CacheGuid(request.cache_guid))
            return pb.EvictResponse(url=str(self._desk.cache.image(image.cache_guid)), bytes=image.size)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> AsyncIterator[pb.Verified]:
        """Read copies back, one after the other."""
        desk = self._desk
        async with self._changing(context, "Verify", {"cache_guids": list(request.cache_guids)[:100]}):
            if request.cache_guids:
                images = [await desk.images.find(CacheGuid(guid)) for guid in request.cache_guids]
            else:
                images = list(await desk.records.list_images())
            for number, image in enumerate(images, start=1):
                answer = pb.Verified(
                    cache_guid=image.cache_guid, source=str(image.source), done=number, total=len(images)
                )
                try:
                    answer.detail = await desk.images.verify(image, now=desk.process.clock())
                except DockerCacheError as error:
                    answer.detail = f"not read: {error}"
                answer.whole = not answer.detail
                answer.bytes = image.size
                yield answer

    async def Pause(self, _: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        """Begin no copy and no migration any more."""
        async with self._changing(context, "Pause", {}):
            await self._desk.control.pause()
            return pb.PauseResponse()

    async def Resume(self, _: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """Go on."""
        async with self._changing(context, "Resume", {}):
            await self._desk.control.resume()
            await self._desk.jobs.go_on()
            self._desk.watching.look_at_all()
            return pb.ResumeResponse()

    async def ResetCircuit(self, _: pb.ResetCircuitRequest, context: Context) -> pb.ResetCircuitResponse:
        """Let migrations go on although some have failed."""
        async with self._changing(context, "ResetCircuit", {}):
            self._desk.breaker.close_circuit()
            return pb.ResetCircuitResponse()

    @asynccontextmanager
    async def _changing(self, context: Context, call: str, arguments: Arguments) -> AsyncIterator[None]:
        """Answer a call that changes something, and note it with what came of it.

        One that takes its time is noted as begun as well: a daemon that is killed notes nothing more.
        """
        outcome = "internal-error"
        async with _answering(context):
            caller = caller_of(context)
            if call in _LONG:
                await self._desk.audit.note(caller, call, arguments, "begun")
            try:
                yield
                outcome = "done"
            except DockerCacheError as error:
                outcome = str(error)
                raise
            except (asyncio.CancelledError, GeneratorExit):
                outcome = "interrupted"
                raise
            finally:
                await asyncio.shield(self._desk.audit.note(caller, call, arguments, outcome))


@asynccontextmanager
async def _answering(context: Context) -> AsyncIterator[None]:
    """Turn our errors into the caller's statuses, and let the daemon live on after a bug in one call."""
    try:
        yield
    except DockerCacheError as error:
        await _abort(context, status_of(error), str(error))
    except (asyncio.CancelledError, grpc.aio.AbortError, GeneratorExit):
        raise
    except Exception:
        log.exception("failed-to-answer")
        await _abort(context, grpc.StatusCode.INTERNAL, "admin: internal-error: see the daemon's log")


async def _abort(context: Context, status: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(status, details)
    raise AssertionError("an aborted call does not go on")


async def _read_plan(
    requests: AsyncIterator[pb.ApplyRequest],
) -> tuple[pb.ApplyOptions, list[pb.PlanEntry]]:
    """Read a plan as it comes, without what it leaves alone.

    Raises:
        BadRequest: It has no end.
    """
    options, entries = pb.ApplyOptions(), list[pb.PlanEntry]()
    async for request in requests:
        if request.WhichOneof("part") == "options":
            options = request.options
        elif request.WhichOneof("part") == "entry" and request.entry.WhichOneof("entry") != "skipped":
            entries.append(request.entry)
        if len(entries) > MOST_ENTRIES:
            raise BadRequest("plan-too-large", f"a plan has at most {MOST_ENTRIES} entries")
    return options, entries


def _reference(text: str) -> ImageReference:
    try:
        return parse_image_reference(text).canonical()
    except Invalid as error:
        raise BadRequest(error.code, error.detail) from error
