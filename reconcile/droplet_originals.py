"""Finds what a droplet named before it named a copy, where no record of it is left.

A record from before the first change holds the text itself: a backup of the database may be that old. The
package of the droplet holds what the user pushed. A droplet that was copied from another one has no package;
what that other one named is known by its record, where all the records of the copy agree.
"""

from reconcile.droplet_actions import Leave, ObservedDroplet, SaveDropletRecord
from reconcile.droplet_texts import check_text, image_of_text
from reconcile.droplets import Droplet, DropletPhase, DropletRecord
from reconcile.errors import Invalid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, CacheRepositories


def adopted(
    observed: ObservedDroplet, droplet: Droplet, guid: CacheGuid, cache: CacheRepositories
) -> SaveDropletRecord | Leave:
    """Write a record of a droplet that names a copy, if its original text can be found."""
    package = observed.package
    if package is not None and _is_of_ours(package.image, cache):
        return Leave(Reason.ALREADY_CACHED, "its owner pushed the name of a copy")
    before, username = observed.record, observed.username if package is None else package.username
    original = None if before is None else _usable(before.original, cache)
    if original is None and package is not None:
        original = _usable(package.image, cache)
    elif original is None and droplet.package_guid is None:
        original = _agreed_original(observed.siblings, guid, cache)
    named = image_of_text(droplet.image)
    if original is None or droplet.image is None or named is None:
        return Leave(Reason.SOURCE_UNKNOWN, "the record of it is gone, and so is its package")
    record = DropletRecord(
        droplet.guid,
        droplet.app_guid,
        observed.build_guid,
        original=original,
        username=username or ("" if before is None else before.username),
        cache_guid=guid,
        registry=named.domain,
        target=droplet.image,
        phase=DropletPhase.PATCHED,
        reason=Reason.DROPLET_PATCHED,
        created_at=observed.now if before is None else before.created_at,
        updated_at=observed.now,
    )
    return SaveDropletRecord(record)


def _is_of_ours(text: str | None, cache: CacheRepositories) -> bool:
    image = image_of_text(text)
    return image is not None and cache.owns(image)


def _usable(text: str | None, cache: CacheRepositories) -> str | None:
    """Return a text that may be written into a droplet and names no private registry of ours."""
    if text is None or image_of_text(text) is None or _is_of_ours(text, cache):
        return None
    try:
        check_text(text)
    except Invalid:
        return None
    return text


def _agreed_original(
    siblings: tuple[DropletRecord, ...], guid: CacheGuid, cache: CacheRepositories
) -> str | None:
    """Return what all droplets with a copy named before; None when they differ."""
    known = {
        image_of_text(each.original): each.original
        for each in siblings
        if each.cache_guid == guid and _usable(each.original, cache) is not None
    }
    return next(iter(known.values())) if len(known) == 1 else None
