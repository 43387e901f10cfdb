"""An operator at the command line, beside a running daemon or without one."""

import asyncio
import json
from typing import Any

from tests.daemon.environment import Environment, until
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

Row = dict[str, Any]


class CommandResult:
    """The result of a command.

    Attributes:
        status: Its exit status.
        out: What it wrote.
        err: What it wrote beside that.
    """

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        assert "Traceback" not in out + err, out + err

    @property
    def rows(self) -> list[Row]:
        """The JSON lines that it wrote."""
        return [json.loads(line) for line in self.out.splitlines()]

    def kind(self, kind: str) -> list[Row]:
        """The rows of a plan of one kind."""
        return [row for row in self.rows if row.get("kind") == kind]

    @property
    def row(self) -> Row:
        """The one JSON line that it wrote."""
        (row,) = self.rows
        return row


class Operator:
    """Runs commands with the daemon's config file."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    async def runs(self, command: str, *arguments: str) -> CommandResult:
        """Run a command for its rows."""
        return await self.reads(command, "--output", "json", *arguments)

    async def reads(self, command: str, *arguments: str) -> CommandResult:
        """Run a command for its text, as people do."""
        config = ("--config", str(self._env.config_path))
        return CommandResult(*await self._env.run_command(command, *config, *arguments))


async def until_use_is(operator: Operator, name: str, user: str) -> None:
    """Wait until a copy is used by something of one kind."""
    async with asyncio.timeout(60):
        while True:
            (row,) = (await operator.runs("evict", "--dry-run", name)).rows
            if f"used by {user}" in row["detail"]:
                return
            await asyncio.sleep(0.2)


async def until_deletable(operator: Operator, *names: str) -> None:
    """Wait until copies have been unused for long enough to be deleted."""
    async with asyncio.timeout(60):
        while True:
            rows = (await operator.runs("evict", "--dry-run", *names)).rows
            if rows and all(row["verdict"] == "deletable" for row in rows):
                return
            await asyncio.sleep(0.2)


async def running_apps(env: Environment, *names: str, instances: int = 2) -> list[App]:
    """Have apps run from one image of the source registry, each without a staging that anybody saw."""
    sample = images.image([images.layer(20_000, 1), images.layer(5_000, 2)])
    reference = env.source.push("team/web", "1", sample)
    apps = []
    for name in names:
        app = env.cloud.create(name, Image(reference))
        app.droplet, app.instances = app.package, instances
        await env.cloud.start_app(app)
        apps.append(app)
    total = instances * len(names)
    await until(
        lambda: sum(each.is_running for cell in env.cells for each in cell.instances.values()) == total
    )
    return apps
