"""Which backends a router knows, and from when until when: messages of a route-emitter take their time.

The delays were measured on a real route-emitter and router.
"""

import asyncio
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

LEARNS_WITHIN = (0.02, 0.1)
"""Seconds from an event to the registration of a backend."""
FORGETS_WITHIN = (0.0, 0.17)
"""Seconds from an event to its unregistration: −60 to +110 ms around SIGTERM, which comes 60 ms after the event."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An instance that serves a hostname."""

    process_guid: str
    instance_guid: str


@dataclass(slots=True)
class _Registration:
    since: float
    until: float = math.inf


@dataclass
class RoutingTable:
    """Which backends a router knows: those that were registered, from then until they are unregistered."""

    chance: random.Random
    _registered: dict[str, dict[Backend, _Registration]] = field(default_factory=dict)

    def backends(self, hostname: str) -> list[Backend]:
        """List the backends of a hostname that are known at this moment."""
        now = _now()
        known = self._registered.get(hostname, {})
        return [backend for backend, times in known.items() if times.since <= now < times.until]

    def publish(self, backends: Iterable[Backend], hostnames: Iterable[str], process_guid: str) -> None:
        """Let the backends of an LRP be known by its hostnames soon, and by no other."""
        now, wanted, offered = _now(), frozenset(hostnames), tuple(backends)
        for hostname in wanted | self._registered.keys():
            known = self._registered.setdefault(hostname, {})
            for backend in [each for each, times in known.items() if times.until <= now]:
                del known[backend]
            here = offered if hostname in wanted else ()
            for backend in here:
                times = known.setdefault(backend, _Registration(now + self.chance.uniform(*LEARNS_WITHIN)))
                times.until = math.inf
            for backend, times in known.items():
                if backend.process_guid == process_guid and backend not in here and times.until == math.inf:
                    # What is not registered yet never is: messages arrive in the order of the events.
                    is_known = times.since <= now
                    times.until = now + self.chance.uniform(*FORGETS_WITHIN) if is_known else now


def _now() -> float:
    return asyncio.get_running_loop().time()
