"""Carries out one action and returns its outcome.

Every step can be repeated, and a journal row is written before the effect that it names. An LRP is observed
once more directly before its removal: an instance that started or ended since the first observation prevents
the removal.
"""

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    UpdateLogin,
    VerifyImage,
)
from reconcile.apply.action_ports import ActionCopyRecords, ActionPorts, Outcome
from reconcile.apply.asking_source import why_not_at_source
from reconcile.apply.beginning import begin, verify_copy
from reconcile.apply.bridge_changes import change_bridge, clear_orphaned_bridge, update_routes
from reconcile.apply.journal_rows import close, enter_next
from reconcile.apply.login_updates import update_login
from reconcile.apply.replacing import desire_original, remove_original, turn_back
from reconcile.apply.retiring import retire
from reconcile.bindings import is_source_silent
from reconcile.facts import Facts
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    TurnBack,
    UpdateBridge,
    UpdateRoutes,
)

__all__ = ["ActionCopyRecords", "ActionPorts", "Outcome", "apply"]


async def apply(action: Action, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Carry out an action that was decided on an observation."""
    match action:
        case Skip(reason, detail, retry_after):
            return Outcome(reason, detail, retry_after)
        case Forget(reason):
            return Outcome(reason)
        case CacheImage(request):
            job = await ports.requests.request(request)
            # It may have joined a job whose source does not answer, and then need not wait for that.
            retry_after = 0.0 if is_source_silent(job) and not observed.is_paused else None
            detail = f"requested a copy: {request.reason}, job {job.job_id}"
            return Outcome(Reason.WAITING_FOR_COPY, detail, retry_after=retry_after)
        case VerifyImage():
            return await verify_copy(action, observed, ports)
        case BeginMigration():
            return await _begin(action, observed, facts, ports)
        case UpdateLogin():
            return await update_login(action, observed, ports)
        case RetireInstances():
            return await retire(action, observed, ports)
        case RemoveOrphanedBridge() | GiveRoutesBack():
            return await clear_orphaned_bridge(action, ports)
        case Continue():
            return await _continue(action, observed, facts, ports)


async def _begin(action: BeginMigration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Begin a migration, once its source is known to have the image where that is to be asked first."""
    stays = await why_not_at_source(observed, ports) if action.asks_source else None
    if stays is None:
        return await begin(action, observed, facts, ports)
    return stays if action.otherwise is None else await apply(action.otherwise, observed, facts, ports)


async def _continue(action: Continue, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    match action.step:
        case RetryLater(reason, seconds):
            return Outcome(reason, retry_after=seconds)
        case Enter():
            return await enter_next(action.step, observed, ports)
        case DesireBridge() | UpdateBridge() | RemoveBridge() as step:
            return await change_bridge(step, action.target, ports)
        case UpdateRoutes():
            return await update_routes(action.step, ports)
        case RemoveOriginal(row):
            return await remove_original(row, observed, facts, ports)
        case TurnBack():
            return await turn_back(action.step, observed, facts, ports)
        case DesireOriginal(row):
            return await desire_original(row, action.target, observed, ports)
        case RetireInstances():
            return await retire(action.step, observed, ports)
        case Close(row, reason):
            return await close(row, reason, observed, ports)
