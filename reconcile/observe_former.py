"""Observes an LRP that runs from a copy in another private registry than the present one.

The config names such registries as former ones. One that it does not name is known by the GUID in the name of
the copy, which is random: no image of a source has it by chance.
"""

from dataclasses import replace

from reconcile.droplet_sources import source_of_droplet
from reconcile.facts import Facts, PassContext
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import DesiredLrp
from reconcile.migrations import OriginalSource
from reconcile.observed import FormerCopy, Observed
from reconcile.records import CachedImage
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    ImageReference,
    guid_like_in,
    rootfs_from_image_text,
    source_from_rootfs,
)


async def observe_former_copy(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, facts: Facts, context: PassContext
) -> Observed:
    """Observe what an LRP ran from before, if its rootfs names a copy in another private registry.

    Its source is what it ran from before its migration, else what its copy was made from; never a copy.
    """
    cache = context.cache
    former, guid = cache.former_of(source), guid_of_former(source, cache)
    if former is None and guid is None:
        return observed
    original_source = await facts.records.find_original_source(observed.process_guid)
    found = None
    if lrp.app_guid and guid is not None and (original_source is None or original_source.cache_guid != guid):
        records = await facts.records.list_droplets_of_app(lrp.app_guid)
        found = source_of_droplet(lrp, guid, records, context.pull_credentials)
        original_source = found or original_source
    image = None if guid is None else await facts.records.find_image(guid)
    is_known = image is not None or (original_source is not None and original_source.cache_guid == guid)
    if former is None and not is_known:
        return observed
    true_source = true_source_of(original_source, image, cache)
    copy = KnownCopy()
    if true_source is not None and lrp.app_guid:
        copy = await facts.records.find_copy(LrpKey(observed.process_guid, lrp.app_guid, true_source))
    original = _own_original(original_source, true_source)
    is_of_app = original is not None or _has_staged(copy, guid)
    if original is None and true_source is not None and guid is not None and is_of_app:
        original = OriginalSource(
            observed.process_guid,
            guid,
            rootfs_from_image_text(str(true_source)),
            needs_credentials=copy.job is not None and copy.job.needs_credentials,
            credentials=None,
        )
    return replace(
        observed,
        original_source=original,
        is_source_found=original is not None and original is found,
        binding=copy.binding,
        job=copy.job,
        image=copy.image,
        newest=copy.newest,
        former_copy=FormerCopy(
            registry=source.domain,
            is_configured=former is not None,
            source=true_source,
            credentials=None if original is None else original.credentials,
            image=image,
            is_of_app=is_of_app,
        ),
    )


def guid_of_former(source: ImageReference, cache: CacheRepositories) -> CacheGuid | None:
    """Read the GUID of a copy out of its name in another private registry; None when it has none."""
    former = cache.former_of(source)
    return guid_like_in(source) if former is None else former.guid_of(source)


def true_source_of(
    original_source: OriginalSource | None, image: CachedImage | None, cache: CacheRepositories
) -> ImageReference | None:
    """Return what an LRP ran from before its copy, and never a copy of ours; None when nobody knows."""
    before = None if original_source is None else source_from_rootfs(original_source.rootfs)
    for each in (before, None if image is None else image.source):
        if each is not None and not cache.owns(each):
            return each
    return None


def _own_original(
    original_source: OriginalSource | None, true_source: ImageReference | None
) -> OriginalSource | None:
    """Return what the LRP itself ran from; None when its record names something else than its source."""
    if original_source is None or source_from_rootfs(original_source.rootfs) != true_source:
        return None
    return original_source


def _has_staged(copy: KnownCopy, guid: CacheGuid | None) -> bool:
    staged = (copy.image, None if copy.newest is None else copy.newest.image)
    return any(image is not None and image.cache_guid == guid for image in staged)
