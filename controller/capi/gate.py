"""Lets requests to Cloud Controller out as their budget allows: background ones wait, others fail."""

import httpx

from controller.capi.capi_errors import AFTER_429, SYSTEM, retry_after
from controller.capi.rate_limits import stated_limit
from controller.capi.settings import Clocks
from reconcile.errors import ErrorCode, RateLimited
from reconcile.request_budget import BudgetSettings, RequestBudget, RequestUse, StatedLimit

LONGEST_SLEEP = 60.0
"""Seconds after which a waiting request looks at the budget again: answers to other requests change it."""


class RequestGate:
    """Where requests wait, or are sent back, until they may go out.

    Args:
        settings: How many requests may be sent, and which share of them in the background.
        clocks: Of the process.
    """

    def __init__(self, settings: BudgetSettings, clocks: Clocks) -> None:
        self._budget = RequestBudget(settings)
        self._clock, self._wall_clock, self._sleep = clocks.monotonic, clocks.wall, clocks.sleep

    @property
    def left(self) -> int:
        """How many requests are left in the present window, at most."""
        return self._budget.left(self._clock())

    @property
    def window_ends_in(self) -> float:
        """Seconds until the end of the present window."""
        now = self._clock()
        return max(0.0, self._budget.ends_at(now) - now)

    @property
    def stated(self) -> StatedLimit | None:
        """What the API has last said of its limit; None where it says nothing."""
        return self._budget.stated

    async def admit(self, use: RequestUse) -> None:
        """Count a request that goes out next; one of the background waits for its turn, however long.

        Raises:
            RateLimited: Another one must not go out now.
        """
        while (delay := self._budget.delay(self._clock(), use)) > 0:
            if use is not RequestUse.BACKGROUND:
                detail = f"the limit of requests is reached: asked again in {delay:.0f} s"
                code = ErrorCode.CLOUD_CONTROLLER_BUDGET_SPENT
                raise RateLimited(SYSTEM, code, detail, delay, may_have_happened=False)
            await self._sleep(min(delay, LONGEST_SLEEP))
        self._budget = self._budget.sent(self._clock(), use)

    def observe(self, status: int, headers: httpx.Headers) -> None:
        """Adapt the budget to what an answer says about the limit."""
        now = self._clock()
        stated = stated_limit(headers, now=now, wall_now=self._wall_clock())
        if stated is not None or 200 <= status < 300:  # a proxy may send others
            self._budget = self._budget.answered(now, stated)
        if status == 429:
            self._budget = self._budget.refused(now, retry_after(headers) or AFTER_429)
