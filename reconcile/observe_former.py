"""Observes an LRP that runs from a copy in another private registry than the present one.

The config names such registries as former ones. One that it does not name is known by the GUID in the name of
the copy, which is random: no image of a source has it by chance.
"""

from dataclasses import dataclass, replace

from reconcile.droplet_sources import source_of_droplet
from reconcile.facts import Facts, PassContext, RecordFacts
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import Credentials, DesiredLrp
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


@dataclass(frozen=True, slots=True)
class ReadFormer:
    """What is read of an LRP that runs from a copy in another private registry, before its source's copy.

    Attributes:
        registry: Its address.
        is_configured: Whether the config names it among the former ones.
        guid: The copy's; None where its name has none.
        original_source: What the LRP ran from before, or ran from before another copy.
        found: That, if a droplet of the LRP's app says it.
        image: The record of the copy; None when it is gone.
        source: What the copy was made from; None when that is not known.
        copy_key: By which the copy of the source is found; None where there is none to look for.
    """

    registry: str
    is_configured: bool
    guid: CacheGuid | None
    original_source: OriginalSource | None
    found: OriginalSource | None
    image: CachedImage | None
    source: ImageReference | None
    copy_key: LrpKey | None


async def read_former(
    lrp: DesiredLrp, records: RecordFacts, cache: CacheRepositories, cells: Credentials | None
) -> ReadFormer | None:
    """Read what an LRP ran from before; None unless its rootfs names a copy in another private registry.

    Its source is what it ran from before its migration, else what its copy was made from; never a copy.

    Args:
        lrp: It is desired.
        records: What can be known of it.
        cache: How copies are named.
        cells: The login that cells have at the private registry.
    """
    named = source_from_rootfs(lrp.rootfs)
    if named is None or cache.covers(named):
        return None
    former, guid = cache.former_of(named), guid_of_copy(named, cache)
    if former is None and guid is None:
        return None
    original_source = await records.find_original_source(lrp.process_guid)
    found = None
    if lrp.app_guid and guid is not None and (original_source is None or original_source.cache_guid != guid):
        droplets = await records.list_droplets_of_app(lrp.app_guid)
        found = source_of_droplet(lrp, guid, droplets, cells)
        original_source = found or original_source
    image = None if guid is None else await records.find_image(guid)
    is_known = image is not None or (original_source is not None and original_source.cache_guid == guid)
    if former is None and not is_known:
        return None
    source = _true_source_of(original_source, image, cache)
    has_key = source is not None and lrp.app_guid
    return ReadFormer(
        registry=named.domain,
        is_configured=former is not None,
        guid=guid,
        original_source=original_source,
        found=found,
        image=image,
        source=source,
        copy_key=LrpKey(lrp.process_guid, lrp.app_guid, source) if has_key else None,
    )


async def observe_former_copy(
    observed: Observed, lrp: DesiredLrp, facts: Facts, context: PassContext
) -> Observed:
    """Observe what an LRP ran from before, if its rootfs names a copy in another private registry."""
    former = await read_former(lrp, facts.records, context.cache, context.pull_credentials)
    if former is None:
        return observed
    true_source, guid = former.source, former.guid
    copy = KnownCopy() if former.copy_key is None else await facts.records.find_copy(former.copy_key)
    original = _own_original(former.original_source, true_source)
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
        is_source_found=original is not None and original is former.found,
        binding=copy.binding,
        job=copy.job,
        image=copy.image,
        newest=copy.newest,
        former_copy=FormerCopy(
            registry=former.registry,
            is_configured=former.is_configured,
            source=true_source,
            credentials=None if original is None else original.credentials,
            image=former.image,
            is_of_app=is_of_app,
        ),
    )


def guid_of_copy(source: ImageReference, cache: CacheRepositories) -> CacheGuid | None:
    """Read the GUID of a copy out of its name, in the private registry or another; None when it has none."""
    if cache.covers(source):
        return cache.guid_of(source)
    former = cache.former_of(source)
    return guid_like_in(source) if former is None else former.guid_of(source)


def _true_source_of(
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
