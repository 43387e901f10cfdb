"""The lock and presence service of Diego, complete, with upstream's names and field numbers."""
