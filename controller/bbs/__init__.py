"""The adapter of the BBS: requests, event streams, and conversion of its messages to values."""
