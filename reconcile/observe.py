"""Gathers what a decision about one process GUID rests on.

Everything is read anew on each pass; nothing is handed along from an event but the newest version
of an LRP that is gone from the BBS.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from reconcile.bridges import bridge_of, original_of
from reconcile.decide import source_of
from reconcile.errors import Invalid
from reconcile.lrps import ProcessGuid
from reconcile.observed import LeftBridge, Observed
from reconcile.ports import (
    BindingRecords,
    EventCache,
    ImageRecords,
    Instances,
    JobRecords,
    Journal,
    LrpRecords,
    Lrps,
    Mode,
    OperatorOverrides,
    OriginalSources,
)
from reconcile.records import Binding, Goal, Migration, Strategy


class Coverage(Protocol):
    """What was watched without a gap."""

    def is_current(self, binding: Binding) -> bool:
        """Whether no later staging of the binding's app can have been missed."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an observation comes from."""

    lrps: Lrps
    instances: Instances
    jobs: JobRecords
    bindings: BindingRecords
    images: ImageRecords
    journal: Journal
    original_sources: OriginalSources
    records: LrpRecords
    coverage: Coverage
    event_cache: EventCache
    mode: Mode
    overrides: OperatorOverrides


@dataclass(frozen=True, slots=True)
class PassContext:
    """When and by which process it is observed; see `Observed`."""

    now: float
    process_age: float
    run_id: str
    stale: frozenset[str] = frozenset()
    is_restoring: bool = False


async def observe(process_guid: ProcessGuid, sources: Sources, moment: PassContext) -> Observed:
    """Look at one process GUID: in the BBS, the store and the journal."""
    migration = await sources.journal.find_migration(process_guid)
    observed = Observed(
        process_guid,
        now=moment.now,
        process_age=moment.process_age,
        run_id=moment.run_id,
        stale=moment.stale,
        is_restoring=moment.is_restoring,
        order=sources.overrides.order_of(process_guid),
        is_paused=sources.overrides.is_paused,
        migration=migration,
        record=await sources.records.find_lrp(process_guid),
    )
    if migration is not None:
        return await observe_migrating(migration, observed, sources)
    lrp = await sources.lrps.find_desired_lrp(process_guid)
    observed = replace(
        observed, lrp=lrp, is_pinned=lrp is not None and sources.overrides.is_pinned(lrp.app_guid)
    )
    return await _observe_image(observed, sources)


async def observe_migrating(migration: Migration, observed: Observed, sources: Sources) -> Observed:
    """Look at an LRP that is being replaced, and at its bridge: its own instances last."""
    guid, bridge = migration.process_guid, bridge_of(migration.process_guid)
    has_bridge = migration.strategy is Strategy.BRIDGE
    is_way_back = migration.goal is Goal.SOURCE
    fresh = await sources.lrps.list_domains()
    return replace(
        observed,
        domain_is_fresh=migration.original.domain in fresh,
        original_source=await sources.original_sources.find_original_source(guid) if is_way_back else None,
        bridge=await sources.lrps.find_desired_lrp(bridge) if has_bridge else None,
        bridge_instances=await sources.instances.list_actual_lrps(bridge) if has_bridge else (),
        lrp=await sources.lrps.find_desired_lrp(guid),
        instances=await sources.instances.list_actual_lrps(guid),
        versions_in_events=sources.event_cache.versions(guid),
    )


async def observe_left_bridge(
    bridge: ProcessGuid, sources: Sources, *, domains: frozenset[str], process_age: float
) -> LeftBridge:
    """Look at a bridge that no migration seems to know of, and at the LRP that it stands in for."""
    guid = original_of(bridge)
    fresh = await sources.lrps.list_domains()
    return LeftBridge(
        bridge,
        process_age=process_age,
        is_in_use=await sources.journal.find_migration(guid) is not None,
        domains_are_fresh=domains <= fresh,
        bridge=await sources.lrps.find_desired_lrp(bridge),
        bridge_instances=await sources.instances.list_actual_lrps(bridge),
        lrp=await sources.lrps.find_desired_lrp(guid),
        instances=await sources.instances.list_actual_lrps(guid),
    )


async def _observe_image(observed: Observed, sources: Sources) -> Observed:
    lrp = observed.lrp
    if lrp is None or not lrp.rootfs.is_docker:
        return observed
    try:
        source = source_of(lrp)
    except Invalid:
        return observed
    is_way_back = observed.order is not None and observed.order.goal is Goal.SOURCE
    if observed.is_restoring or observed.stale or is_way_back:
        observed = replace(
            observed,
            original_source=await sources.original_sources.find_original_source(observed.process_guid),
            instances=await sources.instances.list_actual_lrps(observed.process_guid),
        )
    binding = await sources.bindings.find_newest_binding(lrp.app_guid, source)
    if binding is None:
        return observed
    job = await sources.jobs.find_job(binding.job_id)
    guid = None if job is None else job.cache_guid
    image = None if guid is None else await sources.images.find_image(guid)
    return replace(
        observed,
        binding=binding,
        binding_is_current=sources.coverage.is_current(binding),
        job=job,
        image=image,
        instances=observed.instances
        if image is None
        else await sources.instances.list_actual_lrps(observed.process_guid),
    )
