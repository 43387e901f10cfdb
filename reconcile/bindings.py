"""Decides which staging an LRP counts as staged by, and whether its copy is known to be what the LRP runs.

A tag may move at its source, so what an app was staged with may be other content than what the tag means
later. The binding that an LRP had once stands as long as its process GUID exists: it is saved as the LRP's
own, and no restart of the daemon and no lost event stream changes it.
"""

from dataclasses import replace

from reconcile.errors import ErrorCode
from reconcile.known_records import StagedCopy
from reconcile.lrps import ActualLrpState
from reconcile.observed import Observed
from reconcile.records import Binding, CacheJob, JobState, requester_of_lrp


def is_own(binding: Binding, observed: Observed) -> bool:
    """Whether a binding is that of the LRP itself."""
    return binding.requester == requester_of_lrp(observed.process_guid)


def binding_to_keep(observed: Observed) -> Binding | None:
    """Return the binding to save as the LRP's own; None when it has one, or none is known to be its own."""
    binding, job, lrp = observed.binding, observed.job, observed.lrp
    is_source = lrp is not None and observed.current_copy is None and observed.former_copy is None
    if binding is None or job is None or observed.migration is not None or not is_source:
        return None
    if is_own(binding, observed) or not observed.binding_is_current or job.state is JobState.FAILED:
        return None
    if _was_resolved_after_start(job, observed):
        return None
    return replace(binding, requester=requester_of_lrp(observed.process_guid))


def is_staging_known(observed: Observed) -> bool:
    """Whether the copy that the LRP would get is known to be what it was staged with.

    Content that a digest pins is. Of a tag it is known when the staging was seen, and the tag was resolved
    before the instances that run were started.
    """
    binding, job, record = observed.binding, observed.job, observed.record
    if observed.source.digest is not None:
        return True
    if binding is None or job is None:
        return False
    has_run_from_it = (
        record is not None and record.cache_guid is not None and record.cache_guid == job.cache_guid
    )
    if has_run_from_it:
        return True
    is_seen = observed.binding_is_current or is_own(binding, observed)
    return is_seen and not _was_resolved_after_start(job, observed)


def known_copy(observed: Observed) -> StagedCopy | None:
    """Return the newest copy that the app had, if a source that does not answer keeps the LRP from any other.

    Not while something of the LRP runs, and not when a later staging is known, which may be of other content.
    """
    newest, binding, job = observed.newest, observed.binding, observed.job
    if newest is None or binding is None or job is None or not is_source_silent(job):
        return None
    runs = any(each.state is ActualLrpState.RUNNING for each in observed.instances)
    return None if runs or binding.staged_at > newest.binding.staged_at else newest


def is_source_silent(job: CacheJob) -> bool:
    """Whether a job waits, or was given up, because its source did not say what the reference means."""
    if job.state is JobState.QUEUED:
        return job.not_before is not None and job.failure_code == ErrorCode.SOURCE_UNREACHABLE
    return job.state is JobState.FAILED and f"last {ErrorCode.SOURCE_UNREACHABLE}:" in job.failure


def _was_resolved_after_start(job: CacheJob, observed: Observed) -> bool:
    """Whether a running instance was started before the job that resolved the tag was requested."""
    started = [
        each.since for each in observed.instances if each.state is ActualLrpState.RUNNING and each.since
    ]
    return bool(started) and job.created_at > min(started)
