"""Remembers the challenges of registries that challenge at the base of their API alone.

To a request without a login such a registry answers 404 or 403, as if there were nothing, or 401 without a
challenge, and does not say how a login would help.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.registry.auth.challenges import Challenge
from controller.registry.http.urls import Url
from reconcile.errors import DockerCacheError

_LIFETIME = 600.0  # seconds after which a registry is asked again
_FAILURE_LIFETIME = 30.0  # seconds after a failure before it is asked again
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class _Remembered:
    """What one registry said, and the lock under which a single thread asks it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    challenge: Challenge | None = None
    use_until: float = 0.0


class HiddenChallenges:
    """What registries answer to a request for the base of their API; safe to use from many threads.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Url, _Remembered] = {}

    def find(self, base: Url, ask: Callable[[], Challenge | None]) -> Challenge | None:
        """Find the challenge of a registry; None when it makes none, or cannot be asked.

        Args:
            base: The URL of the registry's API.
            ask: Asks the registry. Those who wait for it do not ask again when it fails.
        """
        with self._lock:
            if base not in self._known and len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            known = self._known.setdefault(base, _Remembered())
        with known.lock:
            if self._clock() >= known.use_until:
                known.challenge, lifetime = None, _LIFETIME
                try:
                    known.challenge = ask()
                except DockerCacheError:
                    lifetime = _FAILURE_LIFETIME
                known.use_until = self._clock() + lifetime
            return known.challenge
