"""A small model of a BBS with its cells, an owner and one migrated app, as the real ones were measured.

An instance is CLAIMED while its image is pulled; a pull ends by itself or not at all, and a stop waits for
its end. An index whose old row is left gets no new row before convergence. A container runs the definition
that was desired when its instance was claimed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconcile.bridges import BRIDGE_DOMAIN, bridge_of
from reconcile.instances import failure_of, is_any_running, running
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp, ModificationTag, Presence, ProcessGuid, Pull
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.protocol import FAILURES, MAX_ROUNDS, may_remove, next_step, row_of_removal
from reconcile.reasons import Reason
from reconcile.references import source_from_rootfs
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    PhaseLimits,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    Step,
    TurnBack,
    UpdateBridge,
    UpdateRoutes,
    World,
)
from tests.reconcile.test_decide import GUID, LRP, PROCESS, RULES

TARGET = Pull(RULES.cache.rootfs(GUID))
SOURCE = Pull(LRP.rootfs, LRP.credentials)
BRIDGE = bridge_of(PROCESS)
LIMITS = PhaseLimits(
    bridge=50.0, start=50.0, routes=1.0, drain=1.0, cloud_controller_sync=100.0, stopgap=1.5, missing=12.0
)
UNCLAIMED, CLAIMED = ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED
RUNNING, CRASHED = ActualLrpState.RUNNING, ActualLrpState.CRASHED

PULL_FAILED = (
    "failed to create container: running image plugin create: fetching image reference: creating image: "
    'creating image source: pinging container registry cache:8080: Get "https://cache:8080/v2/": '
    "dial tcp 10.0.0.9:8080: connect: connection refused\n: exit status 1"
)
IMMEDIATE_RESTARTS = 3

Key = tuple[ProcessGuid, int]


def pull_of(lrp: DesiredLrp) -> Pull:
    """Return what cells pull for an LRP."""
    return Pull(lrp.rootfs, lrp.credentials)


class Pulls(StrEnum):
    """What becomes of pulls from a registry."""

    WORK = "work"
    FAIL = "fail"
    HANG = "hang"


@dataclass
class Bbs:
    """Desired LRPs and instance rows.

    Attributes:
        stopping: Keys of rows whose container was asked to stop.
        runs_from: Instance GUID to the rootfs and the login of its definition.
        counts: Instances that were wanted last, by LRP, also of one that is not desired any more.
        routes: Routes that it had last, likewise.
        stops: The times at which an instance with a container was asked to stop, by instance GUID.
        given_up: GUIDs of instances that the owner has given up, also when their stop was lost.
    """

    desired: dict[ProcessGuid, DesiredLrp] = field(default_factory=dict)
    instances: dict[Key, ActualLrp] = field(default_factory=dict)
    stopping: set[Key] = field(default_factory=set)
    waiting: set[Key] = field(default_factory=set)
    runs_from: dict[str, Pull] = field(default_factory=dict)
    pulls: dict[Pull, Pulls] = field(default_factory=dict)
    stops: dict[str, list[float]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    counts: dict[ProcessGuid, int] = field(default_factory=dict)
    routes: dict[ProcessGuid, Mapping[str, bytes]] = field(default_factory=dict)
    now: float = 1000.0
    loses_stops: bool = False
    made: int = 0

    def desire(self, lrp: DesiredLrp) -> None:
        """As a BBS does: an index whose row is left gets no new one."""
        if lrp.process_guid in self.desired:
            return
        self.made += 1
        self.desired[lrp.process_guid] = replace(lrp, tag=ModificationTag(f"epoch-{self.made}", 0))
        self.counts[lrp.process_guid] = lrp.instances
        self.routes[lrp.process_guid] = lrp.routes
        self.fill(lrp.process_guid)

    def fill(self, guid: ProcessGuid) -> None:
        """Give each index without a row a new one."""
        for index in range(self.desired[guid].instances):
            if (guid, index) not in self.instances:
                self.made += 1
                tag = ModificationTag(f"row-{self.made}", 0)
                self.instances[guid, index] = ActualLrp(
                    guid, index, "d", UNCLAIMED, Presence.ORDINARY, "", "", tag
                )

    def update(
        self,
        guid: ProcessGuid,
        instances: int,
        routes: Mapping[str, bytes],
        annotation: Mapping[str, str] | None = None,
    ) -> None:
        """Scale in place, and give other routes."""
        lrp = self.desired.get(guid)
        if lrp is None:
            return
        self.desired[guid] = replace(
            lrp,
            instances=instances,
            routes=routes,
            metric_tags=lrp.metric_tags if annotation is None else annotation,
            tag=ModificationTag(lrp.tag.epoch, lrp.tag.index + 1),
        )
        self.counts[guid] = instances
        self.routes[guid] = self.desired[guid].routes
        self.fill(guid)
        for key in list(self.instances):
            if key[0] == guid and key[1] >= instances:
                self.stop(key)

    def update_routes(self, guid: ProcessGuid, routes: Mapping[str, bytes]) -> None:
        """Give an LRP other routes in place."""
        lrp = self.desired.get(guid)
        if lrp is not None:
            tag = ModificationTag(lrp.tag.epoch, lrp.tag.index + 1)
            self.desired[guid] = replace(lrp, routes=routes, tag=tag)
            self.routes[guid] = routes

    def remove(self, guid: ProcessGuid) -> None:
        """Forget the definition, and ask its instances to stop."""
        self.desired.pop(guid, None)
        for key in list(self.instances):
            if key[0] == guid:
                self.stop(key)

    def stop(self, key: Key) -> None:
        """Delete a row without a container; ask the cell of one with a container to stop it."""
        row = self.instances[key]
        if row.state in {UNCLAIMED, CRASHED}:
            del self.instances[key]
            return
        self.stops.setdefault(row.instance_guid, []).append(self.now)
        if not self.loses_stops:
            self.stopping.add(key)

    def converge(self) -> None:
        """Start what is missing, restart what crashed, and stop what nobody desires."""
        for key, row in list(self.instances.items()):
            lrp = self.desired.get(key[0])
            if lrp is None or key[1] >= lrp.instances:
                self.stop(key)
            elif row.state is CRASHED:
                self.instances[key] = replace(row, state=UNCLAIMED)
        for guid in list(self.desired):
            self.fill(guid)

    def progress(self) -> None:
        """Let cells work: claim, pull, run and stop, as far as pulls end."""
        for key, row in list(self.instances.items()):
            if key in self.stopping:
                self._stop_one(key, row)
            elif row.state is UNCLAIMED and key[0] in self.desired:
                self._claim(key, row)
            elif row.state is CLAIMED:
                self._pull(key, row)

    def _stop_one(self, key: Key, row: ActualLrp) -> None:
        if row.state is CLAIMED and self._pulls_of(row) is Pulls.HANG:
            return
        del self.instances[key]
        self.stopping.discard(key)

    def _claim(self, key: Key, row: ActualLrp) -> None:
        self.made += 1
        guid = f"i-{self.made}"
        self.runs_from[guid] = pull_of(self.desired[key[0]])
        self.instances[key] = replace(row, state=CLAIMED, instance_guid=guid, cell_id="cell")

    def _pull(self, key: Key, row: ActualLrp) -> None:
        match self._pulls_of(row):
            case Pulls.WORK:
                self.instances[key] = replace(row, state=RUNNING)
            case Pulls.FAIL:
                self.crash(key, PULL_FAILED)
            case Pulls.HANG:
                pass

    def crash(self, key: Key, reason: str) -> None:
        """End a container by itself."""
        row = self.instances[key]
        crashes = row.crash_count + 1
        state = UNCLAIMED if crashes < IMMEDIATE_RESTARTS else CRASHED
        self.instances[key] = replace(
            row, state=state, instance_guid="", cell_id="", crash_count=crashes, crash_reason=reason
        )

    def _pulls_of(self, row: ActualLrp) -> Pulls:
        return self.pulls.get(self.runs_from[row.instance_guid], Pulls.WORK)

    def rows(self, guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows."""
        return tuple(row for key, row in self.instances.items() if key[0] == guid)

    def serving(self, *guids: ProcessGuid) -> int:
        """Count the wanted instances that run and are not being stopped."""
        return sum(
            row.state is RUNNING and key not in self.stopping and key[0] in guids and self._is_wanted(key)
            for key, row in self.instances.items()
        )

    def serving_by_right(self, guid: ProcessGuid) -> int:
        """Count those of them that their owner has not given up."""
        given_up = sum(
            row.state is RUNNING and row.instance_guid in self.given_up and self._is_wanted(key)
            for key, row in self.instances.items()
            if key[0] == guid and key not in self.stopping
        )
        return self.serving(guid) - given_up

    def _is_wanted(self, key: Key) -> bool:
        return key[1] < self.counts.get(key[0], 0)

    def runs(self, guid: ProcessGuid, pull: Pull) -> bool:
        """Whether an instance of an LRP runs from a rootfs, pulled with a login."""
        return any(
            row.state is RUNNING and self.runs_from[row.instance_guid] == pull for row in self.rows(guid)
        )


