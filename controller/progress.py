"""What can be asked of a copy that is under way."""

from typing import Protocol


class Progress(Protocol):
    """How much of a copy is done, in bytes."""

    @property
    def total(self) -> int:
        """Bytes of all layers; 0 until it is known."""

    @property
    def moved(self) -> int:
        """Bytes that were transferred."""

    @property
    def skipped(self) -> int:
        """Bytes that were in the private registry already."""

    @property
    def retries(self) -> int:
        """Layers whose transfer was started again."""
