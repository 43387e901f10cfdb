"""Watches that no app has fewer instances than it must have, at every single change in the BBS.

An app pins as many instances as have once served under its own LRP, up to what its owner wants; it may
hold them in a bridge. It gives that up only to its owner, or to the cell that takes an instance away.
An instance whose index is beyond what the owner wants counts for nothing: it is being stopped, however late.
Everything else is a violation.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from protos.bbs.actual_lrp_requests_pb2 import ActualLRPsRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.simulators.bbs import Bbs
from tests.simulators.cell import SimulatedCell
from tests.simulators.cloud_controller import App, CloudController
from tests.simulators.recipes import APPS_DOMAIN

BRIDGE_PREFIX = "docker-cache-bridge-"
LIST_INSTANCES = "/v1/actual_lrps/list"
ITS_OWN = ("root_fs", "image_username", "image_password", "modification_tag")
"""What a migration may change of a definition."""
OWNERS = ("instances", "routes", "annotation", "metric_tags")
"""What the owner may be just about to change in place."""
WRITES = frozenset(
    {
        "/v1/desired_lrp/remove",
        "/v1/desired_lrp/desire.r2",
        "/v1/desired_lrp/update",
        "/v1/actual_lrps/retire",
    }
)
UNSEEN_FOR = 0.5
"""Seconds in which nobody can have seen that an instance began to run, or crashed.