@dataclass
class App:
    """One app with its owner, and the program that migrates it, which may die at any moment.

    Attributes:
        wanted: Instances that the owner wants; 0 once the app is deleted.
        changes: How often the owner has changed the app; `mapped` was the last of them that changed its routes.
        held: Instances that the app must not lose.
        ends: How its migrations ended.
        turns: Steps without a wait since anything else happened.
        source: What its owner desires it from.
        copy: What it is migrated to.
        former: What it runs from before, where that is a copy; None where it is its source.
        renews_login: Whether it runs from the copy already, with another login.
        is_source_gone: Whether nobody will ever pull from its source again.
        droplet: What its owner desires it from while its droplet names the copy: with the login of its
            source, which nothing changes in a droplet. None while the droplet names its source.
        stores_logins: Whether the BBS stores a login that is updated in place.
    """

    source: Pull = SOURCE
    copy: Pull = TARGET
    former: Pull | None = None
    renews_login: bool = False
    is_source_gone: bool = False
    droplet: Pull | None = None
    stores_logins: bool = True
    bbs: Bbs = field(default_factory=Bbs)
    row: Migration | None = None
    process_age: float = 0.0
    run: int = 1
    wanted: int = 0
    changes: int = 1
    mapped: int = 1
    held: int = 0
    late_removal: bool = False
    has_crashed: bool = False
    has_crashed_drained: bool = False
    may_bridge: bool = True
    is_restore_requested: bool = False
    is_proven: bool = True
    has_run_from_copy: bool = False
    ends: Counter[Reason] = field(default_factory=Counter)
    turns: int = 0

    def begin(self, instances: int, *, runs: bool) -> None:
        """Desire the app from what it runs from before, and begin to migrate it."""
        self.wanted = instances
        before = self.former or self.source
        self.bbs.desire(replace(self.definition, rootfs=before.rootfs, credentials=before.credentials))
        self.bbs.progress()
        if runs:
            self.bbs.progress()
        self.look()
        self.prepare()

    def prepare(self) -> None:
        """Begin a migration, where one may begin."""
        lrp = self.bbs.desired.get(PROCESS)
        if self.row is not None or lrp is None or lrp.instances == 0:
            return
        if pull_of(lrp) in self._copies():
            self._bring_login_in_line(lrp)
            self._put_back(lrp)
            return
        if pull_of(lrp) == self.former and self._leave_failing_former(lrp):
            return
        if not self.is_proven or self.is_restore_requested:
            return
        runs = is_any_running(self.bbs.rows(PROCESS))
        if runs and not self.may_bridge:
            return
        self._begin(self._row_of(lrp, runs=runs))

    def _leave_failing_former(self, lrp: DesiredLrp) -> bool:
        """Begin to bring an LRP to its source that cells cannot pull, while it may not have the new copy."""
        rows = self.bbs.rows(PROCESS)
        failure, runs = failure_of(rows), is_any_running(rows)
        is_failing = failure is not None and failure.is_pull_failure
        if not is_failing or (self.is_proven and not self.is_restore_requested):
            return False
        if runs and not self.may_bridge:
            return False
        self._begin(replace(self._row_of(lrp, runs=runs), goal=Goal.SOURCE))
        return True

    def _bring_login_in_line(self, lrp: DesiredLrp) -> None:
        """Update the login of an LRP in place, and retire what was refused with the other one."""
        if pull_of(lrp) == self.copy or not self.stores_logins:
            return
        tag = ModificationTag(lrp.tag.epoch, lrp.tag.index + 1)
        self.bbs.desired[PROCESS] = replace(lrp, credentials=self.copy.credentials, tag=tag)
        for row in self.bbs.rows(PROCESS):
            failure = failure_of([row])
            if row.state in {UNCLAIMED, CRASHED} and failure is not None and failure.is_pull_failure:
                self.bbs.stop((PROCESS, row.index))

    def _put_back(self, lrp: DesiredLrp) -> None:
        """Begin to bring an LRP back whose instances cannot be pulled from the copy any more."""
        rows = self.bbs.rows(PROCESS)
        failure, runs = failure_of(rows), is_any_running(rows)
        if failure is None or not failure.is_pull_failure or (runs and not self.may_bridge):
            return
        row = self._row_of(lrp, runs=runs)
        self._begin(replace(row, goal=Goal.SOURCE, ended=Reason.NOT_PULLED, way_back=self.source))

    def _row_of(self, lrp: DesiredLrp, *, runs: bool) -> Migration:
        return Migration(
            PROCESS,
            GUID,
            Phase.BRIDGING if runs else Phase.PREPARED,
            lrp,
            rounds=1,
            run_id=f"run-{self.run}",
            started_at=self.bbs.now,
            entered_at=self.bbs.now,
            strategy=Strategy.BRIDGE if runs else Strategy.RECREATE,
            renews_login=self.renews_login and self.former in {None, pull_of(lrp)},
        )

    def _begin(self, row: Migration) -> None:
        self.has_run_from_copy = False
        if row.strategy is Strategy.BRIDGE:
            self.row = row
        else:
            self._remove_original(row, None, loses_answer=False)

    def world(self) -> World:
        """Observe the app."""
        has_bridge = self.row is not None and self.row.has_bridge
        return World(
            self.bbs.now,
            self.process_age,
            f"run-{self.run}",
            lrp=self.bbs.desired.get(PROCESS),
            instances=self.bbs.rows(PROCESS),
            bridge=self.bbs.desired.get(BRIDGE) if has_bridge else None,
            bridge_instances=self.bbs.rows(BRIDGE) if has_bridge else (),
            domain_is_fresh=True,
            may_bridge=self.may_bridge,
            drains_original=True,
            is_restore_requested=self.is_restore_requested,
            source=source_from_rootfs(self.source.rootfs) if self.knows_source else None,
            way_to_source=self.source if self.knows_source else None,
            copy=self.copy.rootfs,
            former_copies=frozenset({before.rootfs for before in (self.former,) if before is not None})
            - {self.copy.rootfs},
        )

    @property
    def knows_source(self) -> bool:
        """Whether the program knows another source than what the app ran from before."""
        return self.former is not None

    @property
    def target(self) -> Pull:
        """What the LRP is to run from."""
        assert self.row is not None
        is_restored = self.row.goal is Goal.SOURCE and self.row.way_back is None
        return self.source if is_restored else self.row.way_back or self.copy

    def _on_target(self, lrp: DesiredLrp) -> DesiredLrp:
        return replace(lrp, rootfs=self.target.rootfs, credentials=self.target.credentials)

    def next(self) -> Step | None:
        """Decide the next step."""
        if self.row is None:
            return None
        step = next_step(self.row, self.world(), target=self.target, limits=LIMITS)
        self.turns = 0 if isinstance(step, RetryLater) else self.turns + 1
        assert self.turns < 20, f"it goes round: {step}"
        return step

    def carry_out(self, step: Step | None, *, loses_answer: bool = False) -> None:  # noqa: C901, PLR0912 - one case each
        """Do what a step says."""
        match step:
            case Enter(row, _):
                self.row = row
            case DesireBridge(row, instances):
                lrp = replace(row.original, process_guid=BRIDGE, domain=BRIDGE_DOMAIN, instances=instances)
                self.bbs.desire(self._on_target(lrp))
            case UpdateBridge(_, wanted):
                self.bbs.update(BRIDGE, wanted.instances, wanted.routes)
            case RemoveOriginal(before):
                self._remove_original(before, self.row, loses_answer=loses_answer)
            case TurnBack(row, _):
                if row.phase in {Phase.REMOVED, Phase.BRIDGING}:
                    self.row = row
                else:
                    self._remove_original(row, self.row, loses_answer=loses_answer)
            case DesireOriginal(row):
                self._desire_original(row, loses_answer=loses_answer)
            case UpdateRoutes(row, routes):
                self.row = row
                self.bbs.update_routes(PROCESS, routes)
            case RetireInstances(instances, _, row):
                self.row = row
                for each in instances:
                    if (each.process_guid, each.index) in self.bbs.instances:
                        self.bbs.stop((each.process_guid, each.index))
            case RemoveBridge(row):
                self._remove_bridge(row)
            case Close(row, reason):
                self._close(row, reason)
            case RetryLater() | None:
                pass

    def _close(self, row: Migration, reason: Reason) -> None:
        self.row = None
        self.ends[reason] += 1
        if reason is Reason.MIGRATED:
            has_run = self.has_run_from_copy or self._runs_from_copy()
            assert has_run, "called cached although nothing ran from the copy"
            assert PROCESS in self.bbs.desired, "called cached, but it is gone"
            assert self._is_on_copy(), "called cached, but it is on its source"
        if reason is Reason.RESTORED and PROCESS in self.bbs.desired:
            before = {self.source, self.former}
            assert pull_of(self.bbs.desired[PROCESS]) in before, "called restored, but it is on the copy"
        if reason in FAILURES or reason is Reason.IMAGE_NOT_STARTED:
            self.is_proven = False
        assert BRIDGE not in self.bbs.desired
        del row

    def _runs_from_copy(self) -> bool:
        return any(self.bbs.runs(PROCESS, pull) for pull in self._copies())

    def _is_on_copy(self) -> bool:
        return pull_of(self.bbs.desired[PROCESS]) in self._copies()

    def _copies(self) -> set[Pull]:
        """What an app may be called cached on: its copy, also with the login that its droplet brings."""
        return {self.copy} if self.droplet_on_copy is None else {self.copy, self.droplet_on_copy}

    @property
    def droplet_on_copy(self) -> Pull | None:
        """What the owner may desire it from, or have desired it from, while its droplet names the copy."""
        return None

    def _remove_original(self, before: Migration, saved: Migration | None, *, loses_answer: bool) -> None:
        world = self.world()
        row = row_of_removal(before, world, LIMITS)
        if not may_remove(row, world):
            self.row = saved
            return
        self.row = row
        if loses_answer:
            self.has_crashed = False
            self.late_removal = True  # it may take effect at any time while it is unknown, or never
            return
        self.bbs.remove(PROCESS)
        self.row = replace(row, phase=Phase.REMOVED, entered_at=self.bbs.now, unknown_until=0.0)

    def _desire_original(self, row: Migration, *, loses_answer: bool) -> None:
        if PROCESS in self.bbs.desired:  # its owner was faster
            return
        self.bbs.desire(self._on_target(row.original))
        if not loses_answer:
            self.row = replace(row, phase=Phase.STARTING, entered_at=self.bbs.now)

    def _remove_bridge(self, row: Migration) -> None:
        own, bridged = (
            running(self.bbs.desired.get(PROCESS), self.bbs.rows(PROCESS)),
            self.bbs.serving(BRIDGE),
        )
        if PROCESS in self.bbs.desired and bridged and own < self.wanted:
            assert row.ended is Reason.NOT_HEALTHY or self.bbs.now - row.entered_at > LIMITS.start
            assert own >= bridged
            self.held = min(self.held, own)  # some of its instances do not start
        self.bbs.remove(BRIDGE)

    def removal_comes_late(self) -> None:
        """Let a removal whose answer was lost take effect while its row says that it may."""
        self.turns = 0
        self.late_removal = False
        if self.has_crashed:  # since the removal was decided: the cell took what it relied on
            self.held = min(self.held, self.bbs.serving(BRIDGE))
        row = self.row
        if row is not None and self.bbs.now < row.unknown_until and row.phase is Phase.REMOVING:
            self.bbs.remove(PROCESS)

    def die(self) -> None:
        """End, and start again."""
        self.turns = 0
        self.run += 1
        self.process_age = 0.0

    def time_passes(self, seconds: float) -> None:
        """Let time pass, and nothing else."""
        self.bbs.now += seconds
        self.process_age += seconds
        self.turns = 0

    def owner_scales(self, instances: int) -> None:
        """Scale the app, as its owner."""
        self.turns = 0
        if self.wanted == 0:
            return
        self.wanted = instances
        self.changes += 1
        if PROCESS in self.bbs.desired:
            self.bbs.update(PROCESS, instances, self.routes, self.annotation)
            # which instances go is the owner's doing; the bridge stands for the app's own, and adds none to them
            bridge = self.bbs.desired.get(BRIDGE)
            bridged = self.bbs.serving(BRIDGE) if bridge is not None and "cf-router" in bridge.routes else 0
            self.held = min(self.held, max(self.bbs.serving(PROCESS), bridged))
        else:
            self.owner_syncs()

    def owner_maps_a_route(self) -> None:
        """Map another route, as the app's owner."""
        self.turns = 0
        if self.wanted:
            self.changes += 1
            self.mapped = self.changes
            self.owner_syncs()

    @property
    def routes(self) -> dict[str, bytes]:
        """The routes that the owner wants."""
        return {"cf-router": str(self.mapped).encode(), "diego-ssh": b"{}"}

    @property
    def annotation(self) -> dict[str, str]:
        """What tells Cloud Controller which version of the app an LRP is; any field stands for it here."""
        return {"changes": str(self.changes)}

    @property
    def definition(self) -> DesiredLrp:
        """What the owner desires."""
        lrp = replace(LRP, instances=self.wanted, routes=self.routes, metric_tags=self.annotation)
        wanted = self.droplet or self.source
        return replace(lrp, rootfs=wanted.rootfs, credentials=wanted.credentials)

    def owner_syncs(self) -> None:
        """Desire what is missing, correct what is out of date, and remove what is deleted."""
        self.turns = 0
        lrp = self.bbs.desired.get(PROCESS)
        if lrp is None and self.wanted:
            self.bbs.desire(self.definition)
        elif lrp is not None and not self.wanted:
            self.bbs.remove(PROCESS)
        elif lrp is not None and lrp.metric_tags != self.annotation:
            self.bbs.update(PROCESS, self.wanted, self.routes, self.annotation)

    def owner_deletes(self) -> None:
        """Delete the app, as its owner."""
        self.turns = 0
        self.wanted = self.held = 0
        self.bbs.remove(PROCESS)

    def owner_starts_anew(self) -> None:
        """Stop and start the app under the same process GUID: it is desired from its source at once."""
        self.turns = 0
        if self.wanted:
            self.held = 0
            self.bbs.given_up |= {row.instance_guid for row in self.bbs.rows(PROCESS)} - {""}
            self.bbs.remove(PROCESS)
            self.bbs.desire(self.definition)

    def crash(self, key: Key) -> None:
        """Let a running instance end by itself."""
        self.turns = 0
        row = self.bbs.instances[key]
        if row.state is not RUNNING or key in self.bbs.stopping:
            return
        self.held = max(0, self.held - 1)
        self.has_crashed = True
        # What a bridge loses while the original has no routes is missing until these are given back.
        self.has_crashed_drained |= key[0] == BRIDGE and "cf-router" not in self.bbs.routes[PROCESS]
        self.bbs.crash(key, "APP/PROC/WEB: Exited with status 1")

    def look(self) -> None:
        """Check that the app serves what it must, and that no instance is stopped again and again."""
        own, bridged = self.bbs.serving(PROCESS), self.bbs.serving(BRIDGE)
        self.has_run_from_copy |= self._runs_from_copy()
        least = min(self.held, self.wanted)
        assert own + bridged >= least, f"{own} and {bridged} of {least}"
        routed = sum(
            self.bbs.serving(guid)
            for guid in (PROCESS, BRIDGE)
            if "cf-router" in self.bbs.routes.get(guid, {})
        )
        if "cf-router" in self.bbs.routes[PROCESS]:
            self.has_crashed_drained = False
        if not self.has_crashed_drained:
            assert routed >= least, f"{own} and {bridged}, of which routers know {routed}, of {least}"
        # Until the bridge serves them too, nobody can keep instances that start after their removal was sent.
        # What runs of a definition that was removed was to be stopped: the BBS stops it too.
        is_at_risk = (self.late_removal and bridged < own) or PROCESS not in self.bbs.desired
        kept = self.bbs.serving_by_right(PROCESS)
        self.held = least if is_at_risk else min(max(least, kept), self.wanted)

    def comes_to_rest(self) -> None:
        """With nobody to disturb it all comes to rest."""
        self.late_removal = self.is_restore_requested = self.bbs.loses_stops = False
        if self.is_source_gone:
            self.bbs.pulls |= {self.source: Pulls.FAIL} | dict.fromkeys(self._copies(), Pulls.WORK)
        else:
            self.bbs.pulls[self.source] = Pulls.WORK
        copy_works = self.bbs.pulls.get(self.copy, Pulls.WORK) is Pulls.WORK
        for n in range(300):
            self.is_proven = self.is_proven or copy_works
            if n == 100 and not copy_works:  # even pulls that hang come to an end
                self.bbs.pulls |= dict.fromkeys(self._copies(), Pulls.FAIL)
            self.bbs.progress()
            if n % 15 == 0:
                self.owner_syncs()
                self.bbs.converge()
            self.carry_out(self.next())
            self.look()
            self.time_passes(2.0)
            if n < 220:
                self.prepare()
            if n > 60 and self._is_at_rest(copy_works=copy_works):
                break
        self._check_rest(copy_works=copy_works)

    def _can_be_pulled(self) -> bool:
        """Whether cells can pull what the app is desired from."""
        lrp = self.bbs.desired.get(PROCESS)
        return lrp is not None and self.bbs.pulls.get(pull_of(lrp), Pulls.WORK) is Pulls.WORK

    def _is_at_rest(self, *, copy_works: bool) -> bool:
        try:
            self._check_rest(copy_works=copy_works)
        except AssertionError:
            return False
        return True

    def _is_kept_by_bridge(self, *, copy_works: bool) -> bool:
        """Whether some instances cannot be pulled, and the bridge serves for all until they can.

        However a migration was given up, it is where it belongs while the source of its app is gone. Then an
        instance from before serves too, whose stop was lost: there is nothing that could stand in for it.
        What its owner has reverted so often that it is left alone may be a copy that is gone.
        """
        ended = None if self.row is None else self.row.ended
        if self.is_source_gone:
            return ended is not None and self.bbs.serving(PROCESS, BRIDGE) >= self.wanted
        is_serving = self.bbs.serving(BRIDGE) >= self.wanted
        if ended is Reason.REVERTED_EXTERNALLY and self.row is not None and self.row.rounds >= MAX_ROUNDS:
            return is_serving and not self._can_be_pulled()
        return ended is Reason.NOT_HEALTHY and is_serving and not copy_works

    def _check_rest(self, *, copy_works: bool) -> None:
        if self._is_kept_by_bridge(copy_works=copy_works):
            return
        assert self.row is None, self.row
        assert BRIDGE not in self.bbs.desired
        assert not self.bbs.rows(BRIDGE)
        if self.wanted:
            assert self.bbs.desired[PROCESS].instances == self.wanted
            assert self.bbs.desired[PROCESS].routes == self.routes
            # Without a bridge what runs holds the rest there.
            is_stuck = not self.may_bridge and not self._can_be_pulled()
            assert self.bbs.serving(PROCESS) == self.wanted or (is_stuck and self.bbs.serving(PROCESS))
            if copy_works and self.may_bridge:
                allowed = {self.copy} if self.stores_logins else self._copies()
                assert pull_of(self.bbs.desired[PROCESS]) in allowed
