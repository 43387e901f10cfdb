"""Says what is wrong with the world that the daemon is to work in, and what to do about it.

Every check speaks through the daemon's own adapters, so that it meets what the daemon would meet.
"""

from controller.doctor.diagnosis import diagnose
from controller.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "diagnose"]
