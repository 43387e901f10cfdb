"""Turns what was observed of one LRP into the next action, with its reason.

The decision is pure: the same observation gives the same action. This module decides which image is copied,
and which LRP is migrated, when and how; `reconcile.protocol` decides the steps of a migration that has begun.
"""

from dataclasses import replace

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.bridges import can_have_bridge
from reconcile.copy_choice import ChosenCopy, choose_copy, request_copy, why_not_moved
from reconcile.decide_on_copy import decide_on_copy, leave_failing_former, restore
from reconcile.errors import Invalid
from reconcile.instances import running, stale_instances
from reconcile.lrps import DesiredLrp, Pull, source_of
from reconcile.migration_choice import failed_lately, rounds_before, strategy_of
from reconcile.migrations import Goal, Migration
from reconcile.observed import Observed, OrphanedBridge, Rules
from reconcile.orders import Order
from reconcile.policy import refusal_of
from reconcile.protocol import MAX_ROUNDS, next_step
from reconcile.protocol.draining import kept_routes
from reconcile.reasons import Reason
from reconcile.records import CachedImage
from reconcile.references import ImageReference, Rootfs
from reconcile.staging import OwnerChoice, owner_choice_of
from reconcile.steps import RetireInstances


def decide(observed: Observed, rules: Rules) -> Action:
    """Decide the next step for one process GUID."""
    if observed.migration is not None:
        return _continue(observed.migration, observed, rules)
    lrp = observed.lrp
    if lrp is None:
        return Forget()
    ineligible = _ineligible(observed, lrp, rules)
    if ineligible is not None:
        return ineligible
    stale = stale_instances(observed.instances, observed.stale)
    if stale:
        return RetireInstances(stale, Reason.RETIRED_STALE_INSTANCES)
    source = observed.source
    if observed.order is not None:
        return _follow_order(observed, lrp, source, rules)
    if observed.is_paused and (observed.is_restoring or not rules.cache.covers(source)):
        return Skip(Reason.PAUSED)
    if observed.is_restoring:
        return leave_failing_former(observed, lrp, rules) or _fall_back(observed, lrp, source, rules)
    if observed.is_pinned and not rules.cache.covers(source):
        back = leave_failing_former(observed, lrp, rules)
        if back is not None:
            return back
        where = "" if observed.former_copy is None else f"; it runs from {observed.former_copy.registry}"
        return Skip(Reason.PINNED_TO_SOURCE, f"an operator restored the app to its source{where}")
    return _migrate(observed, lrp, source, rules)


