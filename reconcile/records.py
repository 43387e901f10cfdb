"""What we remember: cache jobs, cached images, bindings and migrations, with the allowed changes of a job.

The store only saves these; which change of state is legal stands in `JOB_CHANGES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Self

from reconcile.errors import Conflict
from reconcile.images import CacheGuid, Digest, ImageReference, Rootfs
from reconcile.lrps import AppGuid, Credentials, DesiredLrp, ProcessGuid, TaskGuid
from reconcile.reasons import Reason

JobId = NewType("JobId", str)

_LRP = "lrp:"


class JobState(StrEnum):
    """Where a cache job is."""

    QUEUED = "queued"
    COPYING = "copying"
    CACHED = "cached"
    FAILED = "failed"


JOB_CHANGES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.COPYING, JobState.FAILED}),
    # Back to the queue when it must wait, and when the process died during the copy.
    JobState.COPYING: frozenset({JobState.QUEUED, JobState.CACHED, JobState.FAILED}),
    JobState.CACHED: frozenset(),
    JobState.FAILED: frozenset(),
}


def check_change(before: JobState, after: JobState) -> None:
    """Refuse a change of a job's state that `JOB_CHANGES` does not allow.

    Raises:
        Conflict: with code `illegal-change`.
    """
    if after not in JOB_CHANGES[before]:
        raise Conflict("store", "illegal-change", f"a {before} job cannot become {after}")


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """Somebody wants an app's source image cached.

    Attributes:
        source: Canonical reference of the image.
        requester: Who asked, see `requester_of_task` and `requester_of_lrp`.
        staged_at: Nanoseconds since 1970 by the BBS's clock; of two requests of one app for one source
            the later wins. An LRP that asks has the time of the staging that it confirms, or 0.
        reason: Why it is wanted, such as Reason.STAGING_TASK.
        credentials: For the source registry; kept in memory only.
        opted_in: The app's owner asked for it.
        is_ordered: An operator asked for it: it is copied although the daemon is paused.
    """

    app_guid: AppGuid
    source: ImageReference
    requester: str
    staged_at: int
    reason: Reason
    credentials: Credentials | None = None
    opted_in: bool = False
    is_ordered: bool = False


def requester_of_task(task_guid: TaskGuid) -> str:
    """Name a staging task as the requester of a request."""
    return f"task:{task_guid}"


def requester_of_lrp(process_guid: ProcessGuid) -> str:
    """Name a desired LRP as the requester of a request."""
    return f"{_LRP}{process_guid}"


def requester_of_operator(request_id: str) -> str:
    """Name an operator as the requester of a request; each request is one of its own."""
    return f"admin:{request_id}"


def lrp_of_requester(requester: str) -> ProcessGuid:
    """Name the desired LRP that a request came from; see `is_of_lrp`."""
    return ProcessGuid(requester.removeprefix(_LRP))


def is_of_lrp(requester: str) -> bool:
    """Whether a request came from a desired LRP, which may ask anew, and not from a staging task."""
    return requester.startswith(_LRP)


@dataclass(frozen=True, slots=True)
class CacheJob:
    """One request to copy one source image.

    Attributes:
        source: Canonical reference of the image.
        reason: Why it was asked for.
        needs_credentials: The request came with credentials; they are in memory only and
            come back with the staging task or the LRP after a restart.
        attempts: How often the copy was begun.
        not_before: UTC seconds since 1970 before which it waits; None when it is due.
        failure: Why it waits or failed, "code: detail"; empty while all is well.
        cache_guid: The cached image it led to; None until cached.
        created_at: UTC seconds since 1970.
        updated_at: UTC seconds since 1970.
    """

    job_id: JobId
    source: ImageReference
    state: JobState
    reason: Reason
    created_at: float
    updated_at: float
    needs_credentials: bool = False
    attempts: int = 0
    not_before: float | None = None
    failure: str = ""
    cache_guid: CacheGuid | None = None


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A finished, verified copy.

    Attributes:
        source: The reference it was first copied from.
        root_digest: What the source's tag resolved to, an index or a manifest.
        platform_digest: The content's identity: the copied manifest in the source registry.
        digest: The manifest as it lies in the private registry; differs from the platform
            digest only when a docker daemon recompressed the layers.
        size: Bytes of the manifest, config and layers.
        created_at: UTC seconds since 1970.
        verified_at: UTC seconds since 1970.
        needs_verification_since: When instances of a bridge last crashed from it, UTC seconds
            since 1970; 0 when it has been verified since, or none did.
    """

    cache_guid: CacheGuid
    source: ImageReference
    root_digest: Digest
    platform_digest: Digest
    digest: Digest
    size: int
    created_at: float
    verified_at: float
    needs_verification_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Binding:
    """Ties an app's source reference to the job that one staging asked for.

    Attributes:
        requester: The staging task or the LRP that asked, see `requester_of_task`.
        staged_at: See `CacheRequest`.
        opted_in: The app's owner asked for the copy.
    """

    app_guid: AppGuid
    source: ImageReference
    requester: str
    staged_at: int
    job_id: JobId
    opted_in: bool = False


