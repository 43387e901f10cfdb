"""Turns what was observed of one LRP into the next action, with its reason.

Pure: the same observation gives the same actions. How a migration that was begun goes on is the
neighbour's (`protocol`); here it is decided what is cached, and which LRP is moved, when and how.
"""

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.bridges import can_have_bridge
from reconcile.errors import Invalid
from reconcile.images import ImageReference, image_from_rootfs
from reconcile.lrps import DesiredLrp, Pull, source_of
from reconcile.observed import Observed, OrphanedBridge, Rules
from reconcile.orders import Order
from reconcile.policy import MigrateRunning, refusal_of
from reconcile.protocol import (
    FAILURES,
    MAX_ROUNDS,
    is_any_running,
    needed,
    next_step,
    running,
    stale_instances,
)
from reconcile.reasons import Reason
from reconcile.records import (
    CachedImage,
    CacheRequest,
    Goal,
    JobState,
    Migration,
    Strategy,
    requester_of_lrp,
)
from reconcile.staging import Signal, signal_of
from reconcile.steps import RetireInstances

ROUNDS_FORGOTTEN_AFTER = 3600.0
"""Seconds without a migration after which earlier rounds no longer count."""

_NOT_AT_ONCE = FAILURES | {Reason.COPY_CORRUPT}

RETRY_FAILED_AFTER = 3600.0
"""Seconds after which a failed copy is asked for again."""


def decide(observed: Observed, rules: Rules) -> Action:
    """Decide the next step for one process GUID."""
    if observed.migration is not None:
        return _go_on(observed.migration, observed, rules)
    lrp = observed.lrp
    if lrp is None:
        return Forget()
    foreign = _not_ours(lrp, rules)
    if foreign is not None:
        return foreign
    stale = stale_instances(observed.instances, observed.stale)
    if stale:
        return RetireInstances(stale, Reason.RETIRED_STALE_INSTANCES)
    source = source_of(lrp)
    if observed.order is not None:
        return _follow_order(observed, lrp, source, rules)
    if observed.is_paused and (observed.is_restoring or not rules.cache.holds(source)):
        return Skip(Reason.PAUSED)
    if observed.is_restoring:
        if rules.cache.holds(source):
            return _restore(observed, lrp, rules)
        return Skip(Reason.FELL_BACK_TO_SOURCE, "LRPs are moved back to their sources")
    if observed.is_pinned and not rules.cache.holds(source):
        return Skip(Reason.PINNED_TO_SOURCE, "an operator put its app back on its source")
    return _move(observed, lrp, source, rules)


