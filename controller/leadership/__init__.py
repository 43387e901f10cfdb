"""Decides which instance is the active one, and stops this process when it is not that any more."""
