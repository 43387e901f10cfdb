"""Watches that no app has fewer instances than it must have, at every single change in the BBS.

An app holds what has once served, up to what its owner wants. It gives that up only to its owner, or
to the cell that takes an instance away. Everything else is a violation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.simulators.bbs import Bbs
from tests.simulators.cell import SimulatedCell
from tests.simulators.cloud_controller import App, CloudController
from tests.simulators.recipes import APPS_DOMAIN

BRIDGE_PREFIX = "docker-cache-bridge-"
ITS_OWN = ("root_fs", "image_username", "image_password", "modification_tag")
"""What a replacement may change of a definition."""
OWNERS = ("instances", "routes", "annotation", "metric_tags")
"""What the owner may be just about to change in place."""


@dataclass
class Invariants:
    """What was seen of each app, by app GUID.

    Attributes:
        held: Instances that the app must not fall below.
        lowest: The lowest surplus over that, ever; negative is an outage.
        violations: What went wrong, for people.
        bridges: Bridges seen so far.
        looks: How often everything was looked at.
    """

    bbs: Bbs
    cells: list[SimulatedCell]
    cloud: CloudController
    held: dict[str, int] = field(default_factory=dict)
    lowest: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    bridges: set[str] = field(default_factory=set)
    looks: int = 0
    _known: set[tuple[str, str]] = field(default_factory=set)
    _is_lenient: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every change for the length of a block."""
        self.bbs.state.events.observers.append(self._look)
        try:
            yield
        finally:
            self.bbs.state.events.observers.remove(self._look)

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Let an owner or a cell take instances away for the length of a block, which must not wait."""
        self._is_lenient = True
        try:
            yield
        finally:
            self._is_lenient = False
            self._look(forgives=True)

    def serving(self) -> dict[str, int]:
        """Count the instances that run and are not being stopped, by app GUID."""
        state, counts = self.bbs.state, dict[str, int]()
        for cell in self.cells:
            for instance in cell.instances.values():
                key = instance.key
                row = state.row(key.process_guid, key.index)
                lives = row is not None and row.actual_lrp_instance_key == instance.instance_key
                if instance.is_running and not instance.is_stopping and lives:
                    app_guid = _app_guid(key.process_guid)
                    counts[app_guid] = counts.get(app_guid, 0) + 1
        return counts

    def _look(self, *, forgives: bool = False) -> None:
        if self._is_lenient:
            return
        self.looks += 1
        serving = self.serving()
        for app in list(self.cloud.apps.values()):
            wanted = app.instances if app.is_started else 0
            count, held = serving.get(app.guid, 0), min(self.held.get(app.guid, 0), wanted)
            if forgives:
                held = min(held, count)
            self.lowest[app.guid] = min(self.lowest.get(app.guid, 0), count - held)
            if count < held:
                self.violations.append(f"{app.owner.app_name}: {count} of {held} instances serve")
                held = count  # told once
            self.held[app.guid] = max(held, min(count, wanted))
        self._check_definitions()

    def _check_definitions(self) -> None:
        """Compare each definition that is new with what Cloud Controller would desire."""
        desired = self.bbs.state.desired
        for guid, lrp in desired.items():
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
        desired = self.bbs.state.desired
        wanted = {app.process_guid: app for app in self.cloud.apps.values() if app.is_runnable}
        self.violations += [f"{guid} is left" for guid in desired if guid.startswith(BRIDGE_PREFIX)]
        for guid, lrp in desired.items():
            if lrp.domain == APPS_DOMAIN and guid not in wanted:
                self.violations.append(f"{guid} is desired, and nobody wants it")
        for guid, app in wanted.items():
            if guid not in desired:
                self.violations.append(f"{guid} is not desired")
                continue
            self._compare(guid, desired[guid], self.cloud.definition(app), ITS_OWN)
        serving = self.serving()
        for app in wanted.values():
            if serving.get(app.guid, 0) != app.instances:
                self.violations.append(f"{app.owner.app_name}: {serving.get(app.guid, 0)} of {app.instances}")

    def _compare(self, guid: str, lrp: DesiredLRP, wanted: DesiredLRP, but: tuple[str, ...]) -> None:
        if guid.startswith(BRIDGE_PREFIX):
            but = (*but, "process_guid", "domain")
        one, other = DesiredLRP(), DesiredLRP()
        one.CopyFrom(lrp)
        other.CopyFrom(wanted)
        for name in but:
            one.ClearField(name)
            other.ClearField(name)
        if one != other:
            names = [each.name for each in DesiredLRP.DESCRIPTOR.fields]
            different = [name for name in names if getattr(one, name) != getattr(other, name)]
            self.violations.append(f"{guid} was changed: {', '.join(different)}")

    def _app_of(self, process_guid: str) -> App | None:
        guid = process_guid.removeprefix(BRIDGE_PREFIX)
        return next((app for app in self.cloud.apps.values() if app.process_guid == guid), None)


def _app_guid(process_guid: str) -> str:
    return process_guid.removeprefix(BRIDGE_PREFIX)[:36]
