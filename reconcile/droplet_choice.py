"""Chooses the copy that a droplet is to name, or decides what must be asked for before.

The copy of a droplet is what its staging led to. Where its build is not known, content that a digest pins is
known all the same. A tag may have moved since: the newest staging of the app counts while its current droplet
has the same image, and otherwise the operator decides as for LRPs whose staging was not seen.
"""

from reconcile.droplet_actions import Leave, ObservedDroplet, RequestCopy
from reconcile.droplets import Droplet, task_of_build
from reconcile.errors import ErrorCode
from reconcile.migration_choice import RETRY_FAILED_AFTER
from reconcile.observed import Rules
from reconcile.policy import CacheMode, UnseenStagings, refusal_of
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    JobState,
    requester_of_droplet,
    requester_of_task,
)
from reconcile.references import Digest, ImageReference
from reconcile.staging import OwnerChoice
from reconcile.times import is_recent

STAGING_ENDS_WITHIN = 3600.0
"""Seconds after which a droplet is none of a staging any more; stagings are given 15 minutes by default."""

CLOCKS_DIFFER_BY = 60.0
"""Seconds, at most, between the clock of Cloud Controller and that of the daemon."""


def refusal_for_droplet(observed: ObservedDroplet, source: ImageReference, rules: Rules) -> Leave | None:
    """Say why the image of a droplet may not be cached; None when it may."""
    binding = observed.binding
    choice = observed.owner_choice
    if choice in {None, OwnerChoice.NONE} and binding is not None:
        # Its staging was asked for, or not refused; an LRP does not have every flag of a staging task.
        choice = OwnerChoice.OPT_IN if binding.opted_in else OwnerChoice.NONE
    refusal = refusal_of(
        rules.policy, image=source, owner_choice=choice or OwnerChoice.NONE, cache=rules.cache
    )
    if refusal is not None:
        return Leave(refusal)
    if choice is None and rules.policy.mode is CacheMode.OPT_OUT:
        return Leave(Reason.WAITING_FOR_STAGING, "whether its owner refuses copies is known once it runs")
    return None


def choose_copy_for_droplet(
    observed: ObservedDroplet, droplet: Droplet, source: ImageReference, rules: Rules
) -> CachedImage | RequestCopy | Leave:
    """Choose the copy of the image that a droplet names, or decide what is missing before it can name one."""
    pinned = _pinned_copy(observed, source)
    if pinned is not None:
        return (
            pinned
            if is_present(pinned, rules)
            else _copy_to_present(observed, droplet, source, pinned, rules)
        )
    binding, job = observed.binding, observed.job
    if binding is None or job is None:
        return _request_unseen(observed, droplet, source, Reason.NOT_CACHED, rules)
    if not is_of_droplet(binding, observed):
        if not observed.has_current_reference:
            return _request_unseen(observed, droplet, source, Reason.NOT_CACHED, rules)
        is_later = droplet.created_at > binding.staged_at / 1e9 + STAGING_ENDS_WITHIN
        if is_later and not _was_requested_since(droplet, binding, job):
            return _request_unseen(observed, droplet, source, Reason.STAGING_MAY_HAVE_BEEN_MISSED, rules)
    return _choose_of_job(observed, droplet, source, job, rules)


def _was_requested_since(droplet: Droplet, binding: Binding, job: CacheJob) -> bool:
    """Whether a copy for no staging that was seen, such as a running LRP's, is of what a tag meant later.

    To ask what the tag means now would bring the same, and for that a login may be needed that nobody shows.
    """
    return not binding.staged_at and job.created_at > droplet.created_at + CLOCKS_DIFFER_BY


def choose_for_former(
    observed: ObservedDroplet, droplet: Droplet, source: ImageReference, rules: Rules
) -> CachedImage | RequestCopy | Leave:
    """Choose the copy in the present private registry for a droplet that names one in a former one."""
    image = observed.current_copy
    if image is None:
        return Leave(Reason.COPY_RECORD_MISSING, "the record of the copy that it names is gone")
    return image if is_present(image, rules) else _copy_to_present(observed, droplet, source, image, rules)


def is_of_droplet(binding: Binding, observed: ObservedDroplet) -> bool:
    """Whether a binding is that of the droplet itself, or of the staging that it came from."""
    if binding.requester == requester_of_droplet(observed.guid):
        return True
    build = observed.build_guid
    return build is not None and binding.requester == requester_of_task(task_of_build(build))


def is_present(image: CachedImage, rules: Rules) -> bool:
    """Whether a copy was made in the present private registry."""
    return not image.registry or rules.cache.is_at(image.registry)


