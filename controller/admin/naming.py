"""Finds what an operator names by a GUID, a unique prefix of it, or a source reference; never guesses."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice, takewhile
from typing import TypeVar

from controller.admin.grpc_status import SYSTEM
from reconcile.errors import Invalid, NotFound
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, ImageReference, parse_image_reference

SHORTEST_PREFIX = 4
"""Characters of the shortest prefix that names a GUID."""

SHOWN_CANDIDATES = 5
"""Candidates that are named when a name is ambiguous."""

GuidT = TypeVar("GuidT", bound=str)


def find_by_prefix(name: str, guids: Iterable[GuidT]) -> GuidT | None:
    """Find the one GUID that equals a name or begins with it; None when there is none.

    Raises:
        Invalid: `ambiguous`: several GUIDs begin with the name, and none equals it; `name-too-short`.
    """
    guids = tuple(guids)
    matching = [guid for guid in guids if _names(name, guid)]
    exact = [guid for guid in matching if guid == name]
    if len(matching) > 1 and not exact:
        raise _ambiguous(name, sorted(matching))
    if not matching and 0 < len(name) < SHORTEST_PREFIX and any(guid.startswith(name) for guid in guids):
        raise _too_short(name)
    return next(iter(exact or matching), None)


def resolve_guids(names: Iterable[str], guids: Sequence[GuidT]) -> tuple[str, ...]:
    """Replace each name by the GUID that it names; a name without a GUID stays, and so matches nothing.

    Raises:
        Invalid: As `find_by_prefix`.
    """
    return tuple(find_by_prefix(name, guids) or name for name in names)


class ImageNames:
    """Finds cached images by cache GUID, by a prefix of it, or by source reference.

    Both names and images may be very many, so a name is looked up without comparing it with every image.
    """

    def __init__(self, images: Sequence[CachedImage]) -> None:
        self._images = {image.cache_guid: image for image in images}
        self._guids = sorted(self._images)

    @cached_property
    def _by_source(self) -> Mapping[ImageReference, Sequence[CachedImage]]:
        found = dict[ImageReference, list[CachedImage]]()
        for image in self._images.values():
            found.setdefault(image.source.canonical(), []).append(image)
        return found

    def find(self, name: str) -> CachedImage:
        """Find the one cached image that a text names by cache GUID, by a prefix of it, or by source.

        Raises:
            NotFound: `no-such-image`.
            Invalid: `ambiguous`: the text names several; `name-too-short`.
        """
        exact = self._images.get(CacheGuid(name))
        if exact is not None:
            return exact
        by_guid = [self._images[guid] for guid in self._guids_from(name)]
        source = _reference(name)
        by_source = [] if source is None else self._by_source.get(source, ())
        matching = [*by_guid, *(image for image in by_source if image not in by_guid)]
        if len(matching) > 1:
            raise _ambiguous(name, [f"{image.cache_guid} ({image.source})" for image in matching])
        if not matching and self._is_short_prefix(name):
            raise _too_short(name)
        if not matching:
            detail = f"there is no cached image {name[:256]}; `images` lists them"
            raise NotFound(SYSTEM, "no-such-image", detail)
        return matching[0]

    def _guids_from(self, name: str) -> Sequence[CacheGuid]:
        """List the GUIDs that begin with a name; none for a name shorter than `SHORTEST_PREFIX`."""
        if len(name) < SHORTEST_PREFIX:
            return ()
        start = bisect_left(self._guids, name)
        return tuple(takewhile(lambda guid: guid.startswith(name), islice(self._guids, start, None)))

    def _is_short_prefix(self, name: str) -> bool:
        at = bisect_left(self._guids, name)
        begins_one = at < len(self._guids) and self._guids[at].startswith(name)
        return 0 < len(name) < SHORTEST_PREFIX and begins_one


def _names(name: str, guid: str) -> bool:
    return guid == name or (len(name) >= SHORTEST_PREFIX and guid.startswith(name))


def _reference(text: str) -> ImageReference | None:
    try:
        return parse_image_reference(text).canonical()
    except Invalid:
        return None


def _too_short(name: str) -> Invalid:
    detail = f"{name!r} is too short: write at least {SHORTEST_PREFIX} characters of a GUID"
    return Invalid(SYSTEM, "name-too-short", detail)


def _ambiguous(name: str, candidates: Sequence[str]) -> Invalid:
    more = len(candidates) - SHOWN_CANDIDATES
    named = ", ".join(candidates[:SHOWN_CANDIDATES]) + (f" and {more} more" if more > 0 else "")
    return Invalid(SYSTEM, "ambiguous", f"{name[:256]} may mean {named}: write more of it")
