"""Runs one canary: pushes its image, desires its task or LRP, reads what cells say, and removes all of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import structlog

from controller.canary.dependencies import CanaryBbs, PushedImages
from reconcile.canary import (
    CANARY_DOMAIN,
    Canary,
    answers_of,
    cells_for,
    instances_for,
    is_settled,
    make_up_login,
    new_guid,
    problem_of,
    result_of_task,
)
from reconcile.errors import DockerCacheError, NotFound
from reconcile.events import ActualLrpChanged, ActualLrpCrashed, ActualLrpCreated, Event, TaskChanged
from reconcile.lrps import ActualLrp, Cell, Credentials, ProcessGuid, Pull, TaskGuid
from reconcile.pull_proof import CanaryKind, CanaryLogin, CanaryResult

log = structlog.get_logger(scope="canary")

REMOVE_WITHIN = 10.0
"""Seconds that the removal of a canary may take, also when the process ends."""

LATE_EVENTS = 0.5
"""Seconds to wait for the events of crashes that instance rows already count."""


class Prober:
    """Runs canaries.

    Args:
        bbs: Where they are desired.
        images: Pushes their images.
        credentials: The login that cells are given for the private registry; None when they need none.
        time_limit: Seconds in which cells must answer; a registry that hangs makes them say nothing at all.
    """

    def __init__(
        self, bbs: CanaryBbs, images: PushedImages, *, credentials: Credentials | None, time_limit: float
    ) -> None:
        self._bbs, self._images = bbs, images
        self._credentials, self._time_limit = credentials, time_limit
        self.has_leftovers = True
        """Whether canaries may be left, of an earlier process or because a removal failed."""

    def use_login(self, credentials: Credentials) -> None:
        """Let the next canaries pull with another login."""
        self._credentials = credentials

    async def run(
        self,
        kind: CanaryKind,
        placement_tags: frozenset[str],
        login: CanaryLogin = CanaryLogin.CELLS,
    ) -> CanaryResult:
        """Run a canary of some kind; an error that keeps it from running becomes the result's problem."""
        try:
            cells = cells_for(await self._bbs.list_cells(), placement_tags)
            if not cells:
                return CanaryResult(
                    kind, problem=f"no registered cell runs Docker apps{_with(placement_tags)}"
                )
            async with self._images.pushed(kind) as rootfs:
                pull = Pull(rootfs, self._credentials_of(login))
                if kind is CanaryKind.TASK:
                    return await self._run_task(pull, placement_tags, cells)
                return await self._run_lrp(pull, placement_tags, cells)
        except DockerCacheError as error:
            return CanaryResult(kind, problem=str(error))

    def _credentials_of(self, login: CanaryLogin) -> Credentials | None:
        match login:
            case CanaryLogin.CELLS:
                return self._credentials
            case CanaryLogin.NONE:
                return None
            case CanaryLogin.MADE_UP:
                return make_up_login()

    async def _run_task(
        self, pull: Pull, placement_tags: frozenset[str], cells: tuple[Cell, ...]
    ) -> CanaryResult:
        canary = Canary(new_guid(), pull, placement_tags)
        named = frozenset(cell.cell_id for cell in cells)
        last: TaskChanged | None = None
        async with (
            self._bbs.subscribe_tasks() as events,
            aclosing(_task_changes(events, canary.guid)) as changes,
        ):
            try:
                async with asyncio.timeout(self._time_limit):
                    await self._bbs.desire_canary_task(canary)
                    async for change in changes:
                        last = change
                        result = result_of_task(change.before, change.after, named)
                        if result is not None:
                            return result
            except TimeoutError:
                where = "" if last is None or not last.after.cell_id else f" on cell {last.after.cell_id}"
                return CanaryResult(
                    CanaryKind.TASK,
                    problem=self._silence(f"the task{where}"),
                    is_silent=bool(where),
                    cells=named,
                )
            finally:
                await self._end_task(TaskGuid(canary.guid))
        raise AssertionError("a stream of events ends only by an error")

    async def _run_lrp(
        self, pull: Pull, placement_tags: frozenset[str], cells: tuple[Cell, ...]
    ) -> CanaryResult:
        canary = Canary(new_guid(), pull, placement_tags, instances_for(cells))
        asked = [cell.cell_id for cell in cells]
        crashes = list[ActualLrpCrashed]()
        rows: tuple[ActualLrp, ...] = ()
        is_silent = False
        async with self._bbs.subscribe_lrp_instances() as events, aclosing(_own(events, canary.guid)) as own:
            try:
                async with asyncio.timeout(self._time_limit) as limit:
                    await self._bbs.desire_canary_lrp(canary)
                    async for event in own:
                        if isinstance(event, ActualLrpCrashed):
                            crashes.append(event)
                        rows = await self._bbs.list_actual_lrps(ProcessGuid(canary.guid))
                        if is_settled(rows, canary.instances):
                            if len(crashes) >= sum(row.crash_count for row in rows):
                                break
                            limit.reschedule(asyncio.get_running_loop().time() + LATE_EVENTS)
            except TimeoutError:
                is_silent = not is_settled(rows, canary.instances) and any(row.cell_id for row in rows)
            finally:
                await self._remove_lrp(ProcessGuid(canary.guid))
        answers = answers_of(rows, {crash.cell_id: crash.crash_reason for crash in crashes}, asked)
        problem = problem_of(rows, asked, answers)
        if problem and is_silent:
            problem = f"{problem}: {self._silence('instances')}"
        return CanaryResult(
            CanaryKind.EVERY_CELL,
            answers,
            problem,
            is_silent=is_silent and bool(problem),
            cells=frozenset(asked),
        )

    def _silence(self, what: str) -> str:
        return f"{what} neither ran nor failed within {self._time_limit:g} s"

    async def remove_leftovers(self) -> None:
        """Remove all canaries in the BBS; to be called only while this process runs none."""
        for task in await self._bbs.list_tasks(CANARY_DOMAIN):
            log.info("removing-canary-of-earlier-run", task_guid=task.task_guid)
            await self._bbs.end_task(task.task_guid)
        async for lrp in self._bbs.list_desired_lrps(CANARY_DOMAIN):
            log.info("removing-canary-of-earlier-run", process_guid=lrp.process_guid)
            with suppress(NotFound):
                await self._bbs.remove_desired_lrp(lrp.process_guid)
        self.has_leftovers = False

    async def _end_task(self, task_guid: TaskGuid) -> None:
        async with self._removing(task_guid):
            await self._bbs.end_task(task_guid)

    async def _remove_lrp(self, process_guid: ProcessGuid) -> None:
        async with self._removing(process_guid):
            with suppress(NotFound):
                await self._bbs.remove_desired_lrp(process_guid)

    @asynccontextmanager
    async def _removing(self, guid: str) -> AsyncIterator[None]:
        """Limit how long a removal may take; what it leaves is removed later, perhaps by the next process."""
        try:
            async with asyncio.timeout(REMOVE_WITHIN):
                yield
        except (DockerCacheError, TimeoutError) as error:
            self.has_leftovers = True
            log.info("failed-to-remove-canary", guid=guid, error=str(error) or "no answer in time")


def _with(placement_tags: frozenset[str]) -> str:
    return f" with placement tags {', '.join(sorted(placement_tags))}" if placement_tags else ""


async def _task_changes(events: AsyncIterator[Event], guid: str) -> AsyncGenerator[TaskChanged, None]:
    async for event in events:
        if isinstance(event, TaskChanged) and event.after.task_guid == guid:
            yield event


async def _own(events: AsyncIterator[Event], guid: str) -> AsyncGenerator[Event, None]:
    async for event in events:
        match event:
            case ActualLrpCrashed():
                is_own = event.process_guid == guid
            case ActualLrpChanged(after=row) | ActualLrpCreated(row):
                is_own = row.process_guid == guid
            case _:
                is_own = False
        if is_own:
            yield event