def _pinned_copy(observed: ObservedDroplet, source: ImageReference) -> CachedImage | None:
    """Return a copy of the app that is for certain what the image's digest pins."""
    if source.digest is None:
        return None
    candidates = (observed.image, None if observed.newest is None else observed.newest.image)
    pinned = (each for each in candidates if each is not None)
    return next((each for each in pinned if source.digest in {each.root_digest, each.platform_digest}), None)


def _choose_of_job(
    observed: ObservedDroplet, droplet: Droplet, source: ImageReference, job: CacheJob, rules: Rules
) -> CachedImage | RequestCopy | Leave:
    image = observed.image
    if job.state is not JobState.CACHED:
        return _wait_for(observed, droplet, source, job, rules)
    if image is None:
        return _request_unseen(observed, droplet, source, Reason.COPY_RECORD_MISSING, rules)
    return image if is_present(image, rules) else _copy_to_present(observed, droplet, source, image, rules)


def _copy_to_present(
    observed: ObservedDroplet,
    droplet: Droplet,
    source: ImageReference,
    image: CachedImage,
    rules: Rules,
) -> RequestCopy | Leave:
    """Have a copy that is in a former private registry copied to the present one."""
    job, content = observed.job, image.platform_digest
    if job is not None and job.is_move and job.source.digest == content and job.state is not JobState.CACHED:
        return _wait_for(observed, droplet, source, job, rules)
    return _request(observed, droplet, source, Reason.COPY_IN_FORMER_REGISTRY, content=content)


def _wait_for(
    observed: ObservedDroplet, droplet: Droplet, source: ImageReference, job: CacheJob, rules: Rules
) -> RequestCopy | Leave:
    content = job.source.digest if job.is_move else None
    if job.state is JobState.FAILED:
        if not still_counts(observed, job.updated_at, for_seconds=RETRY_FAILED_AFTER):
            if content is not None:
                return _request(observed, droplet, source, Reason.COPY_IN_FORMER_REGISTRY, content=content)
            return _request_unseen(observed, droplet, source, Reason.RETRYING_COPY, rules)
        if job.failure_code == ErrorCode.CANNOT_RUN_ON_CELLS:
            return Leave(Reason.CANNOT_RUN_ON_CELLS, job.failure_detail)
        return Leave(Reason.COPY_FAILED, job.failure, RETRY_FAILED_AFTER)
    if observed.order is not None and observed.is_paused:  # the job waits unless an order asks for it
        return _request(observed, droplet, source, Reason.WAITING_FOR_COPY, content=content)
    return Leave(Reason.WAITING_FOR_COPY, job.failure)


def still_counts(observed: ObservedDroplet, at: float, *, for_seconds: float) -> bool:
    """Whether a failure at some time is recent; one from before the order does not count."""
    if observed.order is not None and at < min(observed.order.since, observed.now):
        return False
    return is_recent(at, observed.now, for_seconds)


def _request_unseen(
    observed: ObservedDroplet, droplet: Droplet, source: ImageReference, reason: Reason, rules: Rules
) -> RequestCopy | Leave:
    """Request what the image means now, unless the operator wants to wait for a staging that is seen."""
    if rules.unseen_stagings is UnseenStagings.WAIT and source.digest is None:
        return Leave(Reason.WAITING_FOR_STAGING, "its tag may have moved since it was staged")
    return _request(observed, droplet, source, reason)


def _request(
    observed: ObservedDroplet,
    droplet: Droplet,
    source: ImageReference,
    reason: Reason,
    *,
    content: Digest | None = None,
) -> RequestCopy | Leave:
    binding, job, order = observed.binding, observed.job, observed.order
    if order is not None and order.only_cached:
        return Leave(reason, "only droplets that have a copy are to be patched")
    needs_login = bool(observed.username) or (job is not None and job.needs_credentials)
    if content is None and needs_login and observed.credentials is None:
        return Leave(
            Reason.SOURCE_CREDENTIALS_UNKNOWN,
            "Cloud Controller does not show the password: the image is copied when the app is staged or runs",
        )
    is_own = binding is not None and is_of_droplet(binding, observed)
    request = CacheRequest(
        app_guid=droplet.app_guid,
        source=source,
        requester=requester_of_droplet(observed.guid),
        staged_at=binding.staged_at if is_own and binding is not None else int(droplet.created_at * 1e9),
        reason=reason,
        credentials=observed.credentials,
        opted_in=binding is not None and binding.opted_in,
        is_ordered=order is not None,
        content=content,
        organization_guid=observed.organization_guid,
        may_wait=reason is Reason.STAGING_MAY_HAVE_BEEN_MISSED,
    )
    return RequestCopy(request)
