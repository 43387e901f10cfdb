"""A migration whose next step is decided: its row, what was observed, where it leads, and its limits."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconcile.instances import (
    failure_of_pull,
    is_any_running,
    left_over,
    needed,
    running,
    serving_indices,
    stale_instances,
)
from reconcile.lrps import ActualLrp, DesiredLrp, Pull
from reconcile.migrations import Goal, Migration, Phase
from reconcile.reasons import Reason
from reconcile.references import source_from_rootfs
from reconcile.start_failures import Blame, StartFailure
from reconcile.steps import Enter, PhaseLimits, RetireInstances, RetryLater, Step, TurnBack, World

MAX_ROUNDS = 3
"""Migrations of one LRP that somebody else may revert, before it is skipped."""

SHORTEST_RETRY = 0.25
"""Seconds until the first retry of a wait; later retries are farther apart."""

LONGEST_RETRY = 5.0
"""Seconds between two retries of a wait at most."""

SSH_ROUTE = "diego-ssh"
"""The key of the route that leads to single instances and not to the app: it stays in a drained bridge."""

KEEPS_OLD_ROOTFS = frozenset({Reason.REVERTED_EXTERNALLY, Reason.BBS_REFUSED_DEFINITION})
"""Ends after which the LRP is desired from its old rootfs, although it was removed once."""

_ENDS_BY_BLAME = {
    Blame.REGISTRY: Reason.NOT_PULLED,
    Blame.COPY: Reason.COPY_NOT_PULLED,
    Blame.IMAGE: Reason.IMAGE_NOT_STARTED,
    Blame.PROCESS: Reason.IMAGE_NOT_STARTED,
}
"""How a migration ends whose LRP cannot be started from its copy; other failures turn none back."""

TURNED_BACK = frozenset({*_ENDS_BY_BLAME.values(), Reason.NOT_STARTED})
"""Ends after which the LRP is desired from its source again, since it did not start from its copy."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the next step of a migration is decided from.

    Attributes:
        row: The migration as it is in the journal.
        world: What was observed; the original has the routes that its owner wants, even while it is drained.
        target: What the LRP is to run from.
        limits: How long phases may take.
        is_drained: Whether the original lacks the routes that the daemon took away.
    """

    row: Migration
    world: World
    target: Pull
    limits: PhaseLimits
    is_drained: bool = False

    @property
    def waited(self) -> float:
        """Seconds since the phase began."""
        return self.world.now - (self.row.entered_at or self.row.started_at)

    @property
    def waited_for_start(self) -> float:
        """Seconds in which the LRP's instances could start: since the phase began, or old ones were retired.

        An index whose old instance was retired gets a new one at the BBS's next convergence.
        """
        return min(self.waited, self.world.now - self.row.retired_at)

    @property
    def is_unknown(self) -> bool:
        """Whether a removal whose answer was lost may still take effect."""
        return self.world.now < self.row.unknown_until

    @property
    def may_be_ours(self) -> bool:
        """Whether this program, and not its owner, may have removed an LRP that was desired again.

        The removal may be one whose answer was lost, or one that the formerly active process sent.
        """
        is_new_here = self.row.run_id != self.world.run_id and self.world.process_age < self.limits.unknown
        return self.is_unknown or is_new_here

    @property
    def success(self) -> Reason:
        """How the migration ends when all goes well."""
        return Reason.MIGRATED if self.row.goal is Goal.CACHE else Reason.RESTORED

    def is_on_target(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP is desired from what the migration leads to, with the login that it brings.

        The source will do for one that is turned back, since its owner wants it there.
        """
        if self.row.is_turned_back and self.row.has_bridge and self.is_on_source(lrp):
            return True
        is_there = lrp.rootfs == self.target.rootfs
        return is_there and (not self.row.renews_login or lrp.credentials == self.target.credentials)

    def is_on_source(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP is desired from its source, which its owner wants, whatever it ran from before."""
        return self.world.source is not None and source_from_rootfs(lrp.rootfs) == self.world.source

    def is_on_copy(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP is desired from the copy that the migration is about, with whatever login."""
        return lrp.rootfs == self.world.copy

    def is_on_former_copy(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP is desired from the same copy in a former registry."""
        return lrp.rootfs in self.world.former_copies

    def is_as_before(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP is desired from what it ran from before."""
        is_there = lrp.rootfs == self.row.original.rootfs
        return is_there and not (self.row.renews_login and self.is_on_target(lrp))

    def is_from_droplet(self, lrp: DesiredLrp) -> bool:
        """Whether the owner, and not this program, desired an LRP from the copy, which its droplet names.

        The login tells, which is that of the source then. It tells nothing where neither has one.
        """
        is_to_copy = self.row.goal is Goal.CACHE and self.is_on_target(lrp)
        return is_to_copy and not self.row.renews_login and lrp.credentials != self.target.credentials

    @property
    def is_bridge_ahead(self) -> bool:
        """Whether the bridge serves more than the LRP, which cannot catch up: cells cannot pull it.

        An LRP that is where it is to go may catch up yet, if some of it runs.
        """
        world, lrp = self.world, self.world.lrp
        if lrp is None or failure_of_pull(world.instances) is None:
            return False
        if self.is_on_target(lrp) and is_any_running(world.instances):
            return False
        serving = running(lrp, world.instances, self.row.instance_guids)
        return running(world.bridge, world.bridge_instances) > serving

    @property
    def is_to_be_restored(self) -> bool:
        """Whether an operator wants the LRP on its source, and the migration would be in the way.

        A migration that only brings another login ends first: it does not know the way to the source.
        """
        return self.world.is_restore_requested and not self.row.renews_login

    @property
    def old_instances(self) -> tuple[ActualLrp, ...]:
        """The LRP's instances from before the removal that are not stopped yet."""
        return left_over(self.world.instances, self.row.instance_guids)

    def enter(self, phase: Phase, *, ended: Reason | None = None, rounds: int | None = None) -> Enter:
        """Enter another phase; without `ended`, a migration that was turned back keeps its end."""
        row = replace(
            self.row,
            phase=phase,
            entered_at=self.world.now,
            ended=ended or (self.row.ended if self.row.is_turned_back else None),
            rounds=self.row.rounds if rounds is None else rounds,
            drained_at=0.0,
        )
        return Enter(row)

    def start_from_droplet(self) -> Enter:
        """Wait until an LRP runs that its owner has desired from the copy.

        What has a cell in this moment may be of what the owner removed before, and its stop may be lost:
        nothing is known to have started since.
        """
        before = {each.instance_guid for each in self.world.instances} - {""}
        row = replace(self.row, instance_guids=self.row.instance_guids | before)
        return replace(self, row=row).enter(Phase.STARTING)

    def with_original(self, lrp: DesiredLrp) -> Migration:
        """Continue with another definition of the original, which its owner desired: it has all its routes.

        If it names the source now, the LRP is migrated to its copy, and does not only get another login.
        """
        routed_at = self.world.now if self.row.drain_sent_at else 0.0
        renews_login = self.row.renews_login and not self.is_on_source(lrp)
        return replace(self.row, original=lrp, routed_at=routed_at, renews_login=renews_login)

    def wait(self, reason: Reason, at_most: float = LONGEST_RETRY) -> RetryLater:
        """Wait, the longer the longer the phase has lasted."""
        return RetryLater(reason, min(at_most, LONGEST_RETRY, max(SHORTEST_RETRY, self.waited / 10)))

    def give_up(self, reason: Reason, failure: StartFailure | None = None) -> Enter:
        """End the migration after its bridge is removed."""
        is_of_copy = self.row.goal is Goal.CACHE
        row = replace(self.row, detail="" if failure is None else failure.detail)
        entered = replace(self, row=row).enter(Phase.REMOVING_BRIDGE, ended=reason)
        return replace(entered, failure=failure if is_of_copy else None)

    def retire(
        self, instances: Iterable[ActualLrp], reason: Reason = Reason.INSTANCES_STOPPING
    ) -> Step | None:
        """Retire instances whose stop was lost; None while an earlier stop may still arrive.

        Source: cloudfoundry/bbs controllers/actual_lrp_lifecycle_controller.go. Each request makes an event
        before it reaches the cell, so requests that follow events would never end.
        """
        since = max(self.row.entered_at or self.row.started_at, self.row.retired_at)
        chosen = tuple(instances)
        if not chosen or self.world.now - since <= self.limits.stop:
            return None
        return RetireInstances(chosen, reason, replace(self.row, retired_at=self.world.now))

    def retire_stale(self, lrp: DesiredLrp) -> Step | None:
        """Retire instances of the removed definition that still run, if the bridge serves in their place."""
        stale = stale_instances(self.world.instances, self.row.instance_guids)
        if self.row.is_turned_back:
            return self.retire(self._replaceable(lrp, stale))
        if needed(lrp, self.world.instances) > running(self.world.bridge, self.world.bridge_instances):
            return None
        return self.retire(stale)

    def _replaceable(self, lrp: DesiredLrp, stale: tuple[ActualLrp, ...]) -> tuple[ActualLrp, ...]:
        """Choose as many stale instances of an LRP that is back on its source as its bridge can stand in for.

        The bridge may never have as many as the LRP: what crashed of it is not started again when the copy
        cannot be pulled. Each of its instances stands in for one, or for one that does not run anyway. It
        stands in for none when it is drained. The LRP is not removed again, so what is retired comes back.
        """
        world = self.world
        renewed = serving_indices(lrp, world.instances, self.row.instance_guids)
        surplus = [each for each in stale if each.index in renewed or each.index >= lrp.instances]
        serving = [each for each in stale if each not in surplus]
        is_drained = world.bridge is not None and world.bridge.routes != lrp.routes
        bridged = 0 if is_drained else running(world.bridge, world.bridge_instances)
        count = max(0, bridged - (lrp.instances - needed(lrp, world.instances)))
        return (*surplus, *serving[:count])

    def turn_back(self, failure: StartFailure | None, *, ended: Reason | None = None) -> Step | None:
        """Bring the LRP back to its source; None when it would not be better there, or cannot be removed now.

        Args:
            failure: What its instances failed by.
            ended: How the migration ends; by default as the failure says.
        """
        reason = ended or (None if failure is None else _ENDS_BY_BLAME.get(failure.blame))
        if self.row.goal is Goal.SOURCE or reason is None:
            return None
        lrp, original = self.world.lrp, self.row.original
        row = replace(
            self.row,
            goal=Goal.SOURCE,
            phase=Phase.REMOVED if lrp is None else self.row.phase,
            original=original if lrp is None else lrp,
            ended=reason,
            detail="" if failure is None else failure.detail,
            way_back=Pull(original.rootfs, original.credentials),
        )
        if lrp is not None and not may_remove(row, self.world):  # what runs needs a bridge from the source
            if not self.world.may_bridge:
                return None
            row = replace(row, phase=Phase.BRIDGING, entered_at=self.world.now, is_stopgap=True)
        return TurnBack(row, failure)


def is_like(bridge: DesiredLrp, lrp: DesiredLrp) -> bool:
    """Whether a bridge serves as many instances as its LRP's owner wants, by the same routes."""
    return bridge.instances >= lrp.instances and bridge.routes == lrp.routes


def may_remove(row: Migration, world: World) -> bool:
    """Whether the app loses no instance when the original is removed now."""
    if world.lrp is None or world.lrp.rootfs != row.original.rootfs:
        return False
    if not row.has_bridge:
        return not is_any_running(world.instances)  # whatever it runs from, it may be all that serves
    least = needed(world.lrp, world.instances)
    if not row.is_turned_back:
        least = max(1, least)  # the bridge shows too that cells can start the copy
    return running(world.bridge, world.bridge_instances) >= least


def may_remove_bridge(row: Migration, world: World, *, is_late: bool) -> bool:
    """Whether the app serves no less when the bridge is removed now.

    Args:
        row: The migration.
        world: What was observed.
        is_late: Whether the LRP's own instances had their time to start. Then an LRP that serves no less than
            its bridge is no longer waited for: some of its instances fail by themselves.
    """
    if world.lrp is None:
        return True
    serving = running(world.lrp, world.instances, row.instance_guids)
    bridged = running(world.bridge, world.bridge_instances)
    return serving >= world.lrp.instances or (serving >= bridged and (is_late or bridged == 0))
