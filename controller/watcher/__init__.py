"""Watches the BBS: its event streams, its staging tasks, and at an interval everything that is listed.

Both streams are opened first and only then everything is listed, on every connection; the end of a stream,
clean or not, is loss, and all of it starts anew. What an event says is never applied: it names an LRP to
look at or a task to read.
"""

from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.watcher import Watcher

__all__ = ["Watcher", "WatcherDependencies"]
