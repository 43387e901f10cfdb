"""Writes the phases of a migration to the journal, and notes what its end shows.

A copy from which instances crash needs verification; cells that cannot pull are not known to pull any more.
"""

from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.failure_spread import Cause
from reconcile.instances import met_pull_failure
from reconcile.lrps import ActualLrpState, organization_of
from reconcile.migrations import Goal, Migration
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.start_failures import StartFailure
from reconcile.steps import Enter

_SUSPECTS_COPY = frozenset(
    {
        Reason.BRIDGE_CRASHED,
        Reason.COPY_NOT_PULLED,
        Reason.NOT_STARTED,
        Reason.IMAGE_NOT_STARTED,
        Reason.PROCESS_EXITED,
    }
)
"""Ends that make a copy suspect: it is read back before another LRP is migrated to it."""


_ON_COPY = frozenset({Reason.MIGRATED, Reason.PROCESS_EXITED, Reason.NO_ROOM, Reason.NO_INSTANCES})
"""Ends at which the LRP is desired from its copy."""


async def enter(row: Migration, ports: ActionPorts) -> Outcome:
    """Write a row, and observe again at once."""
    await ports.journal.save_migration(row)
    return Outcome(row.phase.reason, retry_after=0.0, rounds=row.rounds)


async def enter_next(step: Enter, observed: Observed, ports: ActionPorts) -> Outcome:
    """Write the row of another phase, after what instances failed by was noted."""
    if step.failure is not None:
        await note_failure(step.migration, step.failure, observed, ports)
    return await enter(step.migration, ports)


async def close(row: Migration, reason: Reason, observed: Observed, ports: ActionPorts) -> Outcome:
    """End a migration: delete its row, once what it has shown is noted."""
    if reason in _SUSPECTS_COPY and row.goal is Goal.CACHE:
        await ports.images.mark_for_verification(row.cache_guid, observed.now)
    if reason is Reason.MIGRATED:
        await _note_starts(row, observed, ports)
    await ports.journal.delete_migration(row.process_guid, row.instance_guids)
    is_on_copy = reason in _ON_COPY
    return Outcome(
        reason,
        row.detail,
        retry_after=None if is_on_copy and observed.order is None else 0.0,
        cache_guid=row.cache_guid if is_on_copy else None,
        rounds=row.rounds - 1 if reason is Reason.CANCELLED else row.rounds,
        ended=row,
    )


async def _note_starts(row: Migration, observed: Observed, ports: ActionPorts) -> None:
    """Note the cells that run instances from the copy, and that another could not pull it."""
    tags = row.original.placement_tags
    for each in (*observed.instances, *observed.bridge_instances):
        is_new = each.instance_guid not in row.instance_guids
        if each.state is ActualLrpState.RUNNING and each.cell_id and is_new:
            ports.pulls.note_success(each.cell_id, tags)
    new = [each for each in observed.instances if each.instance_guid not in row.instance_guids]
    await note_failure(row, met_pull_failure(new), observed, ports)


async def note_failure(
    row: Migration, failure: StartFailure | None, observed: Observed, ports: ActionPorts
) -> None:
    """Note what a failed start from a copy speaks against: cells and registry, or the copy."""
    if failure is not None and failure.is_pull_failure:
        tags, app = row.original.placement_tags, row.original.app_guid
        cause = Cause(organization_of(row.original) or app, row.cache_guid)
        ports.pulls.note_failure("", tags, failure, cause=cause)  # a crashed row names no cell
    if row.ended in _SUSPECTS_COPY:
        await ports.images.mark_for_verification(row.cache_guid, observed.now)
