"""Decides when migrations have failed so often that no more are started.

Pure state and arithmetic; the caller brings the clock.
"""

from dataclasses import dataclass, replace

PROBE_CHECK_INTERVAL = 60.0
"""Seconds after which a migration that waits for the end of a probe is queued again; a probe that succeeds
wakes those that wait."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """A circuit breaker: closed, it allows all migrations; open, it allows a single probe after a while.

    Attributes:
        max_failures: Failures in a row that open it.
        retry_after: Seconds after which an open circuit breaker allows a probe.
        failures: Failures in a row so far.
        opened_at: UTC seconds since 1970; None while it is closed.
        last_failure: What failed last; empty while there was no failure since the last success.
        is_probing: Whether a probe is under way.
    """

    max_failures: int
    retry_after: float
    failures: int = 0
    opened_at: float | None = None
    last_failure: str = ""
    is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only a probe is allowed."""
        return self.opened_at is not None

    def seconds_until_allowed(self, now: float) -> float:
        """Count the seconds until a migration may start; 0 when one may start now."""
        if self.opened_at is None:
            return 0.0
        left = max(0.0, self.opened_at + self.retry_after - now)
        return max(left, PROBE_CHECK_INTERVAL) if self.is_probing else left

    def started(self) -> "CircuitBreaker":
        """Note that a migration was started: while the circuit breaker is open it is the probe."""
        return replace(self, is_probing=self.is_open)

    def succeeded(self) -> "CircuitBreaker":
        """Note a success, which closes the circuit breaker."""
        return replace(self, failures=0, opened_at=None, last_failure="", is_probing=False)

    def failed(self, failure: str, now: float) -> "CircuitBreaker":
        """Note a failure, which may open the circuit breaker, or start its waiting time anew."""
        failures = self.failures + 1
        opened_at = now if failures >= self.max_failures or self.is_open else None
        return replace(self, failures=failures, opened_at=opened_at, last_failure=failure, is_probing=False)

    def cancelled(self) -> "CircuitBreaker":
        """Note that a migration ended without saying whether migrations work."""
        return replace(self, is_probing=False)

    def __str__(self) -> str:
        if not self.is_open:
            return f"closed, {self.failures} failures in a row"
        return f"{self.failures} migrations in a row failed, the last one: {self.last_failure}"
