"""Decides when a request to a server that limits requests may go out, so that some stay for what is urgent.

A limit is so many requests in a window of time. The server may state it, and how many are left, with each
answer; until it does, the limit of the config counts, in windows that begin with a first request.
Requests that nobody waits for, those of the background, use at most a share of the limit. They are spread
over the window, and leave of what the server says is left as much as the others may still need.

Cloud Controller rounds what is left down to a tenth of the limit, and counts in each of its processes apart,
so what it states is a bound, and its refusal is what counts.
Source: cloud_controller_ng middleware/base_rate_limiter.rb.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

HOUR = 3600.0
_STEPS = 10
"""Parts of the limit that the server rounds to."""

_BURST = 10
"""The part of the background's share that may be used at once is one of so many."""


_SAME_WINDOW = 5.0
"""Seconds by which the ends of one window may differ: they are told in whole seconds, by two clocks."""


class RequestUse(StrEnum):
    """What a request is for."""

    URGENT = "urgent"
    """Somebody, or an app that starts, waits for it."""
    BACKGROUND = "background"
    BACKGROUND_CHANGE = "background-change"
    """It changes what a request of the background has just read, which must not be long ago: it waits for
    nothing, and counts for the background."""


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What an operator allows.

    Attributes:
        per_hour: Requests in an hour, where the server states no limit.
        background_share: Share of the limit for the background, above 0 and at most 1.
    """

    per_hour: int
    background_share: float


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """What the server said with an answer.

    Attributes:
        limit: Requests in a window.
        remaining: Requests that are left in it, rounded down.
        resets_at: When the window ends, by the clock of the budget.
    """

    limit: int
    remaining: int
    resets_at: float


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """How many requests went out in the present window, and what the server said about it.

    All moments are seconds of one clock that does not jump.

    Attributes:
        stated: The last statement; None where the server makes none.
        started_at: When the first request of the window went out; None before it.
        sent_urgent: Requests in the window.
        sent_background: Requests in the window.
        refused_until: Before it nothing is sent, since the server has refused a request.
    """

    settings: BudgetSettings
    stated: StatedLimit | None = None
    started_at: float | None = None
    sent_urgent: int = 0
    sent_background: int = 0
    refused_until: float = 0.0

    @property
    def limit(self) -> int:
        """Requests in a window."""
        return self.settings.per_hour if self.stated is None else self.stated.limit

    @property
    def background_limit(self) -> int:
        """Requests of the background in a window; at least one, so that it comes to an end."""
        return max(1, int(self.limit * self.settings.background_share))

    def left(self, now: float) -> int:
        """Return how many requests are left in the window, at most."""
        present = self._at(now)
        own = present.limit - present.sent_urgent - present.sent_background
        if present.stated is None:
            return max(0, own)
        rounding = max(1, present.stated.limit // _STEPS) - 1
        return max(0, min(own, present.stated.remaining + rounding))

    def ends_at(self, now: float) -> float:
        """Return when the present window ends; that of the config begins with a request."""
        present = self._at(now)
        if present.stated is not None and present.stated.resets_at > now:
            return present.stated.resets_at
        return (now if present.started_at is None else present.started_at) + HOUR

    def delay(self, now: float, use: RequestUse) -> float:
        """Return the seconds until a request may go out; 0 when it may now."""
        if now < self.refused_until:
            return self.refused_until - now
        present = self._at(now)
        match use:
            case RequestUse.URGENT | RequestUse.BACKGROUND_CHANGE:
                # Where the server counts, its refusal says when the limit is reached.
                is_spent = present.stated is None and present.left(now) == 0
                return present.ends_at(now) - now if is_spent else 0.0
            case RequestUse.BACKGROUND:
                return present._background_delay(now)  # noqa: SLF001 - its own

    def _background_delay(self, now: float) -> float:
        most, end = self.background_limit, self.ends_at(now)
        for_others = max(0, self.limit - most - self.sent_urgent)
        if self.sent_background >= most or self.left(now) <= for_others:
            return end - now
        start = now if self.started_at is None else self.started_at
        burst = max(1, most // _BURST)
        if self.sent_background < burst or most == burst:
            return 0.0
        # The rest of the share in equal steps over the window.
        due = start + (end - start) * (self.sent_background - burst + 1) / (most - burst + 1)
        return max(0.0, due - now)

    def sent(self, now: float, use: RequestUse) -> "RequestBudget":
        """Return the budget after a request went out."""
        present = self._at(now)
        if present.started_at is None:
            present = replace(present, started_at=now)
        if use is not RequestUse.URGENT:
            return replace(present, sent_background=present.sent_background + 1)
        return replace(present, sent_urgent=present.sent_urgent + 1)

    def answered(self, now: float, stated: StatedLimit | None) -> "RequestBudget":
        """Return the budget after an answer that counts; None where the server states no limit."""
        present = self._at(now)
        before = present.stated
        if stated is None or before is None or abs(before.resets_at - stated.resets_at) > _SAME_WINDOW:
            return replace(present, stated=stated)
        # Within one window nothing is given back: another process of the server has counted less.
        return replace(present, stated=replace(stated, remaining=min(before.remaining, stated.remaining)))

    def refused(self, now: float, retry_after: float) -> "RequestBudget":
        """Return the budget after the server has refused a request for so many seconds."""
        return replace(self._at(now), refused_until=max(self.refused_until, now + retry_after))

    def _at(self, now: float) -> "RequestBudget":
        """Begin a new window where the present one is over."""
        if self.stated is not None and now >= self.stated.resets_at:
            # How long the next one is, the server says with its next answer.
            following = replace(
                self.stated, remaining=self.stated.limit, resets_at=self.stated.resets_at + HOUR
            )
            if now >= following.resets_at:
                following = replace(following, resets_at=now + HOUR)
            return replace(self, stated=following, started_at=None, sent_urgent=0, sent_background=0)
        if self.stated is None and self.started_at is not None and now >= self.started_at + HOUR:
            return replace(self, started_at=None, sent_urgent=0, sent_background=0)
        return self
