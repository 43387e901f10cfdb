"""Checks everything that the daemon needs, and says what to do about each problem.

Every check uses the daemon's own adapters, so that it finds what the daemon would find.
"""

from controller.doctor.diagnosis import diagnose
from controller.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "diagnose"]