A BBS has no removal on a condition: between the last look and the removal lies a request. On a busy machine
that takes as long as it takes: what counts then is whether the daemon has read the LRP's instances since.
"""
LONGEST_UNSEEN = 15.0
"""Seconds after which a daemon that has not read them is to blame, however busy the machine is."""


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
        details: The violations with that and with their time.
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
    details: list[str] = field(default_factory=list)
    _known: set[tuple[str, str]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)
    _read_at: dict[str, float] = field(default_factory=dict)
    _operators_reading: int = 0
    _calls: dict[str, deque[str]] = field(default_factory=dict)
    _crashes: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every change for the length of a block; what serves at its beginning is held."""
        self.bbs.state.events.observers.append(self._look)
        self.bbs.beginning_callers.append(self._see_beginning_call)
        self.bbs.callers.append(self._see_call)
        self.bbs.failed_callers.append(self._see_failed_call)
        self.cloud.removing.append(self._see_owner_remove)
        try:
            self._look()
            for app in self.cloud.apps.values():
                own, _ = self._counts(app.process_guid, below=app.instances)
                self.held[app.process_guid] = own
            yield
        finally:
            self.bbs.state.events.observers.remove(self._look)
            self.bbs.beginning_callers.remove(self._see_beginning_call)
            self.bbs.callers.remove(self._see_call)
            self.bbs.failed_callers.remove(self._see_failed_call)
            self.cloud.removing.remove(self._see_owner_remove)

    def _see_call(self, path: str, body: bytes) -> None:
        """Note which instances the daemon has read."""
        if path == LIST_INSTANCES and not self._operators_reading:
            self._read_at[ActualLRPsRequest.FromString(body).process_guid] = time.monotonic()
            self._record_call(body, "reads instances")

    def _see_beginning_call(self, path: str, body: bytes) -> None:
        if path in WRITES:
            self._record_call(body, path.removeprefix("/v1/"))

    def _see_failed_call(self, path: str, body: bytes) -> None:
        if path in WRITES:
            self._record_call(body, f"has no answer to {path.removeprefix('/v1/')}")

    def _record_call(self, body: bytes, what: str) -> None:
        for guid in [each for each in self.held if each.encode() in body]:
            bridge = " bridge" if f"{BRIDGE_PREFIX}{guid}".encode() in body else ""
            self._record(guid, f"daemon {what}{bridge}")

    @contextmanager
    def operator_reading(self) -> Iterator[None]:
        """Let what is read during a block be read for an operator: no migration rests on it."""
        self._operators_reading += 1
        try:
            yield
        finally:
            self._operators_reading -= 1

    def _see_owner_remove(self, process_guid: str) -> None:
        """Let an app lose all that serves whenever its owner removes its LRP, also by a sync that comes late.

        It comes back under the same process GUID: nothing but who removed it tells this from an outage. An
        instance whose stop is lost, or that begins to run only later, is given up as well.
        """
        self._record(process_guid, "owner remove")
        self.held[process_guid] = 0
        for cell in self.cells:
            self._given_up |= {
                guid for guid, instance in cell.instances.items() if instance.key.process_guid == process_guid
            }

    def _record(self, guid: str, what: str) -> None:
        self._calls.setdefault(guid, deque(maxlen=40)).append(f"{_clock()} {what}")

    def note(self, what: str) -> None:
        """Remember something that was done, with its time."""
        self.lately.append(f"{_clock()} {what}")

    def violate(self, what: str, more: str) -> None:
        """Note what went wrong, with more of it for whoever looks into it."""
        self.violations.append(what)
        self.details.append(f"{_clock()} {what} {more}, after: {'; '.join(self.lately)}")

    def will_crash(self, process_guid: str) -> None:
        """Let an app, or its bridge, have one instance less from now on, since the cell takes it."""
        guid = process_guid.removeprefix(BRIDGE_PREFIX)
        self._crashes.setdefault(guid, []).append((time.monotonic(), process_guid))
        self.held[guid] = max(0, self.held.get(guid, 0) - 1)

    def will_scale(self, app: App, instances: int) -> None:
        """Let an app lose the instances that its owner gives up, whichever of them serve."""
        own, bridged = self._counts(app.process_guid, below=instances)
        guid = app.process_guid
        self.held[guid] = min(self.held.get(guid, 0), own + bridged)

    def serving(self) -> dict[str, int]:
        """Count the instances that run and are not being stopped, by process GUID, bridges included."""
        counts = dict[str, int]()
        for guid, _, _ in self._serving():
            counts[guid] = counts.get(guid, 0) + 1
        return counts

    def _serving(self) -> Iterator[tuple[str, int, str]]:
        """Give process GUID, index and own GUID of each instance that serves, with a row of its own."""
        for cell in self.cells:
            for instance in cell.instances.values():
                key = instance.key
                row = self.bbs.state.row(key.process_guid, key.index)
                lives = row is not None and row.actual_lrp_instance_key == instance.instance_key
                if instance.is_running and not instance.is_stopping and lives:
                    yield key.process_guid, key.index, instance.instance_key.instance_guid

    def _counts(self, guid: str, *, below: int) -> tuple[int, int]:
        """Count what serves for an LRP: its own instances, and its bridge's."""
        serving = [each for each, index, _ in self._serving() if index < below]
        return serving.count(guid), serving.count(BRIDGE_PREFIX + guid)

    def _look(self) -> None:
        self.looks += 1
        serving, lasting = self._count()
        for app in list(self.cloud.apps.values()):
            guid = app.process_guid
            wanted = app.instances if app.is_started else 0
            own, bridged = serving.get(guid, 0), serving.get(BRIDGE_PREFIX + guid, 0)
            count, held = own + bridged, min(self.held.get(guid, 0), wanted)
            least = held - self._unseen_crashes(guid)
            self.lowest[guid] = min(self.lowest.get(guid, 0), count - least)
            if count < least:
                more = f"{guid}, {'; '.join(self._calls.get(guid, ()))}"
                self.violate(f"{app.owner.app_name}: {count} of {held} instances serve", more)
            # Told once, and what a crash has cost is not asked for again.
            self.held[guid] = min(max(held, lasting.get(guid, 0)), wanted) if count >= held else count
        self._check_definitions()

    def _count(self) -> tuple[dict[str, int], dict[str, int]]:
        """Count by process GUID the instances that serve, and those that have for long enough to be seen."""
        serving, lasting, since = dict[str, int](), dict[str, int](), dict[str, float]()
        now, wanted = time.monotonic(), {app.process_guid: app.instances for app in self.cloud.apps.values()}
        for guid, index, instance in self._serving():
            if index >= wanted.get(guid, index + 1):  # its owner gave it up
                continue
            serving[guid] = serving.get(guid, 0) + 1
            if guid not in self.bbs.state.desired:  # it began too late to be missed: it is being stopped
                continue
            if instance not in self._since:
                kind = "a bridge's" if guid.startswith(BRIDGE_PREFIX) else "an"
                self._record(guid.removeprefix(BRIDGE_PREFIX), f"{kind} instance runs")
            since[instance] = self._since.get(instance, now)
            if instance not in self._given_up and self._is_seen(guid, since[instance]):
                lasting[guid] = lasting.get(guid, 0) + 1
        self._since = since
        return serving, lasting

    def _is_seen(self, guid: str, since: float) -> bool:
        """Whether the daemon must know something of an LRP's instances that is so since then."""
        age = time.monotonic() - since
        return age > LONGEST_UNSEEN or (age > UNSEEN_FOR and self._read_at.get(guid, 0.0) > since)

    def _unseen_crashes(self, guid: str) -> int:
        crashes = [each for each in self._crashes.get(guid, ()) if not self._is_seen(each[1], each[0])]
        self._crashes[guid] = crashes
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
        routes = ""
        if "routes" in different:
            has, wants = ({**each.routes.routes} for each in (one, other))
            routes = f": {_values(has, wants)} in place of {_values(wants, has)}"
        return [f"{guid} was changed: {', '.join(different)}{routes}"]

    def _app_of(self, process_guid: str) -> App | None:
        guid = process_guid.removeprefix(BRIDGE_PREFIX)
        return next((app for app in self.cloud.apps.values() if app.process_guid == guid), None)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]


def _values(routes: Mapping[str, bytes], others: Mapping[str, bytes]) -> dict[str, bytes]:
    """Choose the routes that others have not, or not in this way."""
    return {key: value for key, value in routes.items() if others.get(key) != value}
