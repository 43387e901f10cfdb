"""The machines of a chaos run with several instances: each has a daemon, a supervisor, and a proxy to Locket."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment
from tests.simulators.locket import Locket
from tests.simulators.tcp_proxy import TcpProxy

FAILED = 5
"""The exit status of a daemon that cannot begin its work, as when it takes over and the database goes away."""
LONGEST_REST = 2.0
"""Seconds until a supervisor starts the daemon again, at most."""
BEFORE_START = frozenset({-1, -15})
"""How signals end a process that has not begun to listen to them."""


class Part(StrEnum):
    """What a daemon does, by its log."""

    STARTING = "starting"
    WAITING = "waiting"
    TAKING_OVER = "taking over"
    WORKING = "working"
    ENDING = "ending"


_PARTS = {
    "docker-cache.daemon.starting": Part.STARTING,
    "docker-cache.leadership.waiting-for-lock": Part.WAITING,
    "docker-cache.leadership.acquired-lock": Part.TAKING_OVER,
    "docker-cache.watcher.listed-bbs": Part.WORKING,
    "docker-cache.leadership.lost-lock": Part.ENDING,
    "docker-cache.daemon.received-signal": Part.ENDING,
}


@dataclass
class Machine:
    """One of them.

    Attributes:
        name: The ID of its instance.
        own: The settings that no other has.
        ended: Told of each process that has ended, with its exit status.
        is_given_up: Set when a daemon that has ended is not started again.
        is_frozen: Whether the daemon stands still.
        went_on_at: When a daemon went on that had stood still; 0 before the first.
        part: What the daemon does, as far as its log was read.
        ends: Exit statuses so far.
    """

    name: str
    env: Environment
    own: Mapping[str, Any]
    locket: Locket
    proxy: TcpProxy
    chance: random.Random
    ended: Callable[["Machine", DaemonProcess, int], None]
    daemon: DaemonProcess | None = None
    is_given_up: asyncio.Event = field(default_factory=asyncio.Event)
    is_frozen: bool = False
    went_on_at: float = 0.0
    is_cut_off: bool = False
    part: Part = Part.ENDING
    ends: Counter[int] = field(default_factory=Counter)
    _lines: int = 0
    _daemons: list[DaemonProcess] = field(default_factory=list)

    @property
    def reaches_locket(self) -> bool:
        """Whether its daemon can take or renew the lock."""
        return self.locket.is_running and not self.is_cut_off

    @property
    def is_running(self) -> bool:
        """Whether it has a daemon that does not stand still."""
        return self.daemon is not None and not self.daemon.is_over and not self.is_frozen

    @property
    def is_standing_by(self) -> bool:
        """Whether its daemon can take over, or is just doing so."""
        return self.is_running and self.reaches_locket and self.part in {Part.WAITING, Part.TAKING_OVER}

    @property
    def is_working(self) -> bool:
        """Whether its daemon does the work, as far as it knows."""
        return self.is_running and self.part is Part.WORKING

    def write_config(self) -> None:
        """Write its config, with all that the others have too."""
        self._its_env().write_config()

    async def supervise(self) -> None:
        """Start a daemon, and again whenever it has ended."""
        while not self.is_given_up.is_set():
            self.daemon = daemon = await self._its_env().start_daemon()
            self._lines, self.part, self.is_frozen = 0, Part.STARTING, False
            if self.is_given_up.is_set():  # while it was being started
                await daemon.stop()
            status = await daemon.ended(None)
            self.part = Part.ENDING
            self.ends[status] += 1
            self.ended(self, daemon, status)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(0.0, LONGEST_REST)):
                    await self.is_given_up.wait()

    def follow(self) -> None:
        """Read in the log what the daemon does."""
        if self.daemon is None or self.daemon.is_over:
            return
        lines, self._lines = self.daemon.lines[self._lines :], len(self.daemon.lines)
        for line in lines:
            self.part = _PARTS.get(str(line.get("message")), self.part)

    def freeze(self) -> None:
        """Let the daemon stand still."""
        if self.daemon is not None:
            self.is_frozen = True
            self.daemon.freeze()

    def thaw(self) -> None:
        """Let the daemon go on, if it stands still."""
        if self.daemon is not None and self.is_frozen:
            self.is_frozen, self.went_on_at = False, time.monotonic()
            self.daemon.thaw()

    async def close(self) -> None:
        """End all that was started."""
        await self._its_env().close()

    def _its_env(self) -> Environment:
        directory = self.env.directory / self.name
        directory.mkdir(exist_ok=True)
        settings = {**self.env.settings, **self.own}
        return replace(self.env, directory=directory, settings=settings, _daemons=self._daemons)


def make_own_settings(
    env: Environment, name: str, locket_address: str, database_url: str, lock: Mapping[str, str]
) -> dict[str, Any]:
    """Give the settings of an instance that no other has: it has a certificate, a client of UAA and addresses of its own."""
    pair = env.certificates.authority.client(name, file=name)
    certificate, key = str(pair.certificate), str(pair.key)
    client = {}
    if "uaa_client_id" in env.settings:
        env.capi.add_client(name)
        client = {"uaa_client_id": name}
    return {
        **lock,
        **client,
        "uuid": name,
        "database_url": database_url,
        "admin_address": f"127.0.0.1:{free_port()}",
        "bbs_client_cert_file": certificate,
        "bbs_client_key_file": key,
        "locket_address": locket_address,
        "locket_ca_cert_file": str(env.certificates.ca),
        "locket_client_cert_file": certificate,
        "locket_client_key_file": key,
    }
