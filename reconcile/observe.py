"""Builds the observation that a decision about one process GUID rests on, for passes and for plans alike.

Everything is read anew for each observation. Nothing is handed along from an event but the newest version
of an LRP that is no longer desired.
"""

from dataclasses import replace

from reconcile.bindings import binding_to_keep
from reconcile.bridges import bridge_of, original_of
from reconcile.current_stagings import is_of, may_be_missed, was_resolved_since
from reconcile.droplet_sources import observe_droplet_source
from reconcile.facts import Facts, MigrationFacts, PassContext
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import DesiredLrp, ProcessGuid
from reconcile.migrations import Goal, Migration
from reconcile.observe_former import observe_former_copy
from reconcile.observed import Observed, OrphanedBridge
from reconcile.policy import UnseenStagings
from reconcile.references import ImageReference, source_from_rootfs
from reconcile.store_markers import StoreId, marked_stores


async def observe(process_guid: ProcessGuid, facts: Facts, context: PassContext) -> Observed:
    """Observe one process GUID: its journal row first, its instances last."""
    migration = await facts.records.find_migration(process_guid)
    observed = Observed(
        process_guid,
        now=context.now,
        process_age=context.process_age,
        run_id=context.run_id,
        stale=context.stale,
        is_restoring=context.is_restoring,
        stores_logins=context.stores_logins,
        order=facts.overrides.order_of(process_guid),
        is_paused=facts.overrides.is_paused,
        migration=migration,
        record=await facts.records.find_record(process_guid),
    )
    if migration is not None:
        is_pinned = facts.overrides.is_pinned(migration.original.app_guid)
        return await observe_migrating(migration, replace(observed, is_pinned=is_pinned), facts)
    lrp = await facts.lrps.find_desired_lrp(process_guid)
    if lrp is None:
        return observed
    observed = replace(observed, lrp=lrp, is_pinned=facts.overrides.is_pinned(lrp.app_guid))
    source = source_from_rootfs(lrp.rootfs)
    observed = await observe_former_copy(observed, lrp, facts, context)
    if observed.former_copy is not None:
        return replace(observed, instances=await facts.lrps.list_actual_lrps(process_guid))
    is_on_copy = source is not None and context.cache.covers(source)
    if is_on_copy or (source is not None and _may_go_back(observed)):
        original_source = await facts.records.find_original_source(process_guid)
        observed = replace(observed, original_source=original_source)
    guid = None if source is None else context.cache.guid_of(source)
    if guid is not None:
        observed = replace(observed, current_copy=await facts.records.find_image(guid))
        observed = await observe_droplet_source(observed, lrp, guid, facts, context)
    if source is not None and lrp.app_guid:  # what other LRPs without one brought is not its own
        observed = await _observe_copy(observed, lrp, source, facts)
    rests_on_instances = source is not None and _rests_on_instances(observed, context)
    if is_on_copy or rests_on_instances or facts.migrations is None:
        instances = await facts.lrps.list_actual_lrps(process_guid)
        observed = replace(observed, instances=instances)
    return observed


async def observe_migrating(migration: Migration, observed: Observed, facts: Facts) -> Observed:
    """Observe an LRP that is being migrated, and its bridge: the LRP's own instances last."""
    guid, bridge = migration.process_guid, bridge_of(migration.process_guid)
    if facts.migrations is None:
        return replace(
            observed,
            original_source=await facts.records.find_original_source(guid),
            lrp=await facts.lrps.find_desired_lrp(guid),
            instances=await facts.lrps.list_actual_lrps(guid),
        )
    has_bridge = migration.has_bridge
    fresh = await facts.migrations.list_domains()
    observed = replace(
        observed,
        domain_is_fresh=migration.original.domain in fresh,
        original_source=await facts.records.find_original_source(guid),
        bridge=await facts.lrps.find_desired_lrp(bridge) if has_bridge else None,
        bridge_instances=await facts.lrps.list_actual_lrps(bridge) if has_bridge else (),
        lrp=await facts.lrps.find_desired_lrp(guid),
        instances=await facts.lrps.list_actual_lrps(guid),
        versions_in_events=facts.migrations.versions(guid),
    )
    others = {each.instance_guid for each in observed.instances} - migration.instance_guids - {""}
    if observed.lrp is None and others:
        # Its owner may have desired it between the two calls: then these are no instances of the past.
        observed = replace(observed, lrp=await facts.lrps.find_desired_lrp(guid))
    return observed


