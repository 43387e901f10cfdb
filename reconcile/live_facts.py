"""Reads the facts about one LRP live: each anew from the BBS and the store, in the moment it is asked for."""

from dataclasses import dataclass

from reconcile.droplet_ports import DropletRecords
from reconcile.droplets import DropletRecord
from reconcile.facts import Coverage, Facts, SourceLoginPulls, StagingFacts
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid
from reconcile.migrations import Migration, OriginalSource
from reconcile.ports import (
    BindingRecords,
    EventCache,
    ImageRecords,
    Instances,
    JobRecords,
    Journal,
    KnownCopies,
    LrpRecords,
    Lrps,
    Mode,
    OperatorOverrides,
    OriginalSources,
)
from reconcile.records import CachedImage, LrpRecord, requester_of_lrp
from reconcile.references import CacheGuid


@dataclass(frozen=True, slots=True)
class PassSources:
    """The ports that a pass reads from.

    Attributes:
        droplet_pulls: None where no droplet names a copy.
    """

    lrps: Lrps
    instances: Instances
    jobs: JobRecords
    bindings: BindingRecords
    copies: KnownCopies
    images: ImageRecords
    journal: Journal
    original_sources: OriginalSources
    droplets: DropletRecords
    records: LrpRecords
    coverage: Coverage
    event_cache: EventCache
    mode: Mode
    overrides: OperatorOverrides
    droplet_pulls: SourceLoginPulls | None = None
    stagings: StagingFacts | None = None


def live_facts(sources: PassSources) -> Facts:
    """Return the facts as a pass reads them."""
    reads = LiveReads(sources)
    return Facts(
        lrps=reads,
        records=reads,
        coverage=sources.coverage,
        overrides=sources.overrides,
        migrations=reads,
        stagings=sources.stagings,
    )


class LiveReads:
    """Asks the ports of a pass; nothing is kept between two questions."""

    def __init__(self, sources: PassSources) -> None:
        self._sources = sources

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""
        return await self._sources.lrps.find_desired_lrp(process_guid)

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""
        return await self._sources.instances.list_actual_lrps(process_guid)

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""
        return await self._sources.lrps.list_domains()

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Return the newest version of an LRP that events reported, for each epoch of its tag."""
        return self._sources.event_cache.versions(process_guid)

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP."""
        return await self._sources.journal.find_migration(process_guid)

    async def find_record(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Read what the last pass over an LRP came to."""
        return await self._sources.records.find_lrp(process_guid)

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Read what an LRP ran from before its migration."""
        return await self._sources.original_sources.find_original_source(process_guid)

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        """List the records of an app's droplets, the newest first."""
        return await self._sources.droplets.list_droplets_of_app(app_guid)

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read the record of a finished copy."""
        return await self._sources.images.find_image(cache_guid)

    async def find_copy(self, key: LrpKey) -> KnownCopy:
        """Read a staging's binding, an LRP's own or its app's latest, with the copies that are known."""
        app_guid, source = key.app_guid, key.source
        if source is None or not app_guid:
            return KnownCopy()
        requester = key.staged_as or requester_of_lrp(key.process_guid)
        binding = await self._sources.bindings.find_binding(requester)
        if binding is not None and (binding.app_guid, binding.source) != (app_guid, source):
            binding = None
        if binding is None and not key.staged_as:
            binding = await self._sources.bindings.find_newest_binding(app_guid, source)
        if binding is None:
            return KnownCopy()
        job = await self._sources.jobs.find_job(binding.job_id)
        guid = None if job is None else job.cache_guid
        image = None if guid is None else await self._sources.images.find_image(guid)
        newest = await self._sources.copies.find_newest_copy(app_guid, source)
        return KnownCopy(binding, job, image, newest)
