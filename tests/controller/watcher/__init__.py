"""What the watcher reads of a BBS in memory."""
