"""Retires instances of a definition that was removed."""

from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.errors import NotFound
from reconcile.instances import failure_of_pull, without_container
from reconcile.lrps import ActualLrp, Presence
from reconcile.observed import Observed
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY
from reconcile.steps import RetireInstances


async def retire(action: RetireInstances, observed: Observed, ports: ActionPorts) -> Outcome:
    """Retire instances, after the row was written."""
    if action.migration is not None:
        await ports.journal.save_migration(action.migration)
    for row in action.instances:
        await _retire_one(row, observed.now, ports)
    if without_container(action.instances):  # the BBS deletes their rows at once
        return Outcome(action.reason, retry_after=SHORTEST_RETRY)
    return Outcome(action.reason, "their stop requests were lost: retired", retry_after=LONGEST_RETRY)


async def retire_refused(observed: Observed, ports: ActionPorts) -> None:
    """Retire instances whose image cells could not pull; the BBS starts others at its next convergence.

    They are read anew: calls lie between the observation and now, and one that runs meanwhile is left alone.
    """
    for row in without_container(await ports.instances.list_actual_lrps(observed.process_guid)):
        if failure_of_pull([row]) is not None:
            await _retire_one(row, observed.now, ports)


async def _retire_one(instance: ActualLrp, now: float, ports: ActionPorts) -> None:
    """Retire an instance, unless an earlier request to stop it may still take effect."""
    is_due = ports.stops.is_due(instance, now, repeat_after=ports.limits.stop)
    if instance.presence is not Presence.ORDINARY or not is_due:
        return
    ports.stops.note(instance, now)
    try:
        await ports.instances.retire_actual_lrp(
            instance.process_guid, index=instance.index, domain=instance.domain
        )
    except NotFound:
        ports.stops.note_gone(instance)
