"""Gathers what a decision about one process GUID rests on.

Everything is read anew on each pass; nothing is handed along from an event.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from reconcile.errors import Invalid
from reconcile.lrps import ProcessGuid
from reconcile.plan import Observed, source_of
from reconcile.ports import (
    BindingRecords,
    ImageRecords,
    Instances,
    JobRecords,
    Journal,
    LrpRecords,
    Lrps,
)
from reconcile.records import Binding


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
    records: LrpRecords
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Moment:
    """When and by which process it is observed; see `Observed`."""

    now: float
    process_age: float
    run_id: str


async def observe(process_guid: ProcessGuid, sources: Sources, moment: Moment) -> Observed:
    """Look at one process GUID: in the BBS, the store and the journal."""
    observed = Observed(
        process_guid,
        now=moment.now,
        process_age=moment.process_age,
        run_id=moment.run_id,
        replacement=await sources.journal.find_replacement(process_guid),
        record=await sources.records.find_lrp(process_guid),
        lrp=await sources.lrps.find_desired_lrp(process_guid),
    )
    if observed.replacement is not None:
        fresh = await sources.lrps.list_domains()
        return replace(
            observed,
            instances=await sources.instances.list_actual_lrps(process_guid),
            domain_is_fresh=observed.replacement.original.domain in fresh,
        )
    return await _observe_image(observed, sources)


async def _observe_image(observed: Observed, sources: Sources) -> Observed:
    if observed.lrp is None or not observed.lrp.rootfs.is_docker:
        return observed
    try:
        source = source_of(observed.lrp)
    except Invalid:
        return observed
    binding = await sources.bindings.find_newest_binding(observed.lrp.app_guid, source)
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
        instances=() if image is None else await sources.instances.list_actual_lrps(observed.process_guid),
    )
