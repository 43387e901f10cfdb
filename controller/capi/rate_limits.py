"""Reads what Cloud Controller says of its rate limit in the headers of an answer.

Source: cloud_controller_ng middleware/rate_limiter.rb.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from controller.capi.capi_errors import LONGEST_WAIT
from reconcile.request_budget import StatedLimit

_MAX_DIGITS = 12


def stated_limit(headers: httpx.Headers, *, now: float, wall_now: float) -> StatedLimit | None:
    """Read the limit; None where the answer states none.

    Args:
        headers: Of an answer.
        now: By the clock of the budget.
        wall_now: UTC seconds since 1970, which count where the answer has no date: its clock is the one by
            which the limit is reset.
    """
    limit, remaining, reset = (
        _number(headers.get(f"X-RateLimit-{name}", "")) for name in ("Limit", "Remaining", "Reset")
    )
    if not limit or remaining is None or reset is None:
        return None
    seconds = reset - _date(headers.get("Date", ""), wall_now)
    return StatedLimit(limit, min(remaining, limit), now + min(max(1.0, seconds), LONGEST_WAIT))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _date(text: str, wall_now: float) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return wall_now
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
