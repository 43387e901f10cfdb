"""The records that the store keeps: cache jobs, cached images, bindings and outcomes of passes.

The store only saves them; `JOB_CHANGES` holds which changes of a job's state are allowed. Migrations are in
`reconcile.migrations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from reconcile.errors import Conflict
from reconcile.lrps import AppGuid, Credentials, ProcessGuid, TaskGuid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.times import seconds_until

JobId = NewType("JobId", str)

_LRP, _TASK, _REPAIR, _DROPLET = "lrp:", "task:", "repair:", "droplet:"

MAX_ATTEMPTS = 12
"""Attempts of a cache job, after which it has failed: about half an hour of an unreachable registry."""


class JobState(StrEnum):
    """The state of a cache job."""

    QUEUED = "queued"
    COPYING = "copying"
    CACHED = "cached"
    FAILED = "failed"


JOB_CHANGES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.COPYING, JobState.FAILED}),
    # A job goes back to the queue when it must wait, and when the process died during the copy.
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
    """A request to cache the source image of an app.

    Attributes:
        source: Canonical reference of the image.
        requester: Such as a staging task, an LRP or an operator, see `requester_of_task` and its neighbours.
        staged_at: Nanoseconds since 1970 by the BBS's clock; of two requests of one app for one source
            the later wins. The request of an LRP has the time of the staging that it confirms, or 0.
        reason: Why the copy is requested, such as Reason.STAGING_TASK.
        credentials: For the source registry; kept in memory only.
        opted_in: Whether the app's owner asked for it.
        is_ordered: Whether an order of an operator asks for it, so that it is copied during a pause too.
        organization_guid: Of the app; empty where it is not known.
        content: Digest of the content that is to be copied, whatever the source's tag means now; None copies
            what the source resolves to.
        may_wait: Whether others come first: the LRP runs, and nothing says that its tag has moved.
    """

    app_guid: AppGuid
    source: ImageReference
    requester: str
    staged_at: int
    reason: Reason
    credentials: Credentials | None = None
    opted_in: bool = False
    is_ordered: bool = False
    content: Digest | None = None
    organization_guid: str = ""
    may_wait: bool = False

    @property
    def organization(self) -> str:
        """The app's organization, as jobs name it; the app itself where its organization is not known."""
        return self.organization_guid or f"app:{self.app_guid}"

    @property
    def job_source(self) -> ImageReference:
        """What the job copies: the source, or the content of its repository that is asked for."""
        return self.source if self.content is None else self.source.at(self.content)


def requester_of_task(task_guid: TaskGuid) -> str:
    """Name a staging task as the requester."""
    return f"{_TASK}{task_guid}"


def requester_of_lrp(process_guid: ProcessGuid) -> str:
    """Name a desired LRP as the requester."""
    return f"{_LRP}{process_guid}"


def requester_of_droplet(droplet_guid: str) -> str:
    """Name a droplet, of which no staging was seen, as the requester."""
    return f"{_DROPLET}{droplet_guid}"


def requester_of_operator(request_id: str) -> str:
    """Name an operator as the requester; each request has a name of its own."""
    return f"admin:{request_id}"


def requester_of_repair(cache_guid: CacheGuid) -> str:
    """Name the copy, of which something is missing, as the requester of what is missing."""
    return f"{_REPAIR}{cache_guid}"


def repaired_by(requester: str) -> CacheGuid | None:
    """Name the copy that a requester wants to have repaired; None for any other requester."""
    return CacheGuid(requester.removeprefix(_REPAIR)) if requester.startswith(_REPAIR) else None


def lrp_of_requester(requester: str) -> ProcessGuid:
    """Name the desired LRP that is the requester; see `is_of_lrp`."""
    return ProcessGuid(requester.removeprefix(_LRP))


def task_of_requester(requester: str) -> TaskGuid | None:
    """Name the staging task that is the requester; None for any other requester."""
    return TaskGuid(requester.removeprefix(_TASK)) if requester.startswith(_TASK) else None


def is_of_lrp(requester: str) -> bool:
    """Whether the requester is a desired LRP, whose next pass may request the copy anew."""
    return requester.startswith(_LRP)


def is_of_droplet(requester: str) -> bool:
    """Whether the requester is a droplet, which does not say when the tag of its image was resolved."""
    return requester.startswith(_DROPLET)


def is_of_pass(requester: str) -> bool:
    """Whether a pass over an LRP or a droplet asks: the next one may do so anew, and none is urgent."""
    return is_of_lrp(requester) or is_of_droplet(requester)


def is_of_app(requester: str) -> bool:
    """Whether the requester is a staging task, a desired LRP or a droplet, whose login is that of an app."""
    return requester.startswith((_LRP, _TASK, _DROPLET))


