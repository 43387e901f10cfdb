"""Looks whether the private registry still has the copies that LRPs run from, and repairs those it lost.

Every copy in use is looked for on a schedule, its blobs more seldom, and at once when an instance that runs
from it crashes, is not placed, or takes long to start. Only a definite answer, given twice, says that
something is missing: a registry that does not answer has lost nothing.
"""

from controller.presence.dependencies import PresenceDependencies, RepairRecords
from controller.presence.loop import PresenceLoop
from controller.presence.repairs import Repairs
from controller.presence.schedule import Intervals

__all__ = ["Intervals", "PresenceDependencies", "PresenceLoop", "RepairRecords", "Repairs"]
