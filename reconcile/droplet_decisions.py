"""Turns what was observed of one droplet into the next action, with its reason.

The decision is pure: the same observation gives the same action, and an observation of what that action
brings about leads to the next one, until nothing is to be done. A droplet is written into only while it
holds the image that it was staged with, or a URL of a private registry of ours.
"""

from dataclasses import replace

from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    ObservedDroplet,
    PatchDroplet,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_changes import noted_as_patched, noted_as_restored, patch_begun, rounds_before
from reconcile.droplet_choice import (
    choose_copy_for_droplet,
    choose_for_former,
    is_of_droplet,
    refusal_for_droplet,
)
from reconcile.droplet_originals import adopted
from reconcile.droplet_returns import why_back, why_lost, why_not_started
from reconcile.droplet_texts import image_of_text, text_of_copy
from reconcile.droplets import (
    LATE_EFFECT,
    Build,
    BuildState,
    Droplet,
    DropletGuid,
    DropletPhase,
    DropletRecord,
)
from reconcile.errors import Invalid
from reconcile.foreign_text import one_line
from reconcile.observed import Rules
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, ImageReference
from reconcile.times import seconds_until

GONE_FOR = 7 * 86_400.0
"""Seconds after which a patched droplet that Cloud Controller does not show is forgotten.

It also hides what a client may not read, and then the record is the last that knows the original text.
"""

LOOK_FOR_DROPLET = 1.0
"""Seconds after which a build that is staged is read again: its droplet comes a moment later."""

MOST_SAVES = 3
"""Decisions in a row that only save a record; with as many, the decision does not come to rest."""

_WRITTEN = frozenset({DropletPhase.PATCHING, DropletPhase.PATCHED, DropletPhase.RESTORING})


_NO_IMAGE = "its image text names no image that a registry can have"


def droplet_of_build(build: Build | None) -> DropletGuid | Leave:
    """Return what a build led to once its staging task has ended, or why there is nothing yet, or ever."""
    if build is None:
        return Leave(Reason.BUILD_GONE)
    if build.state is BuildState.FAILED:
        return Leave(Reason.BUILD_FAILED)
    if build.droplet_guid is None:
        return Leave(Reason.WAITING_FOR_STAGING, "its build has no droplet yet", LOOK_FOR_DROPLET)
    return build.droplet_guid


def decide_droplet(observed: ObservedDroplet, rules: Rules) -> DropletAction:
    """Decide the next action for one droplet."""
    droplet = observed.droplet
    if droplet is None:
        return _gone(observed)
    if not droplet.is_staged:
        return Leave(Reason.DROPLET_NOT_STAGED, one_line(droplet.state))
    if not droplet.is_docker:
        return Leave(Reason.NOT_DOCKER)
    named = image_of_text(droplet.image)
    if named is None:
        return _without_image(observed, droplet)
    if rules.cache.covers(named):
        return _on_copy(observed, droplet, named, rules)
    if rules.cache.former_of(named) is not None or _is_written(observed, droplet):
        return _on_former_copy(observed, droplet, named, rules)
    return _on_source(observed, droplet, named, rules)


def predict_droplet_action(observed: ObservedDroplet, rules: Rules) -> tuple[ObservedDroplet, DropletAction]:
    """Decide what follows all decisions that would only save something, for a plan, which saves nothing.

    Returns:
        The observation with the record that would have been saved, and the action, which saves nothing.
    """
    for _ in range(MOST_SAVES):
        action = decide_droplet(observed, rules)
        if not isinstance(action, SaveDropletRecord):
            return observed, action
        observed = replace(observed, record=action.record)
    raise AssertionError("the decision about a droplet does not come to rest")


def _gone(observed: ObservedDroplet) -> DropletAction:
    record = observed.record
    if record is None or not record.target:
        return ForgetDroplet()
    gone_for = observed.now - record.updated_at if record.reason is Reason.DROPLET_GONE else 0.0
    if gone_for < 0:  # the clock was set back since
        return SaveDropletRecord(replace(record, updated_at=observed.now))
    return ForgetDroplet() if gone_for >= GONE_FOR else Leave(Reason.DROPLET_GONE)