async def observe_orphaned_bridge(
    bridge: ProcessGuid,
    facts: Facts,
    *,
    domains: frozenset[str],
    process_age: float,
    own_store: StoreId | None = None,
) -> OrphanedBridge:
    """Observe a bridge that no migration seems to know of, and the LRP that it is the bridge of.

    Args:
        bridge: Its process GUID.
        facts: Where it is looked up.
        domains: The domains of the LRPs that are migrated.
        process_age: Seconds since the BBS first answered this process.
        own_store: This daemon's store; its marker does not count as another's.
    """
    guid = original_of(bridge)
    fresh = await _for_passes(facts).list_domains()
    return OrphanedBridge(
        bridge,
        process_age=process_age,
        is_in_use=await facts.records.find_migration(guid) is not None,
        domains_are_fresh=domains <= fresh,
        may_be_of_other_store=bool(marked_stores(fresh) - {own_store}),
        bridge=await facts.lrps.find_desired_lrp(bridge),
        bridge_instances=await facts.lrps.list_actual_lrps(bridge),
        lrp=await facts.lrps.find_desired_lrp(guid),
        instances=await facts.lrps.list_actual_lrps(guid),
    )


def _for_passes(facts: Facts) -> MigrationFacts:
    if facts.migrations is None:
        raise AssertionError("a plan says nothing about bridges")
    return facts.migrations


async def _observe_copy(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, facts: Facts
) -> Observed:
    """Observe what the store knows of the copy of an LRP's image."""
    copy, is_current = await _find_copy(LrpKey(observed.process_guid, lrp.app_guid, source), facts)
    return replace(
        observed,
        binding=copy.binding,
        binding_is_current=is_current,
        job=copy.job,
        image=copy.image,
        newest=copy.newest,
    )


async def _find_copy(key: LrpKey, facts: Facts) -> tuple[KnownCopy, bool]:
    """Find the copy of an LRP's image, and say whether no later staging of it can have been missed.

    Where one may have been, Cloud Controller says which staging its app is started from. When that is an
    earlier one, as after a rollback, what was staged then is its image.
    """
    copy = await facts.records.find_copy(key)
    binding = copy.binding
    if binding is None:
        return copy, True
    is_current = facts.coverage.is_current(binding)
    if facts.stagings is None or not may_be_missed(key.process_guid, copy, is_current=is_current):
        return copy, is_current
    staging = await facts.stagings.find_current_staging(key.app_guid)
    if staging is None or not is_of(staging, binding):
        return copy, False
    if staging.requester == binding.requester:
        return copy, True
    if staging.requester:
        staged = await facts.records.find_copy(replace(key, staged_as=staging.requester))
        if staged.binding is not None:
            return staged, True
    return copy, was_resolved_since(staging, copy.job)


def _may_go_back(observed: Observed) -> bool:
    """Whether the LRP may be restored to its source."""
    return observed.is_restoring or (observed.order is not None and observed.order.goal is Goal.SOURCE)


def _rests_on_instances(observed: Observed, context: PassContext) -> bool:
    """Whether the next action depends on the LRP's instances: otherwise the BBS is not asked for them."""
    return (
        observed.image is not None
        or observed.newest is not None
        or _may_go_back(observed)
        or bool(observed.stale)
        or context.unseen_stagings is UnseenStagings.WAIT
        or binding_to_keep(observed) is not None
    )
