"""A simulated Cloud Controller's HTTP API with its UAA, over the apps of a `CloudController`.

It shares no code with the client. The server is in `server`, which needs the simulated Cloud Controller; this module
imports nothing, since that one needs the rows that are here.
"""