def _without_image(observed: ObservedDroplet, droplet: Droplet) -> Leave:
    """Decide about a droplet whose text names no image that a registry can have."""
    if observed.record is not None and observed.record.target:
        return Leave(Reason.IMAGE_CHANGED_EXTERNALLY, _NO_IMAGE)
    if droplet.image is None:
        return Leave(Reason.NOT_CACHEABLE, "it has no image text")
    return Leave(Reason.NOT_CACHEABLE, _NO_IMAGE)


def _is_written(observed: ObservedDroplet, droplet: Droplet) -> bool:
    """Whether the droplet has a text that this program wrote, of a registry that the config may not name."""
    record = observed.record
    return record is not None and record.target == droplet.image


def _on_copy(
    observed: ObservedDroplet, droplet: Droplet, named: ImageReference, rules: Rules
) -> DropletAction:
    """Decide about a droplet that names the present private registry."""
    guid = _guid_named(observed, droplet, named, rules.cache)
    record = observed.record
    if guid is None:
        return Leave(Reason.ALREADY_CACHED, "it names the private registry, and no copy of this program")
    if record is None or not record.target:
        return adopted(observed, droplet, guid, rules.cache)
    why = why_back(observed) or why_lost(observed, record) or why_not_started(observed)
    if why is not None:
        return _restore(observed, droplet, record, why)
    if record.phase is not DropletPhase.PATCHED or record.target != droplet.image:
        return SaveDropletRecord(noted_as_patched(observed, record, droplet, guid, rules.cache))
    copy = observed.current_copy
    if copy is None:
        return Leave(Reason.COPY_UNKNOWN)
    if copy.missing_since:
        return Leave(Reason.COPY_INCOMPLETE, copy.missing)
    return Leave(Reason.DROPLET_PATCHED)


def _on_former_copy(
    observed: ObservedDroplet, droplet: Droplet, named: ImageReference, rules: Rules
) -> DropletAction:
    """Decide about a droplet that names a copy in another private registry than the present one."""
    former, record = rules.cache.former_of(named), observed.record
    if record is None or not record.target:
        guid = None if former is None else former.guid_of(named)
        if guid is None:
            return Leave(Reason.SOURCE_UNKNOWN, f"it names {named.domain}, and no copy of this program")
        return adopted(observed, droplet, guid, rules.cache)
    why = why_back(observed) or why_lost(observed, record)
    if why is not None:
        return _restore(observed, droplet, record, why)
    if former is None:
        detail = f"{named.domain} holds a copy that the records know: list it in former_cache_registries"
        return Leave(Reason.REGISTRY_NOT_CONFIGURED, detail)
    source = image_of_text(record.original)
    if source is None:
        return Leave(Reason.SOURCE_UNKNOWN, "what it named before is no image that a registry can have")
    obstacle = _why_not_now(observed, droplet, named)
    if obstacle is not None:
        return obstacle
    chosen = choose_for_former(observed, droplet, source, rules)
    action = _patch(observed, droplet, chosen, rules) if isinstance(chosen, CachedImage) else chosen
    failure = why_not_started(observed)
    if failure is None or isinstance(action, PatchDroplet):
        return action
    return _restore(observed, droplet, record, failure)  # it names the new copy once that may be used


def _on_source(
    observed: ObservedDroplet, droplet: Droplet, named: ImageReference, rules: Rules
) -> DropletAction:
    """Decide about a droplet that names no private registry of ours."""
    record = observed.record
    if record is not None and record.target and image_of_text(record.original) != named:
        return Leave(Reason.IMAGE_CHANGED_EXTERNALLY, f"it names {named} now")
    binding = observed.binding
    if binding is not None and is_of_droplet(binding, observed) and binding.source != named:
        return Leave(
            Reason.IMAGE_CHANGED_EXTERNALLY, f"it was staged with {binding.source}, and names {named}"
        )
    if record is not None and record.phase is DropletPhase.RESTORING:
        return SaveDropletRecord(noted_as_restored(record, observed.now))
    why = why_back(observed)
    if why is not None:
        return _stay_on_source(observed, why)
    if not droplet.app_guid:
        return Leave(Reason.NO_APP_GUID, "without one it would share the copies of other apps")
    refusal = refusal_for_droplet(observed, named, rules)
    if refusal is not None:
        return refusal
    obstacle = _why_not_now(observed, droplet, named)
    if obstacle is not None:
        return obstacle
    chosen = choose_copy_for_droplet(observed, droplet, named, rules)
    return _patch(observed, droplet, chosen, rules) if isinstance(chosen, CachedImage) else chosen


