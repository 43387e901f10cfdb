"""Copies what refers to an image: its referrers, and the tags that cosign derives from its digest."""

import threading
from dataclasses import replace

from controller.engines.blob_transfer import Copying
from controller.engines.copy_plan import CopyPlan, read_plan
from controller.engines.progress import ProgressMeter
from controller.engines.transfer import Transfer
from controller.registry.manifests import Document
from controller.registry.referrers import add_referrers, fallback_tag, list_referrers
from reconcile.errors import Invalid, NotFound
from reconcile.images import Digest
from reconcile.ports import Signatures

_MOST_REFERRERS = 100
_LEGACY = ("sig", "att", "sbom")

_writing = threading.Lock()
"""Held while a list under a fallback tag is rewritten: at least we do not race ourselves."""


def copy_signatures(copying: Copying, subject: Digest) -> Signatures:
    """Copy all that refers to a manifest, which itself may be copied before or after.

    Their bytes are not counted among the image's.

    Raises:
        Invalid: `too-many-referrers` when they are more, or larger in all, than is reasonable.
    """
    apart = replace(copying, meter=ProgressMeter())
    unlisted: list[Document] = []
    entries = list_referrers(copying.source, subject)
    if len(entries) > _MOST_REFERRERS:
        raise _too_much(copying, subject, f"{len(entries)} things refer to it")
    count = size = 0
    for entry in entries:
        transfer, plan = Transfer(apart), _plan(copying, entry.digest)
        size += plan.size
        if size > copying.limits.max_image_bytes:
            raise _too_much(copying, subject, "what refers to it is larger than images may be")
        transfer.run(plan, str(entry.digest), {})
        count += 1
        if not transfer.is_listed:
            unlisted.append(plan.root)
    if unlisted:
        with _writing:
            add_referrers(copying.target, subject, unlisted)
    for suffix in _LEGACY:
        tag = f"{fallback_tag(subject)}.{suffix}"
        try:
            digest = copying.source.head_manifest(tag).digest
            digest = digest or copying.source.fetch_manifest(tag).digest
        except NotFound:
            continue
        Transfer(apart).run(_plan(copying, digest), tag, {})
        count += 1
    return Signatures.COPIED if count else Signatures.NONE


def _too_much(copying: Copying, subject: Digest, why: str) -> Invalid:
    named = copying.source.session.subject(str(subject))
    return Invalid("registry", "too-many-referrers", f"{named}: {why}")


def _plan(copying: Copying, digest: Digest) -> CopyPlan:
    return read_plan(copying.source, digest, limits=copying.limits, cancellation=copying.cancellation)
