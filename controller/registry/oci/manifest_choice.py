"""Chooses the manifest of an index that cells take, since another one has other files.

Source: containers/image internal/manifest/oci_index.go and docker_schema2_list.go, which grootfs and groot
(2024 and 2026) choose by. Annotations count in OCI indexes alone, and so does an entry without a platform.
"""

from controller.registry.oci.manifests import DOCKER_LIST, Descriptor, Index
from controller.registry.oci.platforms import Platform, rank_of

_LAST = 1000
"""Rank of an entry without a platform, which is taken when no other fits."""


def choose_entry(index: Index, wanted: Platform) -> Descriptor | None:
    """Choose as a cell of a platform does; None when nothing fits, and a cell refuses the image.

    The platform decides first, then the mark of zstd, then the place in the index: the first one is taken.
    """
    ranked = [(rank, entry) for entry in index.entries if (rank := _rank(index, entry, wanted)) is not None]
    return min(ranked, key=lambda each: each[0])[1] if ranked else None


def _rank(index: Index, entry: Descriptor, wanted: Platform) -> tuple[int, bool] | None:
    if index.media_type == DOCKER_LIST:
        rank = None if entry.platform is None else rank_of(wanted, entry.platform)
        return None if rank is None else (rank, False)
    rank = _LAST if entry.platform is None else rank_of(wanted, entry.platform)
    return None if rank is None else (rank, not entry.is_marked_zstd)
