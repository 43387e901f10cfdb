"""Decides when migrations have failed so often that no more are begun.

Pure state and arithmetic; the clock is the caller's.
"""

from dataclasses import dataclass, replace

WHILE_PROBING = 5.0
"""Seconds until it is looked again at what waits for a probe's end."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit breaker: closed it lets all through, open it lets a single probe through after a while.

    Attributes:
        most: Failures in a row that open it.
        retry_after: Seconds after which an open circuit lets a probe through.
        failures: In a row, so far.
        opened_at: UTC seconds since 1970; None while it is closed.
        last: What failed last.
        is_probing: A probe is under way.
    """

    most: int
    retry_after: float
    failures: int = 0
    opened_at: float | None = None
    last: str = ""
    is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only a probe gets through."""
        return self.opened_at is not None

    def closed_for(self, now: float) -> float:
        """Count the seconds until something may be begun; 0 when it may now."""
        if self.opened_at is None:
            return 0.0
        left = max(0.0, self.opened_at + self.retry_after - now)
        return max(left, WHILE_PROBING) if self.is_probing else left

    def begun(self) -> "Circuit":
        """Note that something was begun: with an open circuit that is the probe."""
        return replace(self, is_probing=self.is_open)

    def succeeded(self) -> "Circuit":
        """Note a success, which closes it."""
        return replace(self, failures=0, opened_at=None, last="", is_probing=False)

    def failed(self, what: str, now: float) -> "Circuit":
        """Note a failure, which may open it, or keep it open for another while."""
        failures = self.failures + 1
        opened_at = now if failures >= self.most or self.is_open else None
        return replace(self, failures=failures, opened_at=opened_at, last=what, is_probing=False)

    def cancelled(self) -> "Circuit":
        """Note that what was begun came to nothing, for reasons that tell neither way."""
        return replace(self, is_probing=False)

    def __str__(self) -> str:
        if not self.is_open:
            return f"closed, {self.failures} failures in a row"
        return f"{self.failures} migrations in a row failed, the last one: {self.last}"
