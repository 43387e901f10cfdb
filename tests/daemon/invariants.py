"""Watches that no app has fewer instances than it must have, at every single change in the BBS.

An app pins as many instances as have once served under its own LRP, up to what its owner wants; it may
hold them in a bridge. It gives that up only to its owner, or to the cell that takes an instance away.
Everything else is a violation.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.simulators.bbs import Bbs
from tests.simulators.cell import SimulatedCell
from tests.simulators.cloud_controller import App, CloudController
from tests.simulators.recipes import APPS_DOMAIN

BRIDGE_PREFIX = "docker-cache-bridge-"
ITS_OWN = ("root_fs", "image_username", "image_password", "modification_tag")
"""What a migration may change of a definition."""
OWNERS = ("instances", "routes", "annotation", "metric_tags")
"""What the owner may be just about to change in place."""
UNSEEN_FOR = 0.5
"""Seconds in which nobody can have seen that an instance began to run, or crashed.

A BBS has no removal on a condition: between the last look and the removal lies a request.
"""


@dataclass
class Invariants:
    """What was seen of each app, by the process GUID of its LRP: a restart begins anew.

    Attributes:
        held: Instances that the app must not fall below.
        lowest: The lowest surplus over that, ever; negative is an outage.
        violations: What went wrong, for people.
        bridges: The lives of bridges seen so far.
        looks: How often everything was looked at.
        lately: What was done last, for whoever looks into a violation.
        told: The violations with that and with their time.
    """

    bbs: Bbs
    cells: list[SimulatedCell]
    cloud: CloudController
    held: dict[str, int] = field(default_factory=dict)
    lowest: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    bridges: set[str] = field(default_factory=set)
    looks: int = 0
    lately: deque[str] = field(default_factory=lambda: deque(maxlen=12))
    told: list[str] = field(default_factory=list)
    _known: set[tuple[str, str]] = field(default_factory=set)
    _past: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    _crashes: dict[str, deque[float]] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every change for the length of a block."""
        self.bbs.state.events.observers.append(self._look)
        try:
            yield
        finally:
            self.bbs.state.events.observers.remove(self._look)

    def note(self, what: str) -> None:
        """Remember something that was done, with its time."""
        self.lately.append(f"{_clock()} {what}")

    def will_crash(self, process_guid: str) -> None:
        """Let an app, or its bridge, have one instance less from now on, since the cell takes it."""
        guid = process_guid.removeprefix(BRIDGE_PREFIX)
        self._crashes.setdefault(guid, deque()).append(time.monotonic())
        self.held[guid] = max(0, self.held.get(guid, 0) - 1)

    def will_scale(self, app: App, instances: int) -> None:
        """Let an app lose the instances that its owner gives up, whichever of them serve."""
        own, bridged = self._counts(app.process_guid, below=instances)
        guid = app.process_guid
        self.held[guid] = min(self.held.get(guid, 0), own + bridged)

    def serving(self) -> dict[str, int]:
        """Count the instances that run and are not being stopped, by process GUID, bridges included."""
        counts = dict[str, int]()
        for guid, _ in self._serving():
            counts[guid] = counts.get(guid, 0) + 1
        return counts

    def _serving(self) -> Iterator[tuple[str, int]]:
        """Give process GUID and index of each instance that serves, with a row of its own."""
        for cell in self.cells:
            for instance in cell.instances.values():
                key = instance.key
                row = self.bbs.state.row(key.process_guid, key.index)
                lives = row is not None and row.actual_lrp_instance_key == instance.instance_key
                if instance.is_running and not instance.is_stopping and lives:
                    yield key.process_guid, key.index

    def _counts(self, guid: str, *, below: int) -> tuple[int, int]:
        """Count what serves for an LRP: its own instances, and its bridge's."""
        serving = [each for each, index in self._serving() if index < below]
        return serving.count(guid), serving.count(BRIDGE_PREFIX + guid)

    def _look(self) -> None:
        self.looks += 1
        serving = self.serving()
        for app in list(self.cloud.apps.values()):
            guid = app.process_guid
            wanted = app.instances if app.is_started else 0
            own, bridged = serving.get(guid, 0), serving.get(BRIDGE_PREFIX + guid, 0)
            count, held = own + bridged, min(self.held.get(guid, 0), wanted)
            least = held - self._unseen_crashes(guid)
            self.lowest[guid] = min(self.lowest.get(guid, 0), count - least)
            if count < least:
                what = f"{app.owner.app_name}: {count} of {held} instances serve"
                self.violations.append(what)
                self.told.append(f"{_clock()} {what} {guid}, after: {'; '.join(self.lately)}")
            # Told once, and what a crash has cost is not asked for again.
            self.held[guid] = min(max(held, self._lasting(guid, own)), wanted) if count >= held else count
        self._check_definitions()

    def _lasting(self, guid: str, own: int) -> int:
        """Count the instances that have served for long enough to be seen."""
        now, past = time.monotonic(), self._past.setdefault(guid, deque())
        past.append((now, own))
        while len(past) > 1 and now - past[1][0] > UNSEEN_FOR:
            past.popleft()
        is_seen = now - past[0][0] > UNSEEN_FOR
        return min(count for _, count in past) if is_seen else 0

    def _unseen_crashes(self, guid: str) -> int:
        crashes, now = self._crashes.get(guid, deque()), time.monotonic()
        while crashes and now - crashes[0] > UNSEEN_FOR:
            crashes.popleft()
        return len(crashes)

    def _check_definitions(self) -> None:
        """Compare each definition that is new with what Cloud Controller would desire."""
        for guid, lrp in self.bbs.state.desired.items():
            key = (guid, lrp.modification_tag.epoch)
            if key in self._known:
                continue
            self._known.add(key)
            if guid.startswith(BRIDGE_PREFIX):
                self.bridges.add(key[1])
            app = self._app_of(guid)
            if app is not None:
                self._compare(guid, lrp, self.cloud.definition(app), (*ITS_OWN, *OWNERS))

    def check_end(self) -> None:
        """Look whether all came to rest: no bridge, nothing that its owner removed, all as its owner wants."""
        self.violations += self.unrest()

    def unrest(self) -> list[str]:
        """Say what is not yet as it should be in the end."""
        desired, found = self.bbs.state.desired, list[str]()
        wanted = {app.process_guid: app for app in self.cloud.apps.values() if app.is_runnable}
        found += [f"{guid} is left" for guid in desired if guid.startswith(BRIDGE_PREFIX)]
        for guid, lrp in desired.items():
            if lrp.domain == APPS_DOMAIN and guid not in wanted:
                found.append(f"{guid} is desired, and nobody wants it")
        serving = self.serving()
        for guid, app in wanted.items():
            if guid not in desired:
                found.append(f"{guid} is not desired")
            else:
                found += self._differences(guid, desired[guid], self.cloud.definition(app), ITS_OWN)
            if serving.get(guid, 0) != app.instances:
                found.append(f"{app.owner.app_name}: {serving.get(guid, 0)} of {app.instances} serve")
        return found

    def _compare(self, guid: str, lrp: DesiredLRP, wanted: DesiredLRP, but: tuple[str, ...]) -> None:
        self.violations += self._differences(guid, lrp, wanted, but)

    def _differences(self, guid: str, lrp: DesiredLRP, wanted: DesiredLRP, but: tuple[str, ...]) -> list[str]:
        if guid.startswith(BRIDGE_PREFIX):
            but = (*but, "process_guid", "domain")
        one, other = DesiredLRP(), DesiredLRP()
        one.CopyFrom(lrp)
        other.CopyFrom(wanted)
        for name in but:
            one.ClearField(name)
            other.ClearField(name)
        if one == other:
            return []
        names = [each.name for each in DesiredLRP.DESCRIPTOR.fields]
        different = [name for name in names if getattr(one, name) != getattr(other, name)]
        return [f"{guid} was changed: {', '.join(different)}"]

    def _app_of(self, process_guid: str) -> App | None:
        guid = process_guid.removeprefix(BRIDGE_PREFIX)
        return next((app for app in self.cloud.apps.values() if app.process_guid == guid), None)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
