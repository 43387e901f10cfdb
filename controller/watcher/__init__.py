"""Watches the BBS: follows its event streams, and lists its tasks and LRPs at an interval.

The watcher opens both event streams before it lists the BBS. When a stream ends, for any reason, events may
be lost: the watcher then opens both streams and lists the BBS again. The contents of an event are never
applied to an LRP: the event only queues the LRP for a pass, or the staging task that it names.
"""

from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.watcher import Watcher

__all__ = ["Watcher", "WatcherDependencies"]
