"""Watches how pushed apps start: when they serve, from where, and what that costs containers and cells.

An app serves with its first instance that runs, be it its own or one of its bridge. Times are seconds of this
process's clock, taken at the change in the BBS.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from protos.bbs.actual_lrp_pb2 import ActualLRP
from tests.daemon.environment import Environment
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.simulators.cloud_controller import App


@dataclass(slots=True)
class Start:
    """How one app started.

    Attributes:
        pushed_at: When its LRP was desired first.
        served_at: When an instance ran first; None while none has.
        served_from: What that ran from: "source" or "copy".
        down: Seconds in which none ran since then.
        failed_at: When its cell first told that the copy cannot be pulled; None while none has.
        back_at: When it first ran from its source after that.
        moves: Definitions that were desired for it, in their order: "source", "copy".
    """

    pushed_at: float
    served_at: float | None = None
    served_from: str = ""
    down: float = 0.0
    failed_at: float | None = None
    back_at: float | None = None
    moves: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)
    down_since: float | None = None

    @property
    def seconds(self) -> float:
        """From its push until it served; infinite while it does not."""
        return float("inf") if self.served_at is None else self.served_at - self.pushed_at

    @property
    def seconds_back(self) -> float:
        """From the first report that the copy cannot be pulled until it ran from its source."""
        if self.failed_at is None:
            return 0.0
        return float("inf") if self.back_at is None else self.back_at - self.failed_at


class StartWatch:
    """Watches apps from their push on.

    Attributes:
        starts: Process GUID to how that app started.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.starts: dict[str, Start] = {}

    @contextmanager
    def watching(self) -> Iterator["StartWatch"]:
        """Look at every change in the BBS for the length of a block."""
        observers = self._env.bbs.state.events.observers
        observers.append(self._look)
        try:
            yield self
        finally:
            observers.remove(self._look)

    def of(self, app: App) -> Start:
        """How an app started."""
        return self.starts[app.process_guid]

    async def start(self, app: App) -> Start:
        """Start an app that is staged."""
        app.is_started = True
        await self._env.cloud.start_app(app)
        return self.of(app)

    def _look(self) -> None:
        now, state = time.monotonic(), self._env.bbs.state
        running, failed = Counter[str](), set[str]()
        for row in state.rows():
            guid = row.actual_lrp_key.process_guid
            if row.state == "RUNNING":
                running[guid] += 1
            elif self._says_pull_failed(row):
                failed.add(guid)
        for app in tuple(self._env.cloud.apps.values()):
            self._look_at(app, now, running, failed)

    def _look_at(self, app: App, now: float, running: Counter[str], failed: set[str]) -> None:
        guid = app.process_guid
        lrp = self._env.bbs.state.desired.get(guid)
        start = self.starts.get(guid)
        if start is None:
            if lrp is None:
                return
            start = self.starts[guid] = Start(now)
        is_on_copy = self._env.is_from_cache(app)
        if lrp is not None and lrp.modification_tag.epoch not in start.epochs:
            start.epochs.append(lrp.modification_tag.epoch)
            start.moves.append("copy" if is_on_copy else "source")
        serves = running[guid] + running[BRIDGE_PREFIX + guid] > 0
        if serves:
            if start.served_at is None:
                start.served_at, start.served_from = now, self._served_from(guid)
            if start.down_since is not None:
                start.down += now - start.down_since
                start.down_since = None
        elif start.served_at is not None and start.down_since is None and app.is_started:
            start.down_since = now
        if is_on_copy and guid in failed:
            start.failed_at = start.failed_at or now
        if start.failed_at is not None and lrp is not None and not is_on_copy and running[guid]:
            start.back_at = start.back_at or now

    def _served_from(self, guid: str) -> str:
        own = {guid, BRIDGE_PREFIX + guid}
        for cell in self._env.cells:
            for instance in cell.instances.values():
                if instance.is_running and instance.key.process_guid in own:
                    return where(self._env, instance.rootfs)
        return ""

    @staticmethod
    def _says_pull_failed(row: ActualLRP) -> bool:
        return row.crash_count > 0 and "running image plugin create" in row.crash_reason


def where(env: Environment, rootfs: str) -> str:
    """Tell where a rootfs is pulled from: "copy" or "source"."""
    return "copy" if rootfs.startswith(f"docker://{env.cache.address}/") else "source"


def process_starts(env: Environment, app: App) -> Counter[str]:
    """Count the processes of an app that were started, by what they ran from."""
    own = {app.process_guid, BRIDGE_PREFIX + app.process_guid}
    return Counter(
        where(env, instance.rootfs)
        for cell in env.cells
        for instance in cell.containers.processes
        if instance.key.process_guid in own
    )


def stop_requests(env: Environment, *apps: App) -> int:
    """Count the stop requests that cells got for apps and their bridges."""
    guids = [guid for app in apps for guid in (app.process_guid, BRIDGE_PREFIX + app.process_guid)]
    return sum(cell.stop_requests[guid] for cell in env.cells for guid in guids)


def failed_creations(env: Environment) -> int:
    """Count the containers that could not be created."""
    return sum(len(cell.problems) for cell in env.cells)
