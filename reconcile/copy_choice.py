"""Chooses the copy that an LRP is migrated to, or decides what must be asked for before."""

from dataclasses import dataclass

from reconcile.actions import CacheImage, Skip
from reconcile.bindings import is_own, is_staging_known, known_copy
from reconcile.errors import ErrorCode
from reconcile.instances import is_any_running
from reconcile.lrps import DesiredLrp, organization_of
from reconcile.migration_choice import RETRY_FAILED_AFTER, still_counts, strategy_of
from reconcile.observed import FormerCopy, Observed, Rules
from reconcile.policy import UnseenStagings
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CacheRequest, JobState, requester_of_lrp
from reconcile.references import Digest


@dataclass(frozen=True, slots=True)
class ChosenCopy:
    """The copy that an LRP may be migrated to now, why it is this one, and more of that for people."""

    image: CachedImage
    reason: Reason = Reason.RUNS_FROM_SOURCE
    detail: str = ""


Choice = ChosenCopy | CacheImage | Skip


def choose_copy(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Choice:
    """Choose the copy of an LRP, or decide what is missing before it can run from one."""
    if observed.former_copy is not None:
        return _choose_for_former(observed, lrp, observed.former_copy, rules)
    source = observed.source
    pinned = _pinned_copy(observed, rules)
    if pinned is not None:
        how = strategy_of(observed, lrp, source, rules)
        return how if isinstance(how, Skip) else ChosenCopy(pinned)
    if observed.binding is None or observed.job is None:
        return _request_unseen(observed, lrp, rules, Reason.NOT_CACHED)
    known = known_copy(observed)
    if known is not None and _is_present(known.image, rules):
        detail = f"{Reason.SOURCE_UNREACHABLE_KNOWN_COPY_USED}: {observed.job.failure}"
        return ChosenCopy(known.image, Reason.SOURCE_UNREACHABLE_KNOWN_COPY_USED, detail)
    return _choose_of_job(observed, lrp, observed.job, rules)


def _choose_of_job(observed: Observed, lrp: DesiredLrp, job: CacheJob, rules: Rules) -> Choice:
    image = observed.image
    if job.state is not JobState.CACHED:
        return _wait_for(observed, lrp, job, rules)
    if image is None:
        return _request_unseen(observed, lrp, rules, Reason.COPY_RECORD_MISSING)
    how = strategy_of(observed, lrp, observed.source, rules)
    if isinstance(how, Skip):  # it would not be migrated now, so its source registry is not asked
        return how
    if not _is_current(observed, job):
        return _request_unseen(observed, lrp, rules, Reason.STAGING_MAY_HAVE_BEEN_MISSED)
    if _must_wait(observed, rules):
        return _WAITING_FOR_STAGING
    if not _is_present(image, rules):
        return request_copy(observed, lrp, Reason.COPY_IN_FORMER_REGISTRY, content=image.platform_digest)
    return ChosenCopy(image)


def _wait_for(observed: Observed, lrp: DesiredLrp, job: CacheJob, rules: Rules) -> CacheImage | Skip:
    """Wait for a job, or ask for the copy again when it failed long ago."""
    if job.state is JobState.FAILED:
        if not still_counts(observed, job.updated_at, for_seconds=RETRY_FAILED_AFTER):
            content = _content_of(job)
            if content is not None:
                return request_copy(observed, lrp, Reason.COPY_IN_FORMER_REGISTRY, content=content)
            return _request_unseen(observed, lrp, rules, Reason.RETRYING_COPY)
        if job.failure_code == ErrorCode.CANNOT_RUN_ON_CELLS:
            return Skip(Reason.CANNOT_RUN_ON_CELLS, job.failure_detail)
        return Skip(Reason.COPY_FAILED, job.failure)
    if observed.order is not None and observed.is_paused:  # the job waits unless an order asks for it
        return request_copy(observed, lrp, Reason.WAITING_FOR_COPY, content=_content_of(job))
    return Skip(Reason.WAITING_FOR_COPY, job.failure)


def _choose_for_former(observed: Observed, lrp: DesiredLrp, former: FormerCopy, rules: Rules) -> Choice:
    """Choose the copy in the present registry for an LRP that runs from one in another registry."""
    obstacle = why_not_moved(former, rules)
    if obstacle is not None:
        return obstacle
    image, job = former.image, observed.job
    if image is None:
        return Skip(Reason.COPY_RECORD_MISSING, f"the record of its copy in {former.registry} is gone")
    if _is_present(image, rules):
        how = strategy_of(observed, lrp, observed.source, rules)
        return how if isinstance(how, Skip) else ChosenCopy(image, Reason.RUNS_FROM_FORMER_REGISTRY)
    if job is None or _content_of(job) != image.platform_digest or job.state is JobState.CACHED:
        return request_copy(observed, lrp, Reason.COPY_IN_FORMER_REGISTRY, content=image.platform_digest)
    return _wait_for(observed, lrp, job, rules)


def why_not_moved(former: FormerCopy, rules: Rules) -> Skip | None:
    """Say why an LRP cannot leave another private registry than the present one; None when it can."""
    if not former.is_configured:
        return Skip(
            Reason.REGISTRY_NOT_CONFIGURED,
            f"{former.registry} holds a copy that the records know: list it in former_cache_registries",
        )
    if former.source is None:
        return Skip(Reason.SOURCE_UNKNOWN, f"what it ran from before {former.registry} is not known")
    if not former.is_of_app and rules.pull_credentials is not None:
        return Skip(
            Reason.SOURCE_UNKNOWN,
            f"its app is not known to have been staged with its copy in {former.registry}",
        )
    return None


def _content_of(job: CacheJob) -> Digest | None:
    """Return the content that a job was asked to bring to the present registry; None for any other job."""
    return job.source.digest if job.reason is Reason.COPY_IN_FORMER_REGISTRY else None


def _is_present(image: CachedImage, rules: Rules) -> bool:
    """Whether a copy was made in the present registry."""
    return not image.registry or rules.cache.is_at(image.registry)


def _pinned_copy(observed: Observed, rules: Rules) -> CachedImage | None:
    """Return a copy of the app that is for certain what its source pins, so that nobody need be asked."""
    digest = observed.source.digest
    if digest is None:
        return None
    candidates = [observed.image, None if observed.newest is None else observed.newest.image]
    for image in candidates:
        if image is not None and digest in {image.root_digest, image.platform_digest}:
            return image if _is_present(image, rules) else None
    return None


def _is_current(observed: Observed, job: CacheJob) -> bool:
    """Whether no later staging can have been missed that the LRP might be of."""
    record, binding = observed.record, observed.binding
    is_used = record is not None and record.cache_guid == job.cache_guid
    is_its_own = binding is not None and is_own(binding, observed)
    return observed.binding_is_current or is_its_own or is_used


_WAITING_FOR_STAGING = Skip(Reason.WAITING_FOR_STAGING, "its tag may have moved since it was started")


def gets_unseen_content(observed: Observed) -> bool:
    """Whether an LRP that runs would get what its tag means now, which may be other content than it runs.

    One that runs from a copy keeps its content, whatever it is migrated for.
    """
    is_on_copy = observed.current_copy is not None or observed.former_copy is not None
    return not is_on_copy and is_any_running(observed.instances) and not is_staging_known(observed)


def _must_wait(observed: Observed, rules: Rules) -> bool:
    """Whether the operator wants a running LRP to wait for a staging that is seen."""
    return rules.unseen_stagings is UnseenStagings.WAIT and gets_unseen_content(observed)


def _request_unseen(observed: Observed, lrp: DesiredLrp, rules: Rules, reason: Reason) -> CacheImage | Skip:
    """Request what a tag means now, unless the LRP must wait for a staging that is seen."""
    return _WAITING_FOR_STAGING if _must_wait(observed, rules) else request_copy(observed, lrp, reason)


def request_copy(
    observed: Observed, lrp: DesiredLrp, reason: Reason, *, content: Digest | None = None
) -> CacheImage | Skip:
    """Decide to request a copy, unless only LRPs that have one are to be migrated."""
    if observed.order is not None and observed.order.only_cached:
        return Skip(reason, "only LRPs that have a copy are to be migrated")
    return CacheImage(request_of_lrp(observed, lrp, reason=reason, content=content))


def request_of_lrp(
    observed: Observed, lrp: DesiredLrp, *, reason: Reason, content: Digest | None = None
) -> CacheRequest:
    """Write the request for a copy of an LRP's image; it confirms the binding that was observed."""
    confirmed = observed.binding
    return CacheRequest(
        app_guid=lrp.app_guid,
        source=observed.source,
        requester=requester_of_lrp(lrp.process_guid),
        staged_at=0 if confirmed is None else confirmed.staged_at,
        reason=reason,
        credentials=observed.source_credentials,
        opted_in=confirmed is not None and confirmed.opted_in,
        is_ordered=observed.order is not None,
        content=content,
        organization_guid=organization_of(lrp),
        may_wait=reason is Reason.STAGING_MAY_HAVE_BEEN_MISSED and is_any_running(observed.instances),
    )
