"""Decides for how long a token is used after it was received.

A token that existed before it was sent, such as one out of a cache, ends that much earlier. Both times are by
the server's clock, so that a difference from ours does not matter.

Source: distribution docs/spec/auth/token.md (`expires_in`, at least 60 seconds, and `issued_at`).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SHORTEST = 60.0  # seconds
_LONGEST = 86400.0  # seconds
_LONGEST_STATED = 366 * 86400.0  # seconds; a longer statement counts as this one
_LONGEST_TIME = 64  # characters of a point in time
_FINE_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]{1,24}")


def lifetime_of(document: Mapping[str, object], date: str | None) -> float:
    """Return the seconds for which a token is used.

    Args:
        document: The token server's response.
        date: The `Date` header of that response; None where there is none.
    """
    stated = document.get("expires_in")
    if isinstance(stated, bool) or not isinstance(stated, int | float):
        return _SHORTEST
    # Bounded before it becomes a float, which a long number cannot; NaN becomes 0, since it comes second.
    seconds = float(max(0, min(stated, _LONGEST_STATED)))
    lifetime, age = max(_SHORTEST, seconds), _age(document.get("issued_at"), _now(date))
    # An age beyond the lifetime means that the server states one of them wrongly: then the age is ignored.
    return min(lifetime - age if 0 < age < lifetime else lifetime, _LONGEST)


def _age(issued_at: object, now: datetime) -> float:
    """Return for how many seconds a token existed before it was received; 0 when that is not stated."""
    if not isinstance(issued_at, str) or len(issued_at) > _LONGEST_TIME:
        return 0.0
    try:
        moment = datetime.fromisoformat(_FINE_FRACTION.sub(r"\1", issued_at.upper()))
        return (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
    except (ValueError, OverflowError):
        return 0.0


def _now(date: str | None) -> datetime:
    """Return the time by the clock of the server, or else by our own."""
    try:
        moment = parsedate_to_datetime((date or "")[:_LONGEST_TIME])
    except (ValueError, OverflowError):
        return datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
