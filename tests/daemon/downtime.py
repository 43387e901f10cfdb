"""Watches how long apps are down that could run from their source, and what is said of them meanwhile.

Only time counts in which nothing but the daemon holds an app up: its owner wants it, cells reach its source,
the BBS answers and the daemon works. A tick counts a tenth of a second at most, so a busy machine, which
lets all processes wait, counts little.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from protos.bbs.actual_lrp_pb2 import ActualLRP
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.simulators.bbs.actual import CRASHED
from tests.simulators.cell_network import Hangs, Slow
from tests.simulators.cloud_controller import App

TICK = 0.05
LONGEST_TICK = 0.1
AFTER_ANSWER = 1.0
"""Seconds that the daemon gets after the BBS, or the daemon itself, has come back."""
MOST_OTHER_COPIES = 2
"""How often an app may go from one copy to another before it is on its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many seconds are not held against the daemon.

    Attributes:
        down: That an app may be down: the report of its crash, one pass, the removal and the start.
        hanging: More where its copy is pulled, slowly or without success: only a time limit tells.
        call: More for each call about it that failed.
        kill: More for each daemon that was killed.
        scaling: That an LRP may have another number of instances than its owner asked for last.
        claim: That an app may be called cached after its last instance from its copy has ended.
        loss: More where something that it may start from was lost, in each private registry that it was desired
            from: only a look at it tells.
        another_copy: More for each time that it goes from its copy in one private registry to that in another,
            where both are lost: from the former to the present one, and back before it goes to its source, which
            may be gone.
    """

    down: float
    hanging: float
    call: float
    kill: float
    scaling: float
    claim: float
    loss: float = 0.0
    another_copy: float = 0.0


@dataclass
class _Outage:
    seconds: float = 0.0
    extra: float = 0.0
    is_hanging: bool = False
    is_lossy: bool = False
    is_reported: bool = False
    caches: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)


class Downtime:
    """How long each app has been down, by the process GUID of its LRP: a restart begins anew.

    An app that is on its source begins anew as well when its source is cut off: it is pulled again then.

    Attributes:
        longest: The longest time of any app, and how long it could have been.
        is_daemon_up: Whether the daemon works; the test tells.
        has_source: Whether the source still has the image of an app; the test tells.
        is_hopeless: Whether the daemon may do nothing now about a copy that cannot be pulled; the test tells.
    """

    def __init__(self, invariants: Invariants, *, source: str, cache: str, patience: Patience) -> None:
        self.longest = (0.0, patience.down)
        self.is_daemon_up = True
        self.has_source: Callable[[App], bool] = lambda _app: True
        self.is_hopeless: Callable[[str], bool] = lambda _rootfs: False
        self._invariants = invariants
        self._bbs, self._cells, self._cloud = invariants.bbs, invariants.cells, invariants.cloud
        self._source, self._caches, self._patience = source, {cache}, patience
        self._outages: dict[str, _Outage] = {}
        self._misscaled: dict[str, float] = {}
        self._from_copy: dict[str, float] = {}
        self._claimed: set[str] = set()
        self._grace = 0.0
        self._loss_until = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for the length of a block."""
        self._bbs.failed_callers.append(self._see_failed_call)
        self._cloud.removing.append(self._see_owner_remove)
        ticking = asyncio.create_task(self._tick_forever())
        try:
            yield
        finally:
            ticking.cancel()
            self._bbs.failed_callers.remove(self._see_failed_call)
            self._cloud.removing.remove(self._see_owner_remove)

    async def _tick_forever(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.pass_time(min(now - before, LONGEST_TICK))
            before = now

    def is_down(self, app: App) -> bool:
        """Whether an app is down at present."""
        return app.process_guid in self._outages

    def note_kill(self) -> None:
        """Give the next daemon the time that it takes to find out what the last one has left."""
        for outage in self._outages.values():
            outage.extra += self._patience.kill

    def note_loss(self, seconds: float) -> None:
        """Give apps that are down in the next seconds the time until what was lost is found out."""
        self._loss_until = max(self._loss_until, time.monotonic() + seconds)

    def follow_cache(self, address: str) -> None:
        """Count another private registry, whose copies are copies as well."""
        self._caches.add(address)

    def is_copy(self, rootfs: str) -> bool:
        """Whether a rootfs lies in a private registry."""
        return any(self._is_of(rootfs, each) for each in self._caches)

    def pass_time(self, seconds: float) -> None:
        """Look at all apps after some seconds."""
        serving, now = self._invariants.serving(), time.monotonic()
        is_answering = self._bbs.is_listening and not self._bbs.is_migrating and self.is_daemon_up
        is_excused = not is_answering or self._grace > 0.0
        self._grace = max(0.0, self._grace - seconds) if is_answering else AFTER_ANSWER
        for app in list(self._cloud.apps.values()):
            guid = app.process_guid
            if self._runs_from_copy(guid):
                self._from_copy[guid] = now
            if not app.is_runnable or serving.get(guid, 0) + serving.get(BRIDGE_PREFIX + guid, 0):
                self._outages.pop(guid, None)
            elif not is_excused:
                self._count(app, seconds)
            if app.is_runnable:
                self._count_scaling(app, seconds)

    def _count(self, app: App, seconds: float) -> None:
        guid = app.process_guid
        lrp = self._bbs.state.desired.get(guid)
        is_on_source = lrp is not None and self._is_of(lrp.root_fs, self._source)
        is_excused = not self.has_source(app) or (is_on_source and self._is_source_missing(guid))
        if is_excused or self._waits_after_own_crash(guid):
            self._outages.pop(guid, None)
            return
        outage = self._outages.setdefault(guid, _Outage())
        if self._is_source_cut_off() or (lrp is not None and self.is_hopeless(lrp.root_fs)):
            return
        outage.seconds += seconds
        outage.is_hanging = outage.is_hanging or self._is_copy_slow(guid)
        outage.is_lossy = outage.is_lossy or time.monotonic() < self._loss_until
        if lrp is not None:
            cache = next((each for each in self._caches if self._is_of(lrp.root_fs, each)), None)
            if cache is not None and cache not in outage.caches[-1:]:
                outage.caches.append(cache)
        self._describe(guid, outage)
        allowed = self._patience.down + outage.extra
        allowed += self._patience.another_copy * min(max(0, len(outage.caches) - 1), MOST_OTHER_COPIES)
        if outage.is_hanging:
            allowed += self._patience.hanging
        if outage.is_lossy:
            allowed += self._patience.loss * max(1, len(set(outage.caches)))
        if outage.seconds / allowed > self.longest[0] / self.longest[1]:
            self.longest = (outage.seconds, allowed)
        if outage.seconds > allowed and not outage.is_reported:
            outage.is_reported = True
            what = f"{app.owner.app_name}: down for {outage.seconds:.1f} of {allowed:.1f} s"
            self._invariants.violate(what, f"{guid}, {'; '.join(outage.history)}")

    def _is_source_cut_off(self) -> bool:
        return any(cell.network.condition(self._source) is not None for cell in self._cells)

    def _is_source_missing(self, guid: str) -> bool:
        """Whether its source cannot be pulled, or is being pulled."""
        is_pulled = any(self._is_of(rootfs, self._source) for rootfs in self._pulls(guid))
        return is_pulled or self._is_source_cut_off()

    def _waits_after_own_crash(self, guid: str) -> bool:
        """Whether an instance is restarted late since its process has ended, or its source was not there."""
        return any(
            row.state == CRASHED and not self._names_copy(row.crash_reason) for row in self._rows(guid)
        )

    def _is_copy_slow(self, guid: str) -> bool:
        """Whether the way to its copy is slow, or was and holds up an instance of its own or of its bridge."""
        slow = any(
            isinstance(cell.network.condition(each), Hangs | Slow)
            for cell in self._cells
            for each in self._caches
        )
        pulls = [*self._pulls(guid), *self._pulls(BRIDGE_PREFIX + guid)]
        return slow or any(map(self.is_copy, pulls))

    def _pulls(self, guid: str) -> Iterator[str]:
        """Give what its instances are being created from."""
        for cell in self._cells:
            for instance in cell.instances.values():
                if instance.key.process_guid == guid and not instance.is_created.is_set():
                    yield instance.rootfs

    def _describe(self, guid: str, outage: _Outage) -> None:
        """Keep what is seen of an app that is down, each change once, for whoever looks into it."""
        lrp = self._bbs.state.desired.get(guid)
        bridge = self._bbs.state.desired.get(BRIDGE_PREFIX + guid)
        parts = [
            "missing" if lrp is None else f"on {self._name(lrp.root_fs)}",
            *map(self._row_text, self._rows(guid)),
        ]
        if bridge is not None:
            parts += [f"bridge on {self._name(bridge.root_fs)}"]
        parts += map(self._row_text, self._rows(BRIDGE_PREFIX + guid))
        text = ", ".join(parts)
        if not outage.history or outage.history[-1].partition("s ")[2] != text:
            outage.history.append(f"{outage.seconds:.2f}s {text}")

    def _row_text(self, row: ActualLRP) -> str:
        kind = "bridge's " if row.actual_lrp_key.process_guid.startswith(BRIDGE_PREFIX) else ""
        source = self._name(row.crash_reason) if row.crash_reason else ""
        crashes = f" after {row.crash_count} crashes by {source}" if row.crash_count else ""
        return f"{kind}{row.actual_lrp_key.index} {row.state}{crashes}"

    def _name(self, text: str) -> str:
        return "copy" if self._names_copy(text) else "source" if self._source in text else "itself"

    def _names_copy(self, text: str) -> bool:
        return any(each in text for each in self._caches)

    def _rows(self, guid: str) -> Iterable[ActualLRP]:
        return list(self._bbs.state.actual.get(guid, {}).values())

    def _is_of(self, rootfs: str, host: str) -> bool:
        return rootfs.startswith(f"docker://{host}/")

    def _count_scaling(self, app: App, seconds: float) -> None:
        guid = app.process_guid
        lrp = self._bbs.state.desired.get(guid)
        if lrp is None or lrp.instances == app.instances:
            self._misscaled.pop(guid, None)
            return
        before = self._misscaled.get(guid, 0.0)
        self._misscaled[guid] = before + seconds
        if before <= self._patience.scaling < before + seconds:
            what = f"{app.owner.app_name}: {lrp.instances} instances are desired, not {app.instances}"
            self._invariants.violate(what, guid)

    def _runs_from_copy(self, guid: str) -> bool:
        return any(
            instance.is_running and instance.key.process_guid == guid and self.is_copy(instance.rootfs)
            for cell in self._cells
            for instance in cell.instances.values()
        )

    def check_claim(self, guid: str, said: str, at: float) -> None:
        """Look whether an app that is called cached has run from its copy lately.

        Args:
            guid: The process GUID of its LRP.
            said: Where it was called so.
            at: The time by the monotonic clock before which the daemon cannot have looked.
        """
        is_known = any(app.process_guid == guid for app in self._cloud.apps.values())
        if not is_known or guid in self._claimed or self._runs_from_copy(guid):
            return
        ran = self._from_copy.get(guid, 0.0)
        if ran < at - self._patience.claim:
            self._claimed.add(guid)
            self._invariants.violate(f"{guid} is called cached by {said}, and does not run from its copy", "")

    def _see_owner_remove(self, guid: str) -> None:
        """Begin anew with an app that its owner stops, and perhaps starts again."""
        self._outages.pop(guid, None)
        self._misscaled.pop(guid, None)
        if self._runs_from_copy(guid):
            self._from_copy[guid] = time.monotonic()

    def _see_failed_call(self, _path: str, body: bytes) -> None:
        for guid, outage in self._outages.items():
            if guid.encode() in body:
                outage.extra += self._patience.call