def _fall_back(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    """Decide about an LRP while the private registry does not answer."""
    if rules.cache.covers(source):
        return restore(observed, lrp, rules)
    if observed.former_copy is not None:
        return Skip(Reason.RUNS_FROM_FORMER_REGISTRY, "the private registry does not answer")
    return Skip(Reason.FELL_BACK_TO_SOURCE, "LRPs go back to their sources")


def _follow_order(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    order = observed.order
    if order is None:
        raise AssertionError("there is an order to follow")
    is_on_copy = rules.cache.covers(source) or observed.former_copy is not None
    if order.goal is Goal.SOURCE and not is_on_copy:
        return Skip(Reason.RESTORED, "it runs from its source")
    if order.rootfs is not None and str(lrp.rootfs) != str(order.rootfs):  # a plan has no login in it
        if order.goal is Goal.CACHE and rules.cache.covers(source):
            return Skip(Reason.ALREADY_CACHED)
        return Skip(Reason.PLAN_IS_STALE, f"it is desired from {lrp.rootfs} now")
    if order.goal is Goal.SOURCE:
        return restore(observed, lrp, rules)
    return _migrate(observed, lrp, source, rules)


def _ineligible(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Skip | None:
    """Return the reason why an LRP cannot be migrated, whatever else is so; None when it can."""
    if not lrp.rootfs.is_docker:
        return Skip(Reason.NOT_DOCKER)
    if lrp.domain not in rules.domains:
        return Skip(Reason.OTHER_DOMAIN, lrp.domain)
    try:
        source_of(lrp)
    except Invalid as error:
        return Skip(Reason.NOT_CACHEABLE, error.detail)
    if not lrp.app_guid:
        return Skip(Reason.NO_APP_GUID, "without one it would share the copies of other apps")
    former = observed.former_copy
    if former is not None and not former.is_configured and observed.order is None:
        return why_not_moved(former, rules)
    return None


def _migrate(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    """Decide the next action on the way to the cached image.

    An LRP whose copy in a former registry cells cannot pull goes back to its source first, unless the way to
    its copy in the present one is free now.
    """
    if observed.former_copy is not None and (obstacle := why_not_moved(observed.former_copy, rules)):
        return obstacle
    action, back = _way_to_copy(observed, lrp, source, rules), leave_failing_former(observed, lrp, rules)
    if back is None:
        return action
    match action:
        case BeginMigration():
            return replace(action, instead=back)
        case CacheImage() | VerifyImage():
            return replace(back, otherwise=action)
        case _:
            return back


def _way_to_copy(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    owner_choice = owner_choice_of(lrp.action)
    if owner_choice is OwnerChoice.NONE and observed.binding is not None and observed.binding.opted_in:
        # The staging task asked for it, by a flag that an LRP does not have.
        owner_choice = OwnerChoice.OPT_IN
    refusal = refusal_of(rules.policy, image=source, owner_choice=owner_choice, cache=rules.cache)
    if refusal is Reason.ALREADY_CACHED:
        return decide_on_copy(observed, lrp, rules)
    if refusal is not None:
        return Skip(refusal)
    chosen = choose_copy(observed, lrp, rules)
    return _begin(observed, lrp, chosen, rules) if isinstance(chosen, ChosenCopy) else chosen


def decide_orphaned_bridge(orphan: OrphanedBridge, *, cloud_controller_sync: float) -> Action:
    """Decide about a bridge without an open migration.

    Its journal row was lost, or the BBS carried out a request to desire it after the migration had ended.
    """
    if orphan.bridge is None or orphan.is_in_use:
        return Forget()
    if orphan.may_be_of_other_store:
        return Skip(Reason.BRIDGE_OF_OTHER_STORE)
    bridged = running(orphan.bridge, orphan.bridge_instances)
    if orphan.lrp is not None:
        if orphan.lrp.routes == kept_routes(orphan.bridge.routes) != orphan.bridge.routes:
            return _route_original(orphan.bridge, orphan.lrp)
        if running(orphan.lrp, orphan.instances) >= min(orphan.lrp.instances, bridged):
            return RemoveOrphanedBridge(orphan.process_guid)
        return Skip(Reason.BRIDGE_IN_USE, "the app itself runs fewer instances than the bridge")
    if bridged == 0 or (orphan.domains_are_fresh and orphan.process_age > cloud_controller_sync):
        return RemoveOrphanedBridge(orphan.process_guid)  # its owner removed the app
    return Skip(Reason.BRIDGE_IN_USE, "the app itself is not desired")


def _route_original(bridge: DesiredLrp, lrp: DesiredLrp) -> Action:
    """Give an LRP the routes that were taken away for its removal, unless its owner has changed it since."""
    if bridge.annotation == lrp.annotation:
        return GiveRoutesBack(lrp.process_guid, bridge.routes)
    return Skip(Reason.BRIDGE_IN_USE, "the app itself has no routes, and its owner changed it: restart it")


def _begin(observed: Observed, lrp: DesiredLrp, chosen: ChosenCopy, rules: Rules) -> Action:
    image, order, rounds = chosen.image, observed.order, rounds_before(observed)
    failed = failed_lately(observed)
    if failed is not None:
        return failed
    if rounds >= MAX_ROUNDS:
        return Skip(Reason.REVERTED_EXTERNALLY, f"somebody else reverted {rounds} migrations")
    how = strategy_of(observed, lrp, observed.source, rules)
    if isinstance(how, Skip):
        return how
    if order is not None and not _is_expected(image, order, rules):
        return Skip(Reason.PLAN_IS_STALE, f"its image is {image.platform_digest} now")
    if image.missing_since:  # what is missing comes from the app's own source
        return request_copy(observed, lrp, Reason.COPY_VANISHED)
    if image.needs_verification_since:
        return VerifyImage(lrp, image)
    return BeginMigration(lrp, image, rounds + 1, strategy=how, reason=chosen.reason, detail=chosen.detail)


def _is_expected(image: CachedImage, order: Order, rules: Rules) -> bool:
    return order.platform_digest in {None, image.platform_digest} and order.to_rootfs in {
        None,
        rules.cache.rootfs(image.cache_guid),
    }


def _copy_of(migration: Migration, observed: Observed, rules: Rules) -> Rootfs:
    """Name the copy that an LRP is being migrated to.

    A migration that began before the private registry was replaced ends on the copy in the former one, if the
    LRP or its bridge is desired from there already.
    """
    desired = {each.rootfs for each in (observed.lrp, observed.bridge) if each is not None}
    begun = [former.rootfs(migration.cache_guid) for former in rules.cache.former]
    return next(
        (each for each in begun if each in desired and each != migration.original.rootfs),
        rules.cache.rootfs(migration.cache_guid),
    )


def _continue(migration: Migration, observed: Observed, rules: Rules) -> Action:
    if migration.way_back is not None:
        target = migration.way_back
    elif migration.goal is Goal.CACHE:
        target = Pull(_copy_of(migration, observed, rules), rules.pull_credentials)
    elif observed.original_source is not None:
        target = Pull(observed.original_source.rootfs, observed.original_source.credentials)
    else:
        raise AssertionError("the original source is known before an LRP is restored to it")
    may_bridge = rules.may_bridge and can_have_bridge(migration.process_guid)
    world = replace(
        observed.world,
        may_bridge=may_bridge,
        drains_original=rules.drains_original,
        copy=_copy_of(migration, observed, rules),
        former_copies=frozenset(each.rootfs(migration.cache_guid) for each in rules.cache.former),
    )
    step = next_step(migration, world, target=target, limits=rules.limits)
    return Continue(step, target)
