"""Limits the requests of checks to registries: each has one attempt and little time."""

from controller.registry.http.settings import Retries, Timeouts

ONCE = Retries(attempts=1)
TIMEOUTS = Timeouts(connect=4.0, idle=4.0, total=8.0, window=8.0)
