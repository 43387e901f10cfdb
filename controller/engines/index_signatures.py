"""Looks for signatures of an index of which one platform is copied: they are reported, and not copied.

Whoever verifies the copy asks for what refers to the copy's own digest, and would never find them.
"""

from contextlib import suppress

from controller.registry.oci.referrers import cosign_tags, list_referrers
from controller.registry.oci.repository import Repository
from reconcile.copying_ports import Signatures
from reconcile.errors import DockerCacheError, NotFound
from reconcile.references import Digest


def find_signatures_of_index(source: Repository, index: Digest) -> Signatures:
    """Find out whether something refers to an index; that it cannot be found out is no failure."""
    try:
        if list_referrers(source, index):
            return Signatures.OF_INDEX
        for tag in cosign_tags(index):
            with suppress(NotFound):
                source.head_manifest(tag)
                return Signatures.OF_INDEX
    except DockerCacheError:
        return Signatures.UNKNOWN
    return Signatures.NONE
