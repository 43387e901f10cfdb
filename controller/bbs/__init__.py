"""The BBS: requests, event streams, and its messages as values."""
