"""Finds what an operator names by a GUID, a unique prefix of it, or a source reference; never guesses."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from controller.admin.grpc_status import SYSTEM
from reconcile.errors import Invalid, NotFound
from reconcile.records import CachedImage
from reconcile.references import ImageReference, parse_image_reference

SHORTEST_PREFIX = 4
"""Characters of the shortest prefix that names a GUID."""

SHOWN_CANDIDATES = 5
"""Candidates that are named when a name is ambiguous."""

Text = TypeVar("Text", bound=str)


def find_by_prefix(name: str, guids: Iterable[Text]) -> Text | None:
    """Find the one GUID that a text is, or that it is a prefix of; None when there is none.

    Raises:
        Invalid: `ambiguous`: it is a prefix of several.
    """
    matching = [guid for guid in guids if _names(name, guid)]
    exact = [guid for guid in matching if guid == name]
    if len(matching) > 1 and not exact:
        raise _ambiguous(name, sorted(matching))
    return next(iter(exact or matching), None)


def resolve_guids(names: Iterable[str], guids: Sequence[Text]) -> tuple[str, ...]:
    """Replace each text that names a GUID by the GUID; one that names none stays, and so matches nothing.

    Raises:
        Invalid: `ambiguous`.
    """
    return tuple(find_by_prefix(name, guids) or name for name in names)


def resolve_image(name: str, images: Sequence[CachedImage]) -> CachedImage:
    """Find the one cached image that a text names by cache GUID, by a prefix of it, or by source.

    Raises:
        NotFound: `no-such-image`.
        Invalid: `ambiguous`: the text names several.
    """
    by_guid = [image for image in images if _names(name, image.cache_guid)]
    exact = [image for image in by_guid if image.cache_guid == name]
    source = _reference(name)
    by_source = [image for image in images if source is not None and image.source.canonical() == source]
    matching = exact or [*by_guid, *(image for image in by_source if image not in by_guid)]
    if len(matching) > 1:
        raise _ambiguous(name, [f"{image.cache_guid} ({image.source})" for image in matching])
    if not matching:
        raise NotFound(SYSTEM, "no-such-image", f"there is no cached image {name[:256]}; `images` lists them")
    return matching[0]


def _names(name: str, guid: str) -> bool:
    return guid == name or (len(name) >= SHORTEST_PREFIX and guid.startswith(name))


def _reference(text: str) -> ImageReference | None:
    try:
        return parse_image_reference(text).canonical()
    except Invalid:
        return None


def _ambiguous(name: str, candidates: Sequence[str]) -> Invalid:
    more = len(candidates) - SHOWN_CANDIDATES
    named = ", ".join(candidates[:SHOWN_CANDIDATES]) + (f" and {more} more" if more > 0 else "")
    return Invalid(SYSTEM, "ambiguous", f"{name[:256]} may mean {named}: write more of it")