@dataclass(frozen=True, slots=True)
class CacheJob:
    """A cache job: one copy of one source image.

    Attributes:
        source: Canonical reference of the image.
        reason: Why the copy was requested.
        needs_credentials: The request came with credentials; they are in memory only and
            come back with the staging task or the LRP after a restart.
        attempts: How often the copy was started.
        not_before: UTC seconds since 1970 before which it waits; None when it is due.
        failure: Why it waits or failed, "code: detail"; empty for neither.
        cache_guid: The cached image that it led to; None until then.
        organization: Of whoever asked first, see `CacheRequest.organization`; empty in older jobs.
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
    organization: str = ""

    def seconds_until_due(self, now: float) -> float:
        """Count the seconds for which it waits; 0 where the clock was set back since it was put off."""
        if self.not_before is None or now < self.updated_at:
            return 0.0
        return seconds_until(self.not_before, now)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in {JobState.QUEUED, JobState.COPYING}

    @property
    def is_repair(self) -> bool:
        """Whether it completes a copy of which something is missing, under the GUID that the copy has."""
        return self.reason is Reason.REPAIRING_COPY

    @property
    def is_move(self) -> bool:
        """Whether it brings content to the present private registry that an LRP has been given before."""
        return self.reason is Reason.COPY_IN_FORMER_REGISTRY

    @property
    def failure_code(self) -> str:
        """The code of the failure, such as an `ErrorCode`; empty while there is none."""
        code, _, _ = self.failure.partition(":")
        return code

    @property
    def failure_detail(self) -> str:
        """The failure without its code; empty while there is none."""
        _, _, detail = self.failure.partition(": ")
        return detail


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A cached image: a finished copy that was verified.

    Attributes:
        source: The reference that it was first copied from.
        root_digest: Digest of the index or manifest that the source's tag resolved to.
        platform_digest: Digest of the copied manifest in the source registry, which identifies the content.
        digest: Digest of the manifest in the private registry; differs from the platform digest only when a
            docker daemon recompressed the layers.
        size: Bytes of the manifest, config and layers.
        created_at: UTC seconds since 1970.
        verified_at: UTC seconds since 1970.
        needs_verification_since: When instances of a bridge last crashed from it, UTC seconds since 1970; 0
            when it was verified since, or when none crashed.
        registry: Address of the private registry that holds it; empty in records of versions that knew one
            registry only, which is the configured one.
        missing_since: Since when something of it is missing there, UTC seconds since 1970; 0 when nothing is.
            `CopyChecks` alone changes it.
        missing: What is missing, in one line.
        lost_since: Since when it is known that this cannot be sent again, UTC seconds since 1970; 0 while it
            may be.
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
    registry: str = ""
    missing_since: float = 0.0
    missing: str = ""
    lost_since: float = 0.0


@dataclass(frozen=True, slots=True)
class CopyCheck:
    """What was last seen of a copy in the private registry; all times in UTC seconds since 1970, 0 for never.

    Attributes:
        checked_at: When its manifest was last looked for.
        blobs_checked_at: When its blobs were last looked for.
        missing_since: Since when something of it is missing; 0 when nothing is.
        missing: What is missing, in one line; empty when nothing is.
        lost_since: Since when it is known that this cannot be sent again; 0 while it may be.
        noted_at: When the note of its source was written beside it.
        unused_since: Since when no listing has found a use of it; 0 when the last one did.
    """

    cache_guid: CacheGuid
    checked_at: float = 0.0
    blobs_checked_at: float = 0.0
    missing_since: float = 0.0
    missing: str = ""
    lost_since: float = 0.0
    noted_at: float = 0.0
    unused_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Binding:
    """Connects an app and its source reference with the job that one requester caused.

    Attributes:
        requester: See `CacheRequest`.
        staged_at: See `CacheRequest`.
        opted_in: Whether the app's owner asked for the copy.
    """

    app_guid: AppGuid
    source: ImageReference
    requester: str
    staged_at: int
    job_id: JobId
    opted_in: bool = False


@dataclass(frozen=True, slots=True)
class LrpRecord:
    """The outcome of the last pass over one desired LRP.

    Attributes:
        rootfs: What the LRP was last desired from, without a login.
        cache_guid: The cached image that it was last migrated to, or from, even if that was reverted.
        rounds: Migrations of the LRP that have begun; grows when somebody keeps reverting them.
        reason: Of the outcome, such as Reason.MIGRATED or Reason.WAITING_UNTIL_STOPPED.
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
    """An entry of the audit: one admin call that changed something.

    Attributes:
        at: UTC seconds since 1970.
        caller: Subject of the caller's certificate, or the kind of connection without one.
        call: Name of the admin call, such as "Evict".
        arguments: JSON; never holds credentials.
        outcome: "done", or the error.
        number: Its place in the order of entries; 0 before it is saved.
    """

    at: float
    caller: str
    call: str
    arguments: str
    outcome: str
    number: int = field(default=0, compare=False)
