"""Finds out by canaries, tasks and LRPs of our own, whether cells can pull from the private registry."""

from controller.canary.droplet_pulls import DropletPulls
from controller.canary.loop import CanaryLoop
from controller.canary.null_canary_loop import NullCanaryLoop
from controller.canary.prober import Prober

__all__ = ["CanaryLoop", "DropletPulls", "NullCanaryLoop", "Prober"]
