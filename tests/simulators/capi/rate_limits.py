"""Cloud Controller's rate limiter: so many requests an interval of each client.

Source: cloud_controller_ng middleware/rate_limiter.rb, middleware/base_rate_limiter.rb.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulators.capi.uaa import ADMIN, ADMIN_READ_ONLY, Token

FREE_PATHS = frozenset({"/", "/v3", "/v3/", "/healthz", "/v2/info"})
INTERVAL = 3600.0


@dataclass(slots=True)
class _Count:
    requests: int
    valid_until: float


class RateLimiter:
    """Counts requests of clients.

    Attributes:
        limit: Requests an interval; None: there is no limit, and no header says anything.
        interval: Seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.limit: int | None = None
        self.interval = INTERVAL
        self._now = now
        self._counts: dict[str, _Count] = {}

    def spend(self, token: Token, path: str) -> tuple[bool, tuple[tuple[str, str], ...]]:
        """Count a request; tell whether it may be answered, and the headers of its answer."""
        if self.limit is None or path in FREE_PATHS or token.scopes & {ADMIN, ADMIN_READ_ONLY}:
            return True, ()
        count = self._counts.get(token.client_id)
        if count is None or count.valid_until < self._now():
            count = self._counts[token.client_id] = _Count(0, self._now() + self.interval)
        used = count.requests + 1
        remaining = math.floor((self.limit - used) / self.limit * 10) / 10 * self.limit
        headers = [
            ("X-RateLimit-Limit", str(self.limit)),
            ("X-RateLimit-Reset", str(int(count.valid_until))),
            ("X-RateLimit-Remaining", str(max(0, int(remaining)))),
        ]
        if used > self.limit:
            wait = max(0, int(count.valid_until - self._now()))
            return False, (
                *headers,
                ("Retry-After", str(wait)),
                ("Content-Type", "text/plain; charset=utf-8"),
            )
        count.requests = used
        return True, tuple(headers)

    def reset(self) -> None:
        """Begin a new interval for everybody."""
        self._counts.clear()
