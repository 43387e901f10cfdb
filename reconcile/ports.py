"""What passes and loops need from the systems outside, as small protocols.

Adapters fit them without naming them. Every method raises the errors of `reconcile.errors`; a `find_` method
returns None for what does not exist.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from reconcile.errors import Invalid
from reconcile.failure_spread import Cause
from reconcile.known_records import StagedCopy
from reconcile.lrps import ActualLrp, AppGuid, Credentials, DesiredLrp, ProcessGuid, Pull
from reconcile.migrations import Migration, OriginalSource
from reconcile.orders import Order
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, CacheRequest, CopyCheck, JobId, LrpRecord
from reconcile.references import CacheGuid, Digest, ImageReference, Rootfs
from reconcile.start_failures import StartFailure
from reconcile.trust import ContentProof


class Lrps(Protocol):
    """Desired LRPs in the BBS."""

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""

    async def update_routes(self, process_guid: ProcessGuid, routes: Mapping[str, bytes]) -> None:
        """Update the routes of one desired LRP, and nothing else of it.

        Raises:
            NotFound: It is not desired.
        """

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        """Remove one desired LRP; when this returns it is no longer desired, but not yet stopped.

        Raises:
            NotFound: It was not desired.
        """

    async def desire_lrp(self, lrp: DesiredLrp, rootfs: Rootfs, credentials: Credentials | None) -> None:
        """Desire the received definition with another rootfs and image credentials, all else untouched.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """


class LrpLogins(Protocol):
    """The logins of desired LRPs in the BBS."""

    async def update_credentials(self, process_guid: ProcessGuid, credentials: Credentials | None) -> None:
        """Update the login of one desired LRP, and nothing else of it; None takes it away.

        A BBS may take this for an update of nothing: only reading the LRP shows it.

        Raises:
            NotFound: It is not desired.
        """


class Bridges(Protocol):
    """Bridges in the BBS: temporary second LRPs that serve an app."""

    async def desire_another(
        self, lrp: DesiredLrp, process_guid: ProcessGuid, domain: str, pull: Pull, *, instances: int
    ) -> None:
        """Desire a copy of a received LRP with another process GUID, domain and image.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """

    async def update_from(self, process_guid: ProcessGuid, lrp: DesiredLrp) -> None:
        """Give an LRP the number of instances, the routes and the annotation of another one.

        Raises:
            NotFound: It is not desired.
        """

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        """Keep a domain fresh for some whole seconds."""


class Instances(Protocol):
    """Actual LRPs in the BBS."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""

    async def retire_actual_lrp(self, process_guid: ProcessGuid, *, index: int, domain: str) -> None:
        """Stop the ordinary instance of one index.

        Raises:
            NotFound: There is none.
        """


class JobRecords(Protocol):
    """The records of cache jobs."""

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""

    async def list_open_jobs(self, source: ImageReference | None = None) -> tuple[CacheJob, ...]:
        """List the queued and copying jobs, of one source or of all, oldest first."""

    async def add_job(self, job: CacheJob, binding: Binding) -> None:
        """Save a new job with the binding that asked for it, in place of an earlier one of its requester."""

    async def save_job(self, job: CacheJob) -> None:
        """Save a change of a job.

        Raises:
            Conflict: The change of state is not allowed.
            NotFound: There is no such job.
        """

    async def finish_job(
        self,
        job: CacheJob,
        image: CachedImage,
        blobs: Iterable[Digest],
        proof: ContentProof | None = None,
    ) -> None:
        """Save a cached job with its image, the image's blobs and its source's proof, all or nothing.

        Where the blobs are a mapping, it has their sizes in bytes.
        """


class BindingRecords(Protocol):
    """The records of bindings: which job the staging of an app led to."""

    async def find_binding(self, requester: str) -> Binding | None:
        """Read the binding of a requester."""

    async def find_newest_binding(self, app_guid: AppGuid, source: ImageReference) -> Binding | None:
        """Read the binding with the latest staging of an app for a source."""

    async def list_bindings(self, job_id: JobId) -> tuple[Binding, ...]:
        """List the bindings of a job."""

    async def put_binding(self, binding: Binding) -> None:
        """Save a binding to an existing job, in place of an earlier binding of its requester."""

    async def drop_binding(self, requester: str) -> Binding | None:
        """Delete the binding of a requester, and return it."""


class KnownCopies(Protocol):
    """The finished copies that apps are known to have staged, or to have run from."""

    async def find_newest_copy(self, app_guid: AppGuid, source: ImageReference) -> StagedCopy | None:
        """Find the newest finished copy that an app has a binding to for a source."""


