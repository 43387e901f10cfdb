"""Defines the limits of copies and how copies are verified."""

from dataclasses import dataclass
from enum import StrEnum


class Verify(StrEnum):
    """How a copy is verified: by the digests that the private registry states, or by reading it back."""

    DIGEST = "digest"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """The limits of copies, and what a copy includes.

    Attributes:
        max_image_bytes: Sum of the sizes of an image's distinct blobs.
        max_layers: Layers of one manifest.
        blobs_at_a_time: Blobs of one image that are copied at the same time.
        copies_at_a_time: Images that are copied at the same time; further ones wait.
        buffer: Bytes of the buffer of each blob that is being copied.
        verify: How a copy is verified.
        copy_foreign_layers: Fetch layers from the URLs that their manifest names, where the private
            registry does not take the manifest without them.
        copy_referrers: Copy signatures and other referrers of the image.
    """

    max_image_bytes: int = 20 * 1024**3
    max_layers: int = 200
    blobs_at_a_time: int = 8
    copies_at_a_time: int = 8
    buffer: int = 1024 * 1024
    verify: Verify = Verify.DIGEST
    copy_foreign_layers: bool = False
    copy_referrers: bool = False
