"""Copies what refers to an image: its referrers, and the tags that cosign derives from its digest."""

import threading
from dataclasses import replace

from controller.engines.blob_transfer import Copying
from controller.engines.copy_plan import CopyPlan, read_plan
from controller.engines.progress import ProgressMeter
from controller.engines.transfer import Transfer
from controller.registry.manifests import Document
from controller.registry.referrers import add_referrers, fallback_tag, list_referrers
from reconcile.errors import NotFound
from reconcile.images import Digest
from reconcile.ports import Signatures

_LEGACY = ("sig", "att", "sbom")

_writing = threading.Lock()
"""Held while a list under a fallback tag is rewritten: at least we do not race ourselves."""


def copy_signatures(copying: Copying, subject: Digest) -> Signatures:
    """Copy all that refers to a manifest, which itself may be copied before or after.

    Their bytes are not counted among the image's.
    """
    apart = replace(copying, meter=ProgressMeter())
    unlisted: list[Document] = []
    count = 0
    for entry in list_referrers(copying.source, subject):
        transfer, plan = Transfer(apart), _plan(copying, entry.digest)
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


def _plan(copying: Copying, digest: Digest) -> CopyPlan:
    return read_plan(copying.source, digest, limits=copying.limits, cancellation=copying.cancellation)
