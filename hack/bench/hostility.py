"""Shows a daemon everything hostile for some minutes: its memory, threads and files are to stay as they are.

Apps are staged with images of a registry that answers each request badly, idle clients open connections to
the admin API and send half requests to the metrics port, and an operator asks for the status all the time.
Started by hack/bench/hostile.
"""

import argparse
import asyncio
import contextlib
import os
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.admin.admin_client import open_client
from hack.bench.hostile_registry import ANSWERS, HostileRegistry, references, serve_hostility
from reconcile.errors import DockerCacheError
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, open_environment
from tests.daemon.programs import start_interpreter
from tests.simulators.recipes import Image

HOSTS = 40
REPORTED_EVERY = 30.0
IDLE_CLIENTS = 200
"""Connections that idle clients hold to each port."""


class Hostility:
    """The daemon's world.

    Attributes:
        staged: How many apps were staged.
        slowest: Seconds that the slowest answer to the operator took since the last report.
        refused: How many of the operator's calls failed since the last report.
    """

    def __init__(self, env: Environment, registry: HostileRegistry, addresses: list[str]) -> None:
        self._env, self._registry, self._references = env, registry, references(addresses)
        self.staged = 0
        self.slowest, self.refused = 0.0, 0

    async def stage(self) -> None:
        """Stage one app after the other, and forget each."""
        while True:
            app = self._env.cloud.create(f"app-{self.staged}", Image(next(self._references)))
            await self._env.cloud.staged(app, await self._env.cloud.stage(app))
            await self._env.cloud.delete(app)
            self.staged += 1
            await asyncio.sleep(0.1)

    async def ask(self) -> None:
        """Ask for the status, as an operator who watches."""
        while True:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(30), open_client(*self._env.admin) as client:
                    await client.status()
            except (DockerCacheError, TimeoutError):
                self.refused += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            await asyncio.sleep(1)

    async def hold(self, address: str, first: bytes) -> None:
        """Open a connection, send a little, and hold it for as long as it is let."""
        host, _, port = address.rpartition(":")
        while True:
            with contextlib.suppress(OSError, ssl.SSLError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(first)
                while await reader.read(1024):
                    pass
                writer.close()
            await asyncio.sleep(0.5)

    def report(self, pid: int, seconds: float) -> None:
        """Print what the daemon takes by now."""
        process = Path(f"/proc/{pid}")
        threads, files = (len(list((process / each).iterdir())) for each in ("task", "fd"))
        rss = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        database = sum(each.stat().st_size for each in (self._env.directory / "store").iterdir()) / 2**20
        log = (self._env.directory / "daemon.log").stat().st_size / 2**20
        print(
            f"{seconds:>6.0f} s  RSS {rss:6.1f} MiB  {threads:3} threads  {files:4} files",
            f"database {database:5.1f} MiB  log {log:6.1f} MiB",
            f"{self.staged:5} staged  {self._registry.requests:6} requests",
            f"slowest status {self.slowest:5.2f} s, {self.refused} refused",
            sep="  ",
            flush=True,
        )
        self.slowest, self.refused = 0.0, 0


@asynccontextmanager
async def _world() -> AsyncIterator[tuple[Environment, HostileRegistry, list[str]]]:
    with tempfile.TemporaryDirectory(prefix="docker-cache-hostile-") as directory:
        async with (
            serve_hostility(HOSTS) as (registry, addresses),
            open_environment(Path(directory), start_delay=0.0, pulls=False, start=start_interpreter) as env,
        ):
            env.settings |= {"log_level": "info", "metrics_address": f"127.0.0.1:{free_port()}"}
            env.settings["registries"] += [
                {
                    "address": each,
                    "plain_http": True,
                    "allowed_networks": [each.partition(":")[0]],
                }
                for each in addresses
            ]
            yield env, registry, addresses


async def main(minutes: float) -> int:
    """Run for some minutes; the status is 1 when the daemon did not live through it."""
    async with _world() as (env, registry, addresses):
        daemon = await env.started_daemon()
        world = Hostility(env, registry, addresses)
        print(
            f"{len(ANSWERS)} kinds of answers from {len(addresses)} hosts, "
            f"{IDLE_CLIENTS} idle clients at each port"
        )
        begun = time.monotonic()
        ports = (
            (env.settings["admin_address"], b""),
            (env.settings["metrics_address"], b"GET /metrics HTTP/1.1\r\n"),
        )
        acts = [world.stage(), world.stage(), world.ask()]
        acts += [world.hold(address, first) for address, first in ports for _ in range(IDLE_CLIENTS)]
        tasks = [asyncio.create_task(act) for act in acts]
        try:
            while (seconds := time.monotonic() - begun) < minutes * 60:
                world.report(daemon.pid, seconds)
                await asyncio.sleep(REPORTED_EVERY)
                if failed := [each for each in tasks if each.done()]:
                    await failed[0]
            world.report(daemon.pid, seconds)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)
        return await daemon.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="hack/bench/hostile", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    sys.exit(asyncio.run(main(parser.parse_args().minutes)))
