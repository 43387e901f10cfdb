"""Several instances of the daemon on one database, of which the one with the lock in Locket is active.

Each stands for a machine: it has an address of its own, proxies of its own to the BBS, to Locket and to the
database, and a supervisor that starts the daemon again whenever it has ended.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from controller.locket.lock import LOCK_KEY
from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment, until
from tests.simulators.locket import Locket, serve_locket
from tests.simulators.tcp_proxy import TcpProxy

LOCK_TTL = 4
"""Seconds for which Locket keeps the lock, for runs that do not wait long for it."""
LOCK_RETRY = 1.5
"""Seconds between two renewals, for the same."""
NAMES = ("first", "second", "third")
LOST_LOCK = 1
"""The exit status of a daemon that is not the active one any more."""


@dataclass
class Instance:
    """A machine with a daemon, and with a supervisor.

    Attributes:
        name: Its instance ID.
        address: From which the BBS and the database see it come.
        env: What it has in common with all, with a config of its own.
        daemons: The processes that were started on it, the last one last.
    """

    name: str
    address: str
    env: Environment
    to_bbs: TcpProxy
    to_locket: TcpProxy
    to_database: TcpProxy
    daemons: list[DaemonProcess] = field(default_factory=list)
    _is_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _supervisor: asyncio.Task[None] | None = None

    @property
    def daemon(self) -> DaemonProcess:
        """The process that was started last."""
        return self.daemons[-1]

    async def start(self) -> DaemonProcess:
        """Start the daemon, now and whenever it has ended; give the first process."""
        before = len(self.daemons)
        self._is_wanted.set()
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())
        await until(lambda: len(self.daemons) > before)
        return self.daemons[before]

    def hold(self) -> None:
        """Start the daemon no more when it has ended."""
        self._is_wanted.clear()

    async def kill(self) -> DaemonProcess:
        """End the daemon with SIGKILL, and leave it so; give the process that it was."""
        self.hold()
        await self.daemon.kill()
        return self.daemon

    async def stop(self) -> int:
        """End the daemon with SIGTERM, and leave it so; give its exit status."""
        self.hold()
        return await self.daemon.stop()

    async def close(self) -> None:
        """End the supervisor and the daemon."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        await self.env.close()

    async def _supervise(self) -> None:
        while True:
            await self._is_wanted.wait()
            self.daemons.append(await self.env.start_daemon())
            status = await self.daemon.ended(None)
            if status not in {0, LOST_LOCK, -signal.SIGKILL}:
                return  # nothing is mended by another start


@dataclass
class Instances:
    """All instances, and who of them is active.

    Attributes:
        database_url: As somebody on this machine reaches the database that they share.
    """

    env: Environment
    locket: Locket
    all: Sequence[Instance]
    database_url: str

    @property
    def owner(self) -> str:
        """Who has the lock; empty for nobody."""
        row = self.locket.state.rows.get(LOCK_KEY)
        return "" if row is None else row.owner

    def holder(self) -> Instance | None:
        """Find the instance that has the lock, whether it lives or not."""
        return next((each for each in self.all if self.owner.startswith(f"{each.name}-")), None)

    def others(self, instance: Instance) -> list[Instance]:
        """List the instances but one."""
        return [each for each in self.all if each is not instance]

    async def active(self, *, but: Instance | None = None) -> Instance:
        """Wait until an instance, other than one, is active and does its work; give it."""
        found = list[Instance]()

        def is_active() -> bool:
            holder = self.holder()
            if holder is None or holder is but or not holder.daemons or holder.daemon.is_over:
                return False
            found[:] = [holder]
            return bool(holder.daemon.named("daemon.started"))

        await until(is_active)
        return found[0]

    async def logged(self, message: str, **data: object) -> tuple[Instance, dict[str, Any]]:
        """Wait for a line of any daemon of any instance, and give it with the instance."""
        found = list[tuple[Instance, dict[str, Any]]]()
        seen = dict[int, int]()

        def has_come() -> bool:
            for instance in self.all:
                for daemon in instance.daemons:
                    if len(daemon.lines) != seen.get(daemon.pid):
                        seen[daemon.pid] = len(daemon.lines)
                        found.extend((instance, line) for line in daemon.named(message, **data))
            return bool(found)

        await until(has_come)
        return found[0]

    def said(self, message: str, **data: object) -> list[dict[str, Any]]:
        """List the lines of a message of all daemons of all instances."""
        return [
            line
            for instance in self.all
            for daemon in instance.daemons
            for line in daemon.named(message, **data)
        ]


@asynccontextmanager
async def open_instances(
    env: Environment,
    database_url: str,
    count: int,
    *,
    ttl: int = LOCK_TTL,
    retry_interval: float = LOCK_RETRY,
    in_locket: bool = True,
) -> AsyncIterator[Instances]:
    """Prepare instances on one database, and start none yet.

    Args:
        env: What they have in common.
        database_url: Of a server on loopback.
        count: How many.
        ttl: Seconds for which the lock is kept.
        retry_interval: Seconds between two renewals of it.
        in_locket: Whether the lock is in Locket; otherwise it is in the database.
    """
    before, _, database = database_url.rpartition("/")
    server, _, port = before.rpartition(":")
    async with AsyncExitStack() as stack:
        locket = await stack.enter_async_context(serve_locket(env.certificates))
        instances = list[Instance]()
        for number, name in enumerate(NAMES[:count], 2):
            address = f"127.0.0.{number}"
            targets = ((env.bbs.host, env.bbs.port), (locket.host, locket.port), ("127.0.0.1", int(port)))
            to_bbs, to_locket, to_database = [
                await stack.enter_async_context(TcpProxy(*target, source=address)) for target in targets
            ]
            directory = env.directory / name
            directory.mkdir()
            own = {
                "uuid": name,
                "lock_ttl": f"{ttl}s",
                "lock_retry_interval": f"{retry_interval}s",
                "bbs_address": f"https://{to_bbs.address}",
                "database_url": f"{server}:{to_database.address.rpartition(':')[2]}/{database}",
                "admin_address": f"127.0.0.1:{free_port()}",
            }
            if in_locket:
                own |= {
                    "locket_address": to_locket.address,
                    "locket_ca_cert_file": str(env.certificates.ca),
                    "locket_client_cert_file": str(env.certificates.client.certificate),
                    "locket_client_key_file": str(env.certificates.client.key),
                }
            its_env = replace(env, directory=directory, settings=env.settings | own, _daemons=[])
            instance = Instance(name, address, its_env, to_bbs, to_locket, to_database)
            stack.push_async_callback(instance.close)
            instances.append(instance)
        yield Instances(env, locket, instances, database_url)
