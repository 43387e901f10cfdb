"""Finds out by canaries, tasks and LRPs of our own, whether cells can pull from the private registry."""

from controller.canary.loop import CanaryLoop, UnaskedCells
from controller.canary.prober import Prober

__all__ = ["CanaryLoop", "Prober", "UnaskedCells"]
