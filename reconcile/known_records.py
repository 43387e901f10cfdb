"""What the store knows of one LRP and of its copy, put together from its records."""

from dataclasses import dataclass

from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import Binding, CachedImage, CacheJob, LrpRecord
from reconcile.references import CacheGuid, ImageReference


@dataclass(frozen=True, slots=True)
class LrpKey:
    """What the records of one LRP are found by.

    Attributes:
        source: None when its rootfs names no image.
        cache_guid: Of the copy that its rootfs names; None for none.
        staged_as: Requester of the staging that it is known to come from; empty where that is not known.
    """

    process_guid: ProcessGuid
    app_guid: AppGuid
    source: ImageReference | None
    cache_guid: CacheGuid | None = None
    staged_as: str = ""


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """A finished copy that an app is known to have been staged with, or to have run from."""

    binding: Binding
    image: CachedImage


@dataclass(frozen=True, slots=True)
class KnownCopy:
    """What the store knows of the copy of an LRP's source image.

    Attributes:
        binding: That of the staging that was asked for; else that of the LRP itself, which stands as long as
            the LRP exists; else the latest of its app for the source.
        job: The binding's.
        image: The job's.
        newest: The newest copy that the app is known to have staged from the source, or to have run.
    """

    binding: Binding | None = None
    job: CacheJob | None = None
    image: CachedImage | None = None
    newest: StagedCopy | None = None


@dataclass(frozen=True, slots=True)
class KnownLrp:
    """What the store knows of one LRP.

    Attributes:
        current_copy: The copy that its rootfs names.
    """

    record: LrpRecord | None = None
    copy: KnownCopy = KnownCopy()
    current_copy: CachedImage | None = None
