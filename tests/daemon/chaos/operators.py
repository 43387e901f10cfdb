"""Operators who pause, resume, plan, apply and evict in a chaos run, and go away in the middle of it."""

import asyncio
import contextlib
from collections.abc import Callable, Collection

from controller.admin.admin_client import AdminClient, open_client
from controller.admin.documents import PlanDocument
from controller.admin.request_options import Filters, PlanOptions
from controller.admin.rows import Row
from reconcile.errors import Conflict, DockerCacheError, Invalid, Unavailable
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import REST

ALL = Filters()


class Operators:
    """Makes calls to the daemon."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._chance = scene, scene.chance

    async def operate(self) -> None:
        """Make one call, or follow a plan for a while."""
        app = self._scene.choose_app()
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with self._scene.operator() as client:
                match self._chance.choice(
                    ["pause", "resume", "resume", "reconcile", "restore", "evict", "evict"]
                ):
                    case "pause":
                        self._scene.is_paused = True
                        await client.pause()
                    case "resume":
                        await client.resume()
                        self._scene.is_paused = False
                    case "evict":
                        rows = await client.plan_eviction()
                        guids = [row["cache_guid"] for row in rows if row["verdict"] == "deletable"]
                        async with contextlib.aclosing(client.evict(guids)) as evicted:
                            async for row in evicted:
                                self._scene.happened["copies evicted"] += bool(row["deleted"])
                    case "reconcile":
                        plan = await client.plan(Filters(), PlanOptions(include_pinned=True))
                        await self._follow(client, plan)
                    case _ if app is not None:
                        chosen = Filters(apps=(app.owner.app_name,))
                        await self._follow(client, await client.plan(chosen, PlanOptions("source")))

    async def list_droplets(self) -> list[Row] | None:
        """List what the daemon knows of droplets; None when it does not answer."""
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with self._scene.operator() as client:
                return await client.list_droplets(Filters())
        return None

    async def apply_all(self) -> None:
        """Apply a plan for all apps and droplets, and wait for its end."""
        await self._apply_newest(PlanOptions(), _is_over)

    async def restore_again(self, apps: Collection[str]) -> None:
        """Apply a plan that restores some apps, by their names, once more."""
        await self._apply_newest(PlanOptions("source"), _is_over, Filters(apps=tuple(sorted(apps))))

    async def restore_all_droplets(self) -> None:
        """Apply a plan that restores all, and leave when it has come to the LRPs, which are the last."""
        await self._apply_newest(PlanOptions("source"), _has_come_to_lrps)

    async def _apply_newest(
        self, options: PlanOptions, is_enough: Callable[[Row], bool], filters: Filters = ALL
    ) -> None:
        """Apply a plan, and make it anew when something has changed before it is applied."""
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with asyncio.timeout(REST), open_client(*self._scene.env.admin) as client:
                while not await self._apply(client, await client.plan(filters, options), is_enough):
                    pass

    async def _apply(self, client: AdminClient, plan: PlanDocument, is_enough: Callable[[Row], bool]) -> bool:
        """Apply a plan, until so much has happened; False if it was stale."""
        if plan.end["goal"] == "source" and not any(each.HasField("droplet") for each in plan.entries):
            return True
        try:
            async with contextlib.aclosing(client.apply(plan, None)) as events:
                async for each in events:
                    if is_enough(each):
                        break
        except Conflict:
            return False
        return True

    async def _follow(self, client: AdminClient, plan: PlanDocument) -> None:
        left = self._chance.randint(0, 10)
        async with contextlib.aclosing(client.apply(plan, None)) as events:
            async for _ in events:
                left -= 1
                if left < 0:
                    return

    async def resume(self) -> None:
        """Have the daemon go on, whoever paused it, as soon as it answers.

        It may just begin anew, or leave its place to another instance.
        """
        async with asyncio.timeout(REST):
            while True:
                if await self._resume():
                    break
                await asyncio.sleep(0.2)
        self._scene.is_paused = False

    async def _resume(self) -> bool:
        """Ask the instance that is active now; False if it does not answer, or no longer for all."""
        try:
            async with open_client(*self._scene.env.admin) as client:
                await client.resume()
        except (Unavailable, Invalid):
            return False
        return True


def _is_over(_event: Row) -> bool:
    """Wait for the end of a plan."""
    return False


def _has_come_to_lrps(event: Row) -> bool:
    """Whether all droplets of a plan are done."""
    return bool(event["droplet_guid"]) and bool(event["droplets_done"] == event["droplets_total"])
