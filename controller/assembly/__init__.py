"""Builds the loops of a process, and what operators' calls reach, from the config and open resources."""

from controller.assembly.assembling import assemble
from controller.assembly.daemon_loops import DaemonLoops
from controller.assembly.resources import OpenResources, ProcessEngine, open_copy_notes, open_engine

__all__ = ["DaemonLoops", "OpenResources", "ProcessEngine", "assemble", "open_copy_notes", "open_engine"]
