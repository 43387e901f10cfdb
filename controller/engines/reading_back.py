"""Reads a copy in the private registry whole, to know that it is what its digest says."""

from controller.engines.copy_plan import CopyLimits, read_plan
from controller.registry.blobs import read_blob
from controller.registry.cancellation import Cancellation
from controller.registry.manifests import Descriptor
from controller.registry.repository import Repository
from reconcile.errors import Invalid, NotFound
from reconcile.images import Digest


def read_back(
    repository: Repository, digest: Digest, *, limits: CopyLimits, cancellation: Cancellation
) -> None:
    """Read all documents and blobs of an image and hash them, one after the other in one buffer.

    Raises:
        Invalid: `not-verified` when a blob is not what it should be.
        NotFound: Something of it is missing.
    """
    plan = read_plan(repository, digest, limits=limits, cancellation=cancellation)
    buffer = memoryview(bytearray(limits.buffer))
    for blob in plan.own_blobs:
        check_blob(repository, blob, buffer)


def check_blob(repository: Repository, blob: Descriptor, buffer: memoryview) -> None:
    """Read one blob and hash it.

    Raises:
        Invalid: `not-verified` when it is not what it should be, or not there.
    """
    try:
        with read_blob(repository, blob, buffer) as reader:
            for _ in reader.pieces():
                pass
    except (Invalid, NotFound) as error:
        raise Invalid(error.system, "not-verified", f"{error.code}: {error.detail}") from error
