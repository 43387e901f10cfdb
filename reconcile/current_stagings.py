"""Decides whether a staging of an app may have been missed, by what Cloud Controller starts the app from.

The BBS forgets a staging task as soon as it has ended, so after a gap in the events a binding may be out of
date, and the source registry would have to be asked what its tag means now. Cloud Controller knows better: an
app's current droplet came from one build, whose GUID its staging task had.
"""

from dataclasses import dataclass

from reconcile.known_records import KnownCopy
from reconcile.lrps import ProcessGuid
from reconcile.records import Binding, CacheJob, requester_of_lrp
from reconcile.references import ImageReference

CLOCKS_DIFFER_BY = 30.0
"""Seconds by which the clocks of Cloud Controller and of this machine may differ."""


@dataclass(frozen=True, slots=True)
class CurrentStaging:
    """The staging that an app's current droplet came from.

    Attributes:
        source: The image that was staged; None when the droplet names none, or it is not known any more.
        requester: Of the staging task, see `CacheRequest`; empty when the build is not known any more, and
            for the copy of another app's droplet.
        ended_at: When the droplet was made, UTC seconds since 1970.
    """

    source: ImageReference | None
    requester: str
    ended_at: float


def may_be_missed(process_guid: ProcessGuid, copy: KnownCopy, *, is_current: bool) -> bool:
    """Whether a staging may have been missed that an LRP comes from, so that Cloud Controller is asked.

    Args:
        process_guid: Of the LRP.
        copy: What the store knows of its image.
        is_current: Whether no staging since the binding's can have been missed.
    """
    binding = copy.binding
    if binding is None or is_current or binding.source.digest is not None:
        return False
    return binding.requester != requester_of_lrp(process_guid)


def is_of(staging: CurrentStaging, binding: Binding) -> bool:
    """Whether a staging is of the source that a binding is of; else the LRP is of another droplet."""
    return staging.source is not None and staging.source == binding.source


def was_resolved_since(staging: CurrentStaging, job: CacheJob | None) -> bool:
    """Whether a job has resolved its source after a staging, so that it knows what that one may have got."""
    return job is not None and job.created_at >= staging.ended_at + CLOCKS_DIFFER_BY
