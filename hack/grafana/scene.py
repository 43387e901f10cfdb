"""Two instances of the daemon with everything around them, under a real Prometheus.

They share a PostgreSQL database, and have a lock in Locket.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hack.alerts import JOB, RULES
from hack.grafana.prometheus import Prometheus, run_prometheus
from hack.grafana.queries import written_out
from tests import databases
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, open_environment
from tests.daemon.instances import Instances, open_instances
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.loggregator import Agent, serve_agent
from tests.simulators.recipes import Image

PATIENCE = 200.0
"""Seconds within which the dashboard must see a fault."""


@dataclass
class Scene:
    """Two instances with all around them, and the Prometheus that scrapes them."""

    env: Environment
    instances: Instances
    agent: Agent
    prometheus: Prometheus

    async def sees(self, expr: str) -> None:
        """Wait until an expression of the description has a series.

        Raises:
            TimeoutError: The dashboard never saw the fault.
        """
        filled = written_out(expr).replace("$job", JOB).replace("$platform", ".*")
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(self.prometheus.ask, filled, time.time()):  # noqa: ASYNC110 - it sets no event here
                await asyncio.sleep(0.25)

    async def runs(self, command: str, *arguments: str) -> None:
        """Give the active instance a command."""
        await Operator((await self.instances.active()).env).runs(command, *arguments)

    def push(self, name: str) -> str:
        """Have an image in the source registry."""
        return self.env.source.push(f"team/{name}", "1", images.image([images.layer(2000, name)]))

    async def start_app(self, name: str) -> None:
        """Have an app that nobody has seen being staged."""
        app = self.env.cloud.create(name, Image(await asyncio.to_thread(self.push, name)))
        app.droplet, app.instances = app.package, 1
        await self.env.cloud.start_app(app)

    async def guid_of(self, image: str) -> str:
        """Name the repository of the copy of an image."""
        rows = (await Operator((await self.instances.active()).env).runs("images")).rows
        return next(str(row["cache_guid"]) for row in rows if f"/{image}:" in row["source"])


@asynccontextmanager
async def open_scene(directory: Path) -> AsyncIterator[Scene]:
    """Start all of it until the block ends, with some apps."""
    url = await asyncio.to_thread(databases.empty_database, "postgresql", "dashboard")
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(
            open_environment(
                directory,
                start_delay=0.1,
                faulty_source=True,
                faulty_cache=True,
                sync_interval=5.0,
                converge_interval=1.0,
                start=start_interpreter,
            )
        )
        agent = await stack.enter_async_context(serve_agent(env.certificates))
        env.settings |= {
            "sync_interval": "1s",
            "registry_timeout": "2s",
            "copy_check_interval": "2s",
            "droplet_sync_interval": "2s",
            "max_consecutive_failures": 1,
        }
        env.connect_cloud_controller()
        env.connect_loggregator(agent)
        instances = await stack.enter_async_context(open_instances(env, url, 2))
        for instance in instances.all:
            instance.env.settings["metrics_address"] = f"127.0.0.1:{free_port()}"
            await instance.start()
            await instances.active()
        targets = {each.name: each.env.settings["metrics_address"] for each in instances.all}
        prometheus = stack.enter_context(
            run_prometheus(directory / "prometheus", targets, job=JOB, rules=RULES)
        )
        scene = Scene(env, instances, agent, prometheus)
        await _apps(scene)
        yield scene


async def _apps(scene: Scene) -> None:
    """Have two apps run from copies, and one that an operator pinned to its source."""
    apps = await running_apps(scene.env, "web", "shop", "pinned")
    for app in apps:
        await scene.env.replaced(app)
    await scene.sees("sum(docker_cache_migrations_in_flight) == 0")
    await scene.runs("restore", "--app", "pinned", "--yes")
    await scene.sees("sum(docker_cache_source_lrps) == 1")
