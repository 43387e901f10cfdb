"""Copies the signatures of an image: its referrers, and the tags that cosign derives from its digest."""

import threading
from collections.abc import Collection
from dataclasses import replace

from controller.engines.contents import CopyContents, read_contents
from controller.engines.copy_context import CopyContext
from controller.engines.progress import ProgressMeter
from controller.engines.transfer import Transfer
from controller.registry.oci.manifests import Document
from controller.registry.oci.referrers import add_referrers, artifact_type_of, cosign_tags, list_referrers
from reconcile.copying_ports import Signatures
from reconcile.errors import Denied, Invalid, NotFound
from reconcile.notes import ARTIFACT_TYPE
from reconcile.references import Digest

_MOST_REFERRERS = 100

_writing = threading.Lock()
"""Held while a list under a fallback tag is rewritten, so that our copies do not overwrite each other's."""


def copy_signatures(context: CopyContext, subject: Digest, *, keeps_tags: bool = False) -> Signatures:
    """Copy everything that refers to a manifest, which may be copied before or after.

    What the source does not let be read is left out: it must not keep the image from being copied. The
    bytes are not counted as the image's.

    Args:
        context: Of the copy.
        subject: The manifest.
        keeps_tags: Whether cosign's tags that are in the target stay what they are. A tag holds one list of
            signatures, and that of another source is not more right.

    Raises:
        Invalid: `too-many-referrers` when they are too many, or too large in all.
    """
    uncounted = replace(context, meter=ProgressMeter())
    found = [_copy_referrers(uncounted, subject)]
    tags = cosign_tags(subject)
    found += [_copy_tag(uncounted, tag) for tag in tags if not (keeps_tags and _is_there(context, tag))]
    return _in_all(found)


def _copy_referrers(context: CopyContext, subject: Digest) -> Signatures:
    """Copy the artifacts that name a manifest as their subject."""
    try:
        entries = list_referrers(context.source, subject)
    except Denied:
        return Signatures.DENIED
    if len(entries) > _MOST_REFERRERS:
        raise _too_much(context, subject, f"{len(entries)} referrers are more than 100")
    unlisted, found, size = list[Document](), set[Signatures](), 0
    for entry in entries:
        try:
            contents = _contents(context, entry.digest)
        except Denied:
            found.add(Signatures.DENIED)
            continue
        if artifact_type_of(contents.root) == ARTIFACT_TYPE:
            continue  # a note of this program, about the copy in another private registry
        size += contents.size
        if size > context.limits.max_image_bytes:
            raise _too_much(context, subject, "its referrers are larger than an image may be")
        transfer = Transfer(context)
        transfer.run(contents, str(entry.digest), {})
        found.add(Signatures.COPIED)
        if not transfer.is_listed:
            unlisted.append(contents.root)
    if unlisted:
        with _writing:
            add_referrers(context.target, subject, unlisted)
    return _in_all(found)


def _in_all(found: Collection[Signatures]) -> Signatures:
    """Sum up what became of several artifacts: one that is unknown makes the whole unknown."""
    by_importance = (Signatures.DENIED, Signatures.COPIED)
    return next((each for each in by_importance if each in found), Signatures.NONE)


def _copy_tag(context: CopyContext, tag: str) -> Signatures:
    """Copy what cosign has tagged by the digest of a manifest."""
    try:
        digest = context.source.head_manifest(tag).digest
        contents = _contents(context, digest or context.source.fetch_manifest(tag).digest)
    except NotFound:
        return Signatures.NONE
    except Denied:
        return Signatures.DENIED
    Transfer(context).run(contents, tag, {})
    return Signatures.COPIED


def _is_there(context: CopyContext, tag: str) -> bool:
    try:
        context.target.head_manifest(tag)
    except NotFound:
        return False
    return True


def _too_much(context: CopyContext, subject: Digest, why: str) -> Invalid:
    named = context.source.session.subject(str(subject))
    return Invalid("registry", "too-many-referrers", f"{named}: {why}")


def _contents(context: CopyContext, digest: Digest) -> CopyContents:
    return read_contents(context.source, digest, limits=context.limits, cancellation=context.cancellation)
