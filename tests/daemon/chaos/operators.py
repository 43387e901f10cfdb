"""Operators who pause, resume, plan and apply in a chaos run, and go away in the middle of it."""

import asyncio
import contextlib

from controller.admin.admin_client import AdminClient, open_client
from controller.admin.documents import PlanDocument
from controller.admin.request_options import Filters, PlanOptions
from reconcile.errors import DockerCacheError, Unavailable
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import REST


class Operators:
    """Makes calls to the daemon."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._chance = scene, scene.chance

    async def operate(self) -> None:
        """Make one call, or follow a plan for a while."""
        app = self._scene.choose_app()
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with self._scene.operator() as client:
                match self._chance.choice(["pause", "resume", "resume", "reconcile", "restore"]):
                    case "pause":
                        await client.pause()
                    case "resume":
                        await client.resume()
                    case "reconcile":
                        plan = await client.plan(Filters(), PlanOptions(include_pinned=True))
                        await self._follow(client, plan)
                    case _ if app is not None:
                        chosen = Filters(apps=(app.owner.app_name,))
                        await self._follow(client, await client.plan(chosen, PlanOptions("source")))

    async def apply_all(self) -> None:
        """Apply a plan for all apps, and wait for its end."""
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with asyncio.timeout(REST), open_client(*self._scene.env.admin) as client:
                plan = await client.plan(Filters(), PlanOptions())
                async with contextlib.aclosing(client.apply(plan, None)) as news:
                    async for _ in news:
                        pass

    async def _follow(self, client: AdminClient, plan: PlanDocument) -> None:
        left = self._chance.randint(0, 10)
        async with contextlib.aclosing(client.apply(plan, None)) as news:
            async for _ in news:
                left -= 1
                if left < 0:
                    return

    async def resume(self) -> None:
        """Have the daemon go on, whoever paused it, as soon as it answers: it may just begin anew."""
        async with asyncio.timeout(REST), open_client(*self._scene.env.admin) as client:
            while True:
                try:
                    await client.resume()
                except Unavailable:
                    await asyncio.sleep(0.2)
                else:
                    return
