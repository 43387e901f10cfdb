"""Removes the original and desires it again, or cancels that."""

from dataclasses import replace

from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.apply.journal_rows import enter, note_failure
from reconcile.errors import Conflict, Invalid, NotFound, Unavailable
from reconcile.facts import Facts
from reconcile.lrps import Pull
from reconcile.migrations import Migration, Phase
from reconcile.observe import observe_migrating
from reconcile.observed import Observed
from reconcile.protocol import may_remove, row_of_removal
from reconcile.reasons import Reason
from reconcile.steps import TurnBack


async def remove_original(before: Migration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Remove the original, after its row was written and it was observed once more."""
    guid = before.process_guid
    row = row_of_removal(before, observed.world, ports.limits)
    await ports.journal.save_migration(row)
    seen = await observe_migrating(row, observed, facts)
    if not may_remove(row, seen.world):
        return await _cancel(before, Reason.INSTANCES_CHANGED, observed, ports)
    newest = row_of_removal(before, seen.world, ports.limits)
    if newest != row:  # it was scaled, has other routes or other instances now
        row = newest
        await ports.journal.save_migration(row)
    try:
        await ports.lrps.remove_desired_lrp(guid)
    except NotFound:
        # Its owner removed it since the last observation: it must not be desired again.
        return await _cancel(before, Reason.REMOVED_BY_OWNER, observed, ports)
    except Unavailable as error:
        if error.may_have_happened:
            return Outcome(Reason.REMOVAL_UNCONFIRMED, str(error), retry_after=0.0, rounds=row.rounds)
        await _cancel(before, Reason.NOT_REMOVED, observed, ports)
        raise
    return await enter(replace(row, phase=Phase.REMOVED, unknown_until=0.0), ports)


async def _cancel(
    row: Migration, reason: Reason, observed: Observed, ports: ActionPorts, *, detail: str = ""
) -> Outcome:
    """Cancel a removal: go back to the row from before, or end a migration that has just begun."""
    before = observed.migration
    if before is not None and reason is not Reason.BBS_REFUSED_DEFINITION:
        await ports.journal.save_migration(before)
        return Outcome(reason, detail, retry_after=0.0, rounds=row.rounds)
    await ports.journal.delete_migration(row.process_guid, row.instance_guids)
    rounds = row.rounds if reason is Reason.BBS_REFUSED_DEFINITION else row.rounds - 1  # nobody reverted it
    return Outcome(reason, detail, retry_after=0.0, rounds=rounds, ended=row)


async def turn_back(step: TurnBack, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Write the row of an LRP that goes back to what it ran from, and take the first step."""
    row = step.migration
    await note_failure(row, step.failure, observed, ports)
    if row.phase in {Phase.REMOVED, Phase.BRIDGING}:
        return await enter(row, ports)
    return await remove_original(row, observed, facts, ports)


async def desire_original(row: Migration, target: Pull, observed: Observed, ports: ActionPorts) -> Outcome:
    """Desire the LRP that was removed from what it is migrated to."""
    original = row.original
    try:
        await ports.lrps.desire_lrp(original, target.rootfs, target.credentials)
    except Conflict:
        return Outcome(Reason.CHANGED_BY_CLOUD_CONTROLLER, retry_after=0.0, rounds=row.rounds)
    except Invalid as refusal:
        # The BBS accepted the old definition before: desire it again rather than lose the LRP.
        await ports.lrps.desire_lrp(original, original.rootfs, original.credentials)
        if not row.has_bridge:
            return await _cancel(row, Reason.BBS_REFUSED_DEFINITION, observed, ports, detail=refusal.detail)
        return await enter(
            replace(row, phase=Phase.STARTING, ended=Reason.BBS_REFUSED_DEFINITION, entered_at=observed.now),
            ports,
        )
    # An LRP that is missing from now on was removed by its owner, however soon.
    await ports.journal.save_migration(replace(row, phase=Phase.STARTING, entered_at=observed.now))
    return Outcome(Reason.DESIRE_UNCONFIRMED, retry_after=0.0, rounds=row.rounds)