class Goal(StrEnum):
    """Where a migration leads."""

    CACHE = "cache"
    """From the source reference to the cached image."""
    SOURCE = "source"
    """Back to the source reference."""


class Strategy(StrEnum):
    """How a migration is done."""

    RECREATE = "recreate"
    """Remove and desire again, since no instance runs."""
    BRIDGE = "bridge"
    """With a second LRP that runs meanwhile."""


class Phase(StrEnum):
    """How far a migration has come; written before the effect that it names.

    Attributes:
        reason: The reason that an LRP in this phase has.
    """

    reason: Reason

    def __new__(cls, reason: Reason) -> Self:
        """Make a member whose text is that of its reason."""
        member = str.__new__(cls, reason.value)
        member._value_, member.reason = reason.value, reason
        return member

    PREPARED = Reason.PREPARED
    BRIDGING = Reason.BRIDGING
    BRIDGED = Reason.BRIDGED
    REMOVING = Reason.REMOVING
    REMOVED = Reason.REMOVED
    STARTING = Reason.STARTING
    REMOVING_BRIDGE = Reason.REMOVING_BRIDGE


@dataclass(frozen=True, slots=True)
class Migration:
    """One desired LRP on its way to another rootfs.

    Attributes:
        cache_guid: The cached image that it is moved to, or away from.
        original: The newest version of the LRP that is known; encrypted at rest.
        rounds: Migrations of the LRP that were begun, this one included.
        run_id: The process that wrote the row; another one after a restart.
        started_at: UTC seconds since 1970.
        unknown_until: UTC seconds since 1970 until which a removal whose answer was lost may still take
            effect; 0 when there is none.
        entered_at: When the phase began, UTC seconds since 1970; 0 in a row of an older version.
        ended: What it has come to, once only the bridge is left to be removed; empty before.
        instance_guids: The instances that ran before the removal: a row that names one of them
            afterwards belongs to the definition that was removed.
    """

    process_guid: ProcessGuid
    cache_guid: CacheGuid
    phase: Phase
    original: DesiredLrp = field(repr=False)
    rounds: int
    run_id: str
    started_at: float
    unknown_until: float = 0.0
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    entered_at: float = 0.0
    ended: Reason | None = None
    instance_guids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OriginalSource:
    """What an LRP ran from before it was pointed at a cached image, to be able to go back.

    Attributes:
        rootfs: As its owner desired it.
        needs_credentials: It had a login, which may be lost: it is kept only encrypted.
    """

    process_guid: ProcessGuid
    cache_guid: CacheGuid
    rootfs: Rootfs
    needs_credentials: bool
    credentials: Credentials | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class LrpRecord:
    """What the last pass over one desired LRP came to, for people who ask.

    Attributes:
        rootfs: What it was last seen to be desired from, without a login.
        cache_guid: The cached image it was last pointed at, by whomever it was put back since.
        rounds: Migrations begun for this process GUID; somebody keeps putting it back when it grows.
        reason: Constant of the outcome, such as Reason.MIGRATED or Reason.WAITING_UNTIL_STOPPED.
        detail: More of it for people; never holds credentials.
        updated_at: UTC seconds since 1970.
    """

    process_guid: ProcessGuid
    app_guid: AppGuid
    rootfs: str
    cache_guid: CacheGuid | None
    rounds: int
    reason: Reason
    updated_at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that an operator had the daemon do.

    Attributes:
        at: UTC seconds since 1970.
        caller: Subject of the certificate, or how the caller came without one.
        call: Name of the admin call, such as "Evict".
        arguments: JSON; never holds credentials.
        outcome: "done", or what went wrong.
        number: Its place in the order of entries; 0 before it has one.
    """

    at: float
    caller: str
    call: str
    arguments: str
    outcome: str
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LrpKey:
    """What the records of one LRP are found by; `source` is None where its rootfs names no image."""

    process_guid: ProcessGuid
    app_guid: AppGuid
    source: ImageReference | None


@dataclass(frozen=True, slots=True)
class KnownCopy:
    """What the store knows of the copy of an app's source image.

    Attributes:
        binding: The app's latest for the source.
        job: The binding's.
        image: The job's.
    """

    binding: Binding | None = None
    job: CacheJob | None = None
    image: CachedImage | None = None


@dataclass(frozen=True, slots=True)
class KnownLrp:
    """What the store knows of one LRP."""

    record: LrpRecord | None = None
    copy: KnownCopy = KnownCopy()
