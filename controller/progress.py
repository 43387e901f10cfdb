"""Defines the progress of a copy that is under way, as callers read it."""

from typing import Protocol


class Progress(Protocol):
    """The progress of a copy."""

    @property
    def total(self) -> int:
        """Bytes of all blobs; 0 until they are known."""

    @property
    def transferred(self) -> int:
        """Bytes that were transferred."""

    @property
    def skipped(self) -> int:
        """Bytes that were in the private registry already."""

    @property
    def retries(self) -> int:
        """Number of blobs that were transferred again, and of transfers that were resumed."""
