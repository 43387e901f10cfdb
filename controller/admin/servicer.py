"""Serves the calls of the admin API."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import structlog

from controller.admin import (
    droplet_messages,
    droplet_queries,
    eviction_messages,
    messages,
    plan_messages,
    queries,
)
from controller.admin.apply_run import DropletProgress
from controller.admin.audit import Arguments
from controller.admin.call_answers import CallAnswers, Context
from controller.admin.callers import caller_of
from controller.admin.dependencies import AdminDependencies
from controller.admin.grpc_status import BadRequest
from controller.admin.leadership import ServedDependencies, add_position
from controller.admin.plan_requests import read_plan, stop_requested
from controller.admin.planner import PlanCriteria
from controller.log_level import LEVELS
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminServicer
from reconcile.errors import Denied, Invalid
from reconcile.foreign_text import mask_logins
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.plan import Plan as ReconcilePlan
from reconcile.policy import refusal_of
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, JobId, requester_of_operator
from reconcile.references import ImageReference, parse_image_reference, without_login
from reconcile.selection import Selection
from reconcile.staging import OwnerChoice

log = structlog.get_logger(scope="admin")


class Servicer(AdminServicer):
    """The calls of the admin API."""

    def __init__(self, served: ServedDependencies) -> None:
        answers = CallAnswers(served)
        self._served, self._answering, self._changing = served, answers.answering, answers.changing

    @property
    def _dependencies(self) -> AdminDependencies:
        """The dependencies of the calls; reading them in an instance that is not active refuses the call."""
        return self._served.require()

    async def Status(self, _: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Report what the daemon is doing as a whole."""
        async with self._answering(context, "Status"):
            if not self._served.are_open:
                return self._served.standby_status()
            answer = await queries.status(self._dependencies)
            add_position(answer, self._served.standing.position)
            return answer

    async def ListCachedImages(
        self, request: pb.ListCachedImagesRequest, context: Context
    ) -> pb.ListCachedImagesResponse:
        """List cached images, oldest first."""
        async with self._answering(context, "ListCachedImages"):
            return await queries.cached_images(self._dependencies, request)

    async def GetCachedImages(
        self, request: pb.GetCachedImagesRequest, context: Context
    ) -> pb.GetCachedImagesResponse:
        """Show single cached images, each with the LRPs that use it."""
        async with self._answering(context, "GetCachedImages"):
            return await queries.named_images(self._dependencies, request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """List cache jobs, the latest first."""
        async with self._answering(context, "ListJobs"):
            return await queries.jobs(self._dependencies, request)

    async def ListMigrations(
        self, request: pb.ListMigrationsRequest, context: Context
    ) -> pb.ListMigrationsResponse:
        """List the LRPs that are being migrated."""
        async with self._answering(context, "ListMigrations"):
            return await queries.migrations(self._dependencies, request)

    async def ListApps(self, request: pb.ListAppsRequest, context: Context) -> pb.ListAppsResponse:
        """List the Docker LRPs, by process GUID."""
        async with self._answering(context, "ListApps"):
            return await queries.apps(self._dependencies, request)

    async def ListDroplets(
        self, request: pb.ListDropletsRequest, context: Context
    ) -> pb.ListDropletsResponse:
        """List what the daemon has done about droplets."""
        async with self._answering(context, "ListDroplets"):
            return await droplet_queries.droplets(self._dependencies, request)

    async def ListAudit(self, request: pb.ListAuditRequest, context: Context) -> pb.ListAuditResponse:
        """List what operators told the daemon to do, the latest first."""
        async with self._answering(context, "ListAudit"):
            return await queries.audit(self._dependencies, request)

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Context) -> AsyncIterator[pb.Job]:
        """Send jobs at once, and each again whenever it changes."""
        wanted = tuple(map(JobId, request.job_ids))
        async with (
            self._answering(context, "WatchJobs"),
            aclosing(queries.watch_jobs(self._dependencies, wanted)) as jobs,
        ):
            async for job in jobs:
                yield job

    async def CacheImage(self, request: pb.CacheImageRequest, context: Context) -> pb.Job:
        """Ask for a copy of an image, and do not wait for it."""
        async with self._changing(context, "CacheImage", {"reference": without_login(request.reference)}):
            source = _reference(request.reference)
            rules = self._dependencies.planning.survey.rules
            refusal = refusal_of(
                rules.policy, image=source, owner_choice=OwnerChoice.OPT_IN, cache=rules.cache
            )
            if refusal == Reason.ALREADY_CACHED:
                raise Invalid("admin", refusal, f"{source} is in the private registry: name its source")
            if refusal is not None:
                raise Denied("admin", refusal, f"{source}: allow_images or deny_images do not allow it")
            job = await self._dependencies.jobs.request(
                CacheRequest(
                    app_guid=AppGuid(""),
                    source=source,
                    requester=requester_of_operator(str(uuid.uuid4())),
                    staged_at=0,
                    reason=Reason.OPERATOR_REQUEST,
                    is_ordered=True,
                )
            )
            return queries.job_message(self._dependencies, job)

    async def Plan(self, request: pb.PlanRequest, context: Context) -> AsyncIterator[pb.PlanEntry]:
        """Say what would be changed, without changing it."""
        async with self._answering(context, "Plan"):
            criteria = plan_messages.criteria_from_message(request)
            selection = await queries.resolve_selection(self._dependencies, request.filter)
            plan = await self._plan(replace(criteria, selection=selection))
            for entry in plan_messages.messages_from_plan(plan):
                yield entry

    async def _plan(self, criteria: PlanCriteria) -> ReconcilePlan:
        return await self._dependencies.planning.planner.plan(
            criteria, now=self._dependencies.daemon.process.clock()
        )

    async def Apply(
        self, requests: AsyncIterator[pb.ApplyRequest], context: Context
    ) -> AsyncIterator[pb.ApplyEvent]:
        """Apply a plan, whole and unchanged."""
        parts = aiter(requests)
        async with self._answering(context, "Apply"):
            options, entries = await read_plan(parts)
        migrations = sum(entry.HasField("migration") for entry in entries)
        droplets = sum(entry.HasField("droplet") for entry in entries)
        arguments = {
            "max_in_flight": options.max_in_flight,
            "migrations": migrations,
            **({"droplets": droplets} if droplets else {}),
        }
        async with self._changing(context, "Apply", arguments):
            plan = plan_messages.plan_from_messages(entries)
            async with stop_requested(parts) as stop:
                applied = self._apply(plan, options.max_in_flight, stop)
                async with aclosing(applied) as events:
                    async for event in events:
                        yield event

    async def Restore(self, request: pb.RestoreRequest, context: Context) -> AsyncIterator[pb.ApplyEvent]:
        """Plan restoring droplets and LRPs to their sources, and apply the plan at once."""
        chosen = {
            name: [mask_logins(text) for text in getattr(request.filter, name)]
            for name in Selection.__slots__
        }
        async with self._changing(context, "Restore", {"filter": chosen}):
            selection = await queries.resolve_selection(self._dependencies, request.filter)
            if selection.selects_all and not request.all:
                raise BadRequest("which-apps", "give a filter, or say that all apps are meant")
            plan = await self._plan(PlanCriteria(selection, Goal.SOURCE))
            async with aclosing(self._apply(plan, request.max_in_flight, None)) as events:
                async for event in events:
                    yield event

    async def _apply(
        self, plan: ReconcilePlan, max_in_flight: int, stop: asyncio.Event | None
    ) -> AsyncGenerator[pb.ApplyEvent, None]:
        circuit = self._dependencies.daemon.gate.failures.overall
        if circuit.is_open and plan.goal is Goal.CACHE:
            raise Invalid(
                "admin",
                Reason.CIRCUIT_BREAKER_OPEN,
                f"{circuit}; find out why, then run `reset-circuit-breaker`",
            )
        applied = self._dependencies.planning.applier.apply(
            plan,
            now=self._dependencies.daemon.process.clock(),
            max_in_flight=max_in_flight or None,
            stop=stop,
        )
        async with aclosing(applied) as events:
            async for event in events:
                if isinstance(event, DropletProgress):
                    yield droplet_messages.progress_message(event)
                else:
                    yield messages.event_message(event)

    async def PlanEviction(
        self, request: pb.PlanEvictionRequest, context: Context
    ) -> AsyncIterator[pb.PlannedEviction]:
        """Say which copies may be deleted, without deleting any."""
        async with self._answering(context, "PlanEviction"):
            for entry in await queries.plan_eviction(self._dependencies, request):
                yield entry

    async def Evict(self, request: pb.EvictRequest, context: Context) -> AsyncIterator[pb.EvictedCopy]:
        """Delete copies that nothing uses, each by itself."""
        deleted = list[str]()
        arguments = {"images": [without_login(name) for name in request.images[:100]], "deleted": deleted}
        async with self._changing(context, "Evict", arguments):
            if not request.images:
                raise BadRequest("which-copies", "name the copies that are to be deleted")
            found, unknown = await self._dependencies.copies.find_each(request.images)
            for error in unknown.values():
                yield pb.EvictedCopy(error=str(error))
            async with aclosing(self._dependencies.copies.evict(tuple(found.values()))) as results:
                async for evicted in results:
                    if evicted.error is None:
                        deleted.append(evicted.image.cache_guid)
                    yield eviction_messages.evicted_message(evicted, self._dependencies.cache)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> AsyncIterator[pb.VerifiedCopy]:
        """Read copies back, one after the other, and repair them where that is asked for."""
        names = [without_login(name) for name in request.images[:100]]
        arguments = {"images": names, **({"repair": True} if request.repair else {})}
        async with self._changing(context, "Verify", arguments):
            copies, process = self._dependencies.copies, self._dependencies.daemon.process
            if request.images:
                images = await copies.find(request.images)
            else:
                images = list(await self._dependencies.stored.records.list_images())
            for number, image in enumerate(images, start=1):
                result = await copies.verify(image, now=process.clock())
                if request.repair and result.status.calls_for_repair:
                    result = await copies.repair(image, result, now=process.clock())
                yield messages.verified_message(image, result, done=number, total=len(images))

    async def Rebuild(self, request: pb.RebuildRequest, context: Context) -> AsyncIterator[pb.RebuiltCopy]:
        """Adopt copies and LRPs that the database does not know."""
        arguments: Arguments = {"accept_unsealed": request.accept_unsealed}
        async with self._changing(context, "Rebuild", arguments):
            adoption = self._dependencies.recovery.adoption
            adopted = adoption.adopt_all(accepts_unsealed=request.accept_unsealed)
            async with aclosing(adopted) as rows:
                async for row, done, total in rows:
                    yield messages.rebuilt_message(row, self._dependencies.cache, done=done, total=total)

    async def RestoreBackup(
        self, requests: AsyncIterator[pb.BackupPart], context: Context
    ) -> pb.RestoreBackupResponse:
        """Put a backup in the place of the database, and restart on it."""
        async with self._changing(context, "RestoreBackup", {}):
            parts = (part.content async for part in requests)
            replaced = await self._dependencies.recovery.backups.receive(parts)
            return pb.RestoreBackupResponse(replaced=str(replaced))

    async def SealAnew(self, _: pb.SealAnewRequest, context: Context) -> pb.SealAnewResponse:
        """Seal with the first journal key what an older one has sealed."""
        async with self._changing(context, "SealAnew", {}):
            sealed = await self._dependencies.recovery.sealing.seal_anew()
            return pb.SealAnewResponse(
                values=sealed.values, renewed=sealed.renewed, unreadable=sealed.unreadable
            )

    async def Pause(self, _: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        """Start no new work except what an operator asks for."""
        async with self._changing(context, "Pause", {}):
            await self._dependencies.daemon.control.pause()
            return pb.PauseResponse()

    async def Resume(self, _: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """End a pause."""
        async with self._changing(context, "Resume", {}):
            await self._dependencies.daemon.control.resume()
            await self._dependencies.jobs.resume()
            self._dependencies.daemon.watching.request_full_sweep()
            return pb.ResumeResponse()

    async def ResetCircuitBreaker(
        self, _: pb.ResetCircuitBreakerRequest, context: Context
    ) -> pb.ResetCircuitBreakerResponse:
        """Let migrations resume although some have failed."""
        async with self._changing(context, "ResetCircuitBreaker", {}):
            self._dependencies.daemon.gate.reset_circuit_breaker()
            return pb.ResetCircuitBreakerResponse()

    async def GetLogLevel(self, _: pb.GetLogLevelRequest, context: Context) -> pb.LogLevel:
        """Say which log lines are written."""
        async with self._answering(context, "GetLogLevel"):
            level = self._served.log_level
            return pb.LogLevel(level=level.name, configured=level.configured)

    async def SetLogLevel(self, request: pb.SetLogLevelRequest, context: Context) -> pb.LogLevel:
        """Change which log lines are written; the call is noted first, while its line is still written."""
        async with self._answering(context, "SetLogLevel"):
            level, caller, arguments = self._served.log_level, caller_of(context), {"level": request.level}
            if request.level not in LEVELS:
                raise BadRequest("unknown-level", f"the levels are {', '.join(LEVELS)}")
            if self._served.are_open:
                await self._dependencies.stored.audit.note(caller, "SetLogLevel", arguments, "done")
            else:
                log.info(
                    "finished-call", caller=caller, call="SetLogLevel", arguments=arguments, outcome="done"
                )
            level.set(request.level)
            return pb.LogLevel(level=level.name, configured=level.configured)


def _reference(text: str) -> ImageReference:
    try:
        return parse_image_reference(text).canonical()
    except Invalid as error:
        raise BadRequest(error.code, error.detail) from error
