"""Reads a copy in the private registry completely, to verify its digests."""

from controller.engines.contents import read_contents
from controller.engines.copy_limits import CopyLimits
from controller.registry.oci.blob_probes import why_not_readable
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation
from reconcile.errors import ErrorCode, Invalid, NotFound, Unavailable
from reconcile.references import Digest


def read_back(
    repository: Repository, digest: Digest, *, limits: CopyLimits, cancellation: Cancellation
) -> None:
    """Read all documents and blobs of an image and verify their digests, one after the other.

    Raises:
        Invalid: `not-verified` when the digest of a blob is another, or the blob is missing.
        NotFound: A manifest is missing.
    """
    contents = read_contents(repository, digest, limits=limits, cancellation=cancellation)
    buffer = memoryview(bytearray(limits.buffer))
    for blob in contents.own_blobs:
        check_blob(repository, blob, buffer)


def check_blob(repository: Repository, blob: Descriptor, buffer: memoryview) -> None:
    """Read one blob and verify its digest.

    Raises:
        Invalid: `not-verified` when its digest is another, or it is missing, as a whole or in part.
    """
    try:
        with read_blob(repository, blob, buffer) as reader:
            for _ in reader.pieces():
                pass
    except (Invalid, NotFound) as error:
        raise Invalid(error.system, ErrorCode.NOT_VERIFIED, f"{error.code}: {error.detail}") from error
    except Unavailable as error:
        if error.code != ErrorCode.CUT or not why_not_readable(repository, blob):
            raise
        raise Invalid(error.system, ErrorCode.NOT_VERIFIED, f"{error.code}: {error.detail}") from error
