"""Copies the signatures of an image: its referrers, and the tags that cosign derives from its digest."""

import threading
from contextlib import suppress
from dataclasses import replace

from controller.engines.contents import CopyContents, read_contents
from controller.engines.copy_context import CopyContext
from controller.engines.progress import ProgressMeter
from controller.engines.transfer import Transfer
from controller.registry.oci.manifests import Document
from controller.registry.oci.referrers import add_referrers, artifact_type_of, fallback_tag, list_referrers
from reconcile.copying_ports import Signatures
from reconcile.errors import DockerCacheError, Invalid, NotFound
from reconcile.notes import ARTIFACT_TYPE
from reconcile.references import Digest

_MOST_REFERRERS = 100
_LEGACY = ("sig", "att", "sbom")

_writing = threading.Lock()
"""Held while a list under a fallback tag is rewritten, so that our copies do not overwrite each other's."""


def copy_signatures(context: CopyContext, subject: Digest, index: Digest | None = None) -> Signatures:
    """Copy everything that refers to a manifest, which may be copied before or after.

    The bytes are not counted as the image's.

    Args:
        context: Of the copy.
        subject: The manifest.
        index: The index that it was chosen out of. What refers to that is not copied without it, since nobody
            would find it; it is looked for where nothing refers to the manifest.

    Raises:
        Invalid: `too-many-referrers` when they are too many, or too large in all.
    """
    uncounted = replace(context, meter=ProgressMeter())
    unlisted: list[Document] = []
    entries = list_referrers(context.source, subject)
    if len(entries) > _MOST_REFERRERS:
        raise _too_much(context, subject, f"{len(entries)} referrers are more than 100")
    count = size = 0
    for entry in entries:
        transfer, contents = Transfer(uncounted), _contents(context, entry.digest)
        if artifact_type_of(contents.root) == ARTIFACT_TYPE:
            continue  # a note of this program, about the copy in another private registry
        size += contents.size
        if size > context.limits.max_image_bytes:
            raise _too_much(context, subject, "its referrers are larger than an image may be")
        transfer.run(contents, str(entry.digest), {})
        count += 1
        if not transfer.is_listed:
            unlisted.append(contents.root)
    if unlisted:
        with _writing:
            add_referrers(context.target, subject, unlisted)
    for suffix in _LEGACY:
        tag = f"{fallback_tag(subject)}.{suffix}"
        try:
            digest = context.source.head_manifest(tag).digest
            digest = digest or context.source.fetch_manifest(tag).digest
        except NotFound:
            continue
        Transfer(uncounted).run(_contents(context, digest), tag, {})
        count += 1
    if count:
        return Signatures.COPIED
    return Signatures.NONE if index is None else _look_for_those_of_index(context, index)


def _look_for_those_of_index(context: CopyContext, index: Digest) -> Signatures:
    """Find out whether something refers to an index that is not copied; not to find out fails nothing."""
    try:
        if list_referrers(context.source, index):
            return Signatures.OF_INDEX
        for suffix in _LEGACY:
            with suppress(NotFound):
                context.source.head_manifest(f"{fallback_tag(index)}.{suffix}")
                return Signatures.OF_INDEX
    except DockerCacheError:
        return Signatures.UNKNOWN
    return Signatures.NONE


def _too_much(context: CopyContext, subject: Digest, why: str) -> Invalid:
    named = context.source.session.subject(str(subject))
    return Invalid("registry", "too-many-referrers", f"{named}: {why}")


def _contents(context: CopyContext, digest: Digest) -> CopyContents:
    return read_contents(context.source, digest, limits=context.limits, cancellation=context.cancellation)