def _follow_order(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    order = observed.order
    if order is None:
        raise AssertionError("there is an order to follow")
    if order.goal is Goal.SOURCE and not rules.cache.holds(source):
        return Skip(Reason.RESTORED, "it runs from its source")
    if order.rootfs is not None and str(lrp.rootfs) != str(order.rootfs):  # a plan has no login in it
        if order.goal is Goal.CACHE and rules.cache.holds(source):
            return Skip(Reason.ALREADY_CACHED)
        return Skip(Reason.PLAN_IS_STALE, f"it is desired from {lrp.rootfs} by now")
    if order.goal is Goal.SOURCE:
        return _restore(observed, lrp, rules)
    return _move(observed, lrp, source, rules)


def _not_ours(lrp: DesiredLrp, rules: Rules) -> Skip | None:
    """Give the reason why an LRP cannot be moved whatever happens; None when it may be."""
    if not lrp.rootfs.is_docker:
        return Skip(Reason.NOT_DOCKER)
    if lrp.domain not in rules.domains:
        return Skip(Reason.OTHER_DOMAIN, lrp.domain)
    try:
        source_of(lrp)
    except Invalid as error:
        return Skip(Reason.NOT_CACHEABLE, error.detail)
    if not lrp.app_guid:
        return Skip(Reason.NO_APP_GUID, "without one it would share what other apps' stagings brought")
    return None


def _move(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    """Decide what brings an LRP to its cached image."""
    signal = signal_of(lrp.action)
    if signal is Signal.NONE and observed.binding is not None and observed.binding.opted_in:
        signal = Signal.OPT_IN  # the staging asked for it, by a flag that an LRP does not show
    refusal = refusal_of(rules.policy, image=source, signal=signal, cache=rules.cache)
    if refusal is not None:
        return Skip(refusal)
    return _get_image(observed, lrp, source, rules) or _replace(observed, lrp, source, rules)


def decide_orphaned_bridge(left: OrphanedBridge, *, cloud_controller_sync: float) -> Action:
    """Decide about a bridge that no migration knows of: its record was lost, or it came late."""
    if left.bridge is None or left.is_in_use:
        return Forget()
    bridged = running(left.bridge, left.bridge_instances)
    if left.lrp is not None:
        if running(left.lrp, left.instances) >= min(left.lrp.instances, bridged):
            return RemoveOrphanedBridge(left.process_guid)
        return Skip(Reason.BRIDGE_IN_USE, "fewer instances of the app itself run")
    if bridged == 0 or (left.domains_are_fresh and left.process_age > cloud_controller_sync):
        return RemoveOrphanedBridge(left.process_guid)  # its owner removed the app
    return Skip(Reason.BRIDGE_IN_USE, "the app itself is not desired")


def _restore(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action:
    original_source = observed.original_source
    if original_source is None:
        return Skip(Reason.SOURCE_UNKNOWN, "it was not moved here by this program, or its record is gone")
    if original_source.needs_credentials and original_source.credentials is None:
        return Skip(Reason.SOURCE_CREDENTIALS_UNKNOWN, "they are kept only with a journal key")
    how = _strategy(observed, lrp, image_from_rootfs(original_source.rootfs).canonical(), rules)
    if isinstance(how, Skip):
        return how
    reason = Reason.REGISTRY_UNREACHABLE if observed.order is None else Reason.RESTORE_REQUESTED
    return BeginMigration(lrp, None, 1, Goal.SOURCE, how, reason=reason)


def _strategy(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Strategy | Skip:
    """Choose how an LRP may be moved now."""
    how = due_strategy(observed, lrp, source, rules)
    if observed.order is None or isinstance(how, Skip) or observed.order.strategy in {None, how}:
        return how
    return Skip(Reason.PLAN_IS_STALE, f"it would be moved by {how} now, not by {observed.order.strategy}")


def due_strategy(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules
) -> Strategy | Skip:
    """Choose how an LRP may be moved now, whatever an order says."""
    if not is_any_running(observed.instances):
        return Strategy.RECREATE
    if rules.running.of(lrp, source) is MigrateRunning.NEVER:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "migrate_running is never")
    if not rules.may_bridge:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "moving it while it runs needs journal_key_file")
    if not can_have_bridge(lrp.process_guid):
        return Skip(Reason.WAITING_UNTIL_STOPPED, "its process GUID is too long to name a bridge after it")
    if needed(lrp, observed.instances) == 0:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "its last instances are being stopped")
    return Strategy.BRIDGE


def _get_image(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action | None:
    """Decide what is missing before the LRP can run from a copy; None when nothing is."""
    job, record = observed.job, observed.record
    if observed.binding is None or job is None:
        return _ask(observed, lrp, source, Reason.NOT_CACHED)
    if job.state is JobState.FAILED:
        if not _counts(observed, job.updated_at, for_seconds=RETRY_FAILED_AFTER):
            return _ask(observed, lrp, source, Reason.RETRYING_COPY)
        return Skip(Reason.COPY_FAILED, job.failure)
    if job.state is not JobState.CACHED:
        if observed.order is not None and observed.is_paused:  # a job that nobody ordered waits
            return _ask(observed, lrp, source, Reason.WAITING_FOR_COPY)
        return Skip(Reason.WAITING_FOR_COPY, job.failure)
    if observed.image is None:
        return _ask(observed, lrp, source, Reason.COPY_RECORD_MISSING)
    how = _strategy(observed, lrp, source, rules)
    if isinstance(how, Skip):  # it would not be moved now: its source registry is not asked for it
        return how
    is_used = record is not None and record.cache_guid == job.cache_guid
    if not observed.binding_is_current and not is_used:
        return _ask(observed, lrp, source, Reason.STAGING_MAY_HAVE_BEEN_MISSED)
    return None


def _counts(observed: Observed, at: float, *, for_seconds: float) -> bool:
    """Whether what happened at a time still speaks against trying again; an order makes it forgotten."""
    if observed.order is not None and at < observed.order.since:
        return False
    return observed.now - at <= for_seconds


def _ask(observed: Observed, lrp: DesiredLrp, source: ImageReference, reason: Reason) -> CacheImage | Skip:
    if observed.order is not None and observed.order.only_cached:
        return Skip(reason, "no copy was to be asked for")
    return CacheImage(request_of_lrp(observed, lrp, source, reason=reason))


def request_of_lrp(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, *, reason: Reason
) -> CacheRequest:
    """Ask for an LRP's image; the answer will stand beside the binding that was observed."""
    confirmed = observed.binding
    return CacheRequest(
        app_guid=lrp.app_guid,
        source=source,
        requester=requester_of_lrp(lrp.process_guid),
        staged_at=0 if confirmed is None else confirmed.staged_at,
        reason=reason,
        credentials=lrp.credentials,
        opted_in=confirmed is not None and confirmed.opted_in,
        is_ordered=observed.order is not None,
    )


def _replace(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    record, image, order = observed.record, observed.image, observed.order
    rounds = 0
    if record is not None:
        at = record.updated_at
        if record.reason in _NOT_AT_ONCE and _counts(observed, at, for_seconds=RETRY_FAILED_AFTER):
            return Skip(record.reason, record.detail)
        rounds = record.rounds if _counts(observed, at, for_seconds=ROUNDS_FORGOTTEN_AFTER) else 0
    if rounds >= MAX_ROUNDS:
        return Skip(Reason.REVERTED_EXTERNALLY, f"somebody undid {rounds} migrations")
    how = _strategy(observed, lrp, source, rules)
    if image is None or isinstance(how, Skip):
        raise AssertionError("an LRP is replaced only when its copy is known and it may be moved")
    if order is not None and not _is_expected(image, order, rules):
        return Skip(Reason.PLAN_IS_STALE, f"its image is {image.platform_digest} by now")
    if image.needs_verification_since:
        return VerifyImage(lrp, image)
    return BeginMigration(lrp, image, rounds + 1, strategy=how)


def _is_expected(image: CachedImage, order: Order, rules: Rules) -> bool:
    return order.platform_digest in {None, image.platform_digest} and order.to_rootfs in {
        None,
        rules.cache.rootfs(image.cache_guid),
    }


def _go_on(migration: Migration, observed: Observed, rules: Rules) -> Action:
    if migration.goal is Goal.CACHE:
        target = Pull(rules.cache.rootfs(migration.cache_guid), rules.pull_credentials)
    elif observed.original_source is not None:
        target = Pull(observed.original_source.rootfs, observed.original_source.credentials)
    else:
        raise AssertionError("the way back is known before it is taken")
    step = next_step(migration, observed.world, target=target, limits=rules.limits)
    return Continue(step, target)