def _stay_on_source(observed: ObservedDroplet, why: Leave) -> DropletAction:
    """Decide about a droplet that has its original text, and is to keep it."""
    record = observed.record
    if record is None or record.phase not in _WRITTEN:
        return replace(why, reason=Reason.RESTORED) if observed.is_order_to_restore else why
    if record.phase is DropletPhase.PATCHING:
        late = seconds_until(record.updated_at + LATE_EFFECT, observed.now, longest=LATE_EFFECT)
        if late:
            return Leave(Reason.PATCH_UNCONFIRMED, "a request to patch it may still take effect", late)
    return SaveDropletRecord(noted_as_restored(record, observed.now))


def _restore(
    observed: ObservedDroplet, droplet: Droplet, record: DropletRecord, why: Leave
) -> RestoreDroplet | Leave:
    order = observed.order
    if order is None and observed.is_paused:
        return Leave(Reason.PAUSED)
    if order is not None and order.image is not None and order.image != droplet.image:
        return Leave(Reason.PLAN_IS_STALE, "its image text changed since")
    waiting = _waits(observed, record)
    if waiting is not None:
        return waiting
    begun = replace(
        record,
        phase=DropletPhase.RESTORING,
        reason=Reason.RESTORING_DROPLET,
        detail=f"{why.reason}: {why.detail}" if why.detail else why.reason.value,
        attempts=record.attempts + 1 if record.phase is DropletPhase.RESTORING else 1,
        not_before=0.0,
        updated_at=observed.now,
    )
    return RestoreDroplet(begun, why.reason)


def _why_not_now(observed: ObservedDroplet, droplet: Droplet, named: ImageReference) -> Leave | None:
    """Say why a droplet that may be patched is not looked after now."""
    order, record = observed.order, observed.record
    if order is not None and order.image is not None and order.image != droplet.image:
        return Leave(Reason.PLAN_IS_STALE, f"it names {named} now")
    if order is None and observed.is_paused:
        return Leave(Reason.PAUSED)
    if record is None:
        return None
    rounds = rounds_before(observed)
    if rounds >= MAX_ROUNDS:
        return Leave(Reason.REVERTED_EXTERNALLY, f"somebody else reverted {rounds} changes")
    return _waits(observed, record)


def _waits(observed: ObservedDroplet, record: DropletRecord) -> Leave | None:
    """Leave a droplet whose last request failed until it is due; an order does not wait for that."""
    if observed.order is not None and record.updated_at < observed.order.since:
        return None
    left = seconds_until(record.not_before, observed.now)
    return Leave(record.reason, record.detail, left) if left else None


def _patch(
    observed: ObservedDroplet, droplet: Droplet, image: CachedImage, rules: Rules
) -> PatchDroplet | VerifyDropletCopy | Leave:
    try:
        text = text_of_copy(rules.cache, image.cache_guid)
    except Invalid as error:
        return Leave(Reason.COPY_NAME_REFUSED, error.detail)
    order = observed.order
    if order is not None and order.target not in {None, text}:
        return Leave(Reason.PLAN_IS_STALE, f"its copy is {text} now")
    if image.missing_since:
        return Leave(Reason.COPY_LOST if image.lost_since else Reason.COPY_INCOMPLETE, image.missing)
    if observed.obstacle is not None:
        return observed.obstacle
    if image.needs_verification_since:
        return VerifyDropletCopy(image, text)
    return PatchDroplet(patch_begun(observed, droplet, image, text, rules.cache.address), image)


def _guid_named(
    observed: ObservedDroplet, droplet: Droplet, named: ImageReference, cache: CacheRepositories
) -> CacheGuid | None:
    """Read which copy a droplet names; a text from before another template is known by its record."""
    guid, record = cache.guid_of(named), observed.record
    if guid is not None or record is None or record.target != droplet.image:
        return guid
    return record.cache_guid
