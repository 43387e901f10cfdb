"""Finds out what of a copy is missing in the private registry, as deep as it is asked to look."""

from controller.engines.contents import read_contents
from controller.engines.copy_limits import CopyLimits
from controller.registry.oci.blob_probes import why_not_held, why_not_readable
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation, in_parallel
from reconcile.copying_ports import CheckDepth
from reconcile.errors import Invalid, NotFound
from reconcile.references import Digest

_AT_A_TIME = 4
"""Blobs that are asked for at a time: a check is never urgent enough for more."""


def find_missing(
    repository: Repository,
    digest: Digest,
    depth: CheckDepth,
    *,
    limits: CopyLimits,
    cancellation: Cancellation,
) -> str:
    """Say in one line what of a copy is missing or damaged; empty when nothing is, as far as was looked.

    Args:
        repository: The copy, with the tag that cells ask for.
        digest: Of the copy's manifest or index.
        depth: How deep to look.
        limits: Of every copy.
        cancellation: Of this check.

    Raises:
        DockerCacheError: The registry does not answer, or refuses to tell: then nothing is known.
    """
    tag = repository.image.tag_or_digest
    try:
        found = repository.head_manifest(tag).digest or repository.fetch_manifest(tag).digest
    except NotFound as error:
        return f"its manifest ({error.code})"
    if found != digest:
        return f"its tag, which names {found}"
    if depth is CheckDepth.MANIFEST:
        return ""
    try:
        contents = read_contents(repository, digest, limits=limits, cancellation=cancellation)
    except NotFound as error:
        return f"a manifest ({error.code})"
    except Invalid as error:
        return f"a manifest, which is damaged ({error.code})"
    look = why_not_readable if depth is CheckDepth.BYTES else why_not_held

    def ask(blob: Descriptor) -> tuple[Descriptor, str]:
        return blob, look(repository, blob)

    blobs = contents.own_blobs
    asked = in_parallel(ask, blobs, most=_AT_A_TIME, cancellation=cancellation)
    missing = [(blob, why) for blob, why in asked if why]
    if not missing:
        return ""
    first, why = missing[0]
    return f"{len(missing)} of {len(blobs)} blobs: {first.digest} {why}"
