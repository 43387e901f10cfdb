"""Reads blobs at their source completely, so that it shows that it holds what their digests name."""

from collections.abc import Sequence

from controller.engines.copy_limits import CopyLimits
from controller.engines.possession import Possession
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation, in_parallel


def show_blobs(
    source: Repository,
    blobs: Sequence[Descriptor],
    possession: Possession,
    *,
    limits: CopyLimits,
    cancellation: Cancellation,
) -> int:
    """Read all blobs that were not shown before, verify their digests, and return the number of bytes.

    Raises:
        Invalid: The bytes are not those that a digest names.
        NotFound: The source does not hold a blob.
    """

    def show(blob: Descriptor) -> int:
        if possession.is_shown(blob):
            return 0
        with read_blob(source, blob, memoryview(bytearray(limits.buffer))) as reader:
            return sum(len(piece) for piece in reader.pieces())

    return sum(in_parallel(show, blobs, most=limits.blobs_at_a_time, cancellation=cancellation))