class ImageRecords(Protocol):
    """The records of cached images."""

    async def find_guid(self, platform_digest: Digest) -> CacheGuid | None:
        """Find the GUID that is reserved for some content; None when there is none yet."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy; a reserved GUID alone is none."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Mark a copy as needing verification since some time, or with 0 as verified."""


class CopyChecks(Protocol):
    """What was last seen of each copy in the private registry."""

    async def find_check(self, cache_guid: CacheGuid) -> CopyCheck:
        """Read what was last seen of a copy; all zero for one that was never looked at."""

    async def list_checks(self) -> tuple[CopyCheck, ...]:
        """List what was last seen of the copies that were looked at."""

    async def save_check(self, check: CopyCheck) -> None:
        """Save what was seen of a copy; nothing is saved of one whose record is gone."""


class Journal(Protocol):
    """The journal of open migrations; a row is written before the effect that it names."""

    @property
    def is_durable(self) -> bool:
        """Whether a row outlives the process."""

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP."""

    async def list_migrations(self) -> tuple[Migration, ...]:
        """List the open migrations that can be read, oldest first."""

    async def list_undecryptable(self) -> tuple[Invalid, ...]:
        """Return an error for each row that cannot be read."""

    async def save_migration(self, migration: Migration) -> None:
        """Write a migration's row, in place of an earlier one of the LRP."""

    async def delete_migration(self, process_guid: ProcessGuid, stale: frozenset[str] = frozenset()) -> None:
        """Delete a migration's row, if there is one, and remember the instances of the removed definition."""


class OriginalSources(Protocol):
    """What LRPs ran from before their migrations; credentials are encrypted, or not kept."""

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Read what an LRP ran from."""

    async def save_original_source(self, original_source: OriginalSource) -> None:
        """Save an LRP's original source, in place of an earlier one."""


class EventCache(Protocol):
    """What events reported of LRPs that are or recently were being migrated."""

    def track(self, process_guid: ProcessGuid) -> None:
        """Start to remember the versions of an LRP and of its bridge that events report."""

    def untrack(self, process_guid: ProcessGuid, instance_guids: frozenset[str] = frozenset()) -> None:
        """Forget an LRP, but remember for a while the instances that ran before it was removed."""

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Return the newest version of an LRP that events reported, for each epoch of its tag."""

    def stale(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Return the GUIDs of instances that ran before an LRP was removed."""

    def crashed_on(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Name the cells on which instances of a tracked LRP, or of its bridge, have crashed."""


class Mode(Protocol):
    """Whether LRPs are migrated to their cached images or back to their sources."""

    @property
    def is_restoring(self) -> bool:
        """Whether LRPs are restored to their sources."""


class OperatorOverrides(Protocol):
    """What operators ask of the running daemon: a pause, pinned apps, orders."""

    @property
    def is_paused(self) -> bool:
        """Whether the daemon starts only what an order asks for."""

    @property
    def max_in_flight(self) -> int | None:
        """How many migrations may be open at a time; None leaves that to the config."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Return the order for an LRP; None when there is none or it has ended."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator restored it."""

    def report(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Report the outcome of a pass over an LRP with an order, which may end the order."""


class LrpRecords(Protocol):
    """The records of LRPs: the outcome of the last pass over each."""

    async def find_lrp(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Read one LRP's record."""

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        """List the records, by process GUID."""

    async def save_lrp(self, record: LrpRecord) -> None:
        """Save one LRP's record."""

    async def forget_lrps(self, process_guids: Sequence[ProcessGuid]) -> None:
        """Delete the records of some LRPs, and their original sources."""


class CacheRequests(Protocol):
    """Takes requests for copies, and answers without waiting for the copy."""

    async def request(self, request: CacheRequest) -> CacheJob:
        """Request a copy; the same requester gets the same job again, and credentials are kept in memory."""


class CellPulls(Protocol):
    """Whether cells can pull from the private registry, and what migrations see of it.

    Cells are known by the placement tags that reach them: those of an isolation segment, or none.
    """

    def why_not(self, placement_tags: frozenset[str]) -> str | None:
        """Say why cells are not known to pull from the private registry; None when they are."""

    def is_refuted(self, placement_tags: frozenset[str]) -> bool:
        """Whether a canary has shown that cells cannot pull from the private registry."""

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Note that an instance could not be created from a copy; the cause is organization and copy."""

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Note that an instance runs from a copy."""
