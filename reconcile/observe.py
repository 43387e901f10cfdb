"""Gathers what a decision about one process GUID rests on.

Everything is read anew on each pass; nothing is handed along from an event but the newest version
of an LRP that is gone from the BBS.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from reconcile.bridges import bridge_of, original_of
from reconcile.errors import Invalid
from reconcile.lrps import ProcessGuid
from reconcile.observed import LeftBridge, Observed
from reconcile.plan import source_of
from reconcile.ports import (
    BindingRecords,
    ImageRecords,
    Instances,
    JobRecords,
    Journal,
    LrpRecords,
    Lrps,
    Mode,
    Origins,
    Sightings,
    Wishes,
)
from reconcile.records import Binding, Goal, Replacement, Strategy


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
    origins: Origins
    records: LrpRecords
    coverage: Coverage
    sightings: Sightings
    mode: Mode
    wishes: Wishes


@dataclass(frozen=True, slots=True)
class Moment:
    """When and by which process it is observed; see `Observed`."""

    now: float
    process_age: float
    run_id: str
    stale: frozenset[str] = frozenset()
    is_restoring: bool = False


async def observe(process_guid: ProcessGuid, sources: Sources, moment: Moment) -> Observed:
    """Look at one process GUID: in the BBS, the store and the journal."""
    replacement = await sources.journal.find_replacement(process_guid)
    observed = Observed(
        process_guid,
        now=moment.now,
        process_age=moment.process_age,
        run_id=moment.run_id,
        stale=moment.stale,
        is_restoring=moment.is_restoring,
        order=sources.wishes.order_of(process_guid),
        is_paused=sources.wishes.is_paused,
        replacement=replacement,
        record=await sources.records.find_lrp(process_guid),
    )
    if replacement is not None:
        return await look_at_replaced(replacement, observed, sources)
    lrp = await sources.lrps.find_desired_lrp(process_guid)
    observed = replace(observed, lrp=lrp, is_held=lrp is not None and sources.wishes.is_held(lrp.app_guid))
    return await _observe_image(observed, sources)


async def look_at_replaced(replacement: Replacement, observed: Observed, sources: Sources) -> Observed:
    """Look at an LRP that is being replaced, and at its bridge: its own instances last."""
    guid, bridge = replacement.process_guid, bridge_of(replacement.process_guid)
    has_bridge = replacement.strategy is Strategy.BRIDGE
    is_way_back = replacement.goal is Goal.SOURCE
    fresh = await sources.lrps.list_domains()
    return replace(
        observed,
        domain_is_fresh=replacement.original.domain in fresh,
        origin=await sources.origins.find_origin(guid) if is_way_back else None,
        bridge=await sources.lrps.find_desired_lrp(bridge) if has_bridge else None,
        bridge_instances=await sources.instances.list_actual_lrps(bridge) if has_bridge else (),
        lrp=await sources.lrps.find_desired_lrp(guid),
        instances=await sources.instances.list_actual_lrps(guid),
        sighted=sources.sightings.versions(guid),
    )


async def observe_left_bridge(
    bridge: ProcessGuid, sources: Sources, *, domains: frozenset[str], process_age: float
) -> LeftBridge:
    """Look at a bridge that no replacement seems to know of, and at the LRP that it stands in for."""
    guid = original_of(bridge)
    fresh = await sources.lrps.list_domains()
    return LeftBridge(
        bridge,
        process_age=process_age,
        is_in_use=await sources.journal.find_replacement(guid) is not None,
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
            origin=await sources.origins.find_origin(observed.process_guid),
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
