"""The messages of Diego's BBS, complete, with upstream's names and field numbers."""
