"""Compares times that were noted with the clock, which somebody may have set back since.

A time in the future by more than was ever waited for is no due time, and nothing has a negative age: what was
noted by a clock that was years ahead must not make anything wait for years.
"""

LONGEST_WAIT = 86_400.0
"""Seconds: no registry can ask for more."""


def seconds_until(due: float, now: float, *, longest: float = LONGEST_WAIT) -> float:
    """Count the seconds until a due time; 0 when it is over, or farther away than the longest wait."""
    left = due - now
    return left if 0 < left <= longest else 0.0


def is_recent(at: float, now: float, seconds: float) -> bool:
    """Whether something happened within the last seconds; what seems to be still to come did not."""
    return 0 <= now - at <= seconds


def age_of(at: float, now: float) -> float:
    """Count the seconds since something; never fewer than 0."""
    return max(0.0, now - at)
