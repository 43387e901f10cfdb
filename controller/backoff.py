"""Computes the pause before the next attempt from the number of attempts that have failed."""

from collections.abc import Callable
from functools import lru_cache

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random_exponential
from tenacity.wait import wait_base

Backoff = Callable[[int], float]
"""Returns the seconds to wait for a number of failed attempts, which is at least 1."""

_UNUSED_RETRYING = Retrying()
"""A state of tenacity must name a retry loop; the strategies used here read only the attempt's number."""


@lru_cache(maxsize=64)
def backoff(first: float, longest: float) -> Backoff:
    """Double the pause with each failure, and choose it at random between half of it and all of it.

    The pause after failure n lies between half and the whole of `first * 2 ** (n - 1)`, at most `longest`.
    The jitter spreads the attempts of many clients, and the lower bound keeps each client from hammering.

    Args:
        first: Upper bound of the first pause, in seconds.
        longest: Upper bound of every pause, in seconds.
    """
    # The random part lies between zero and the fixed part.
    fixed = wait_exponential(multiplier=first / 2, max=longest / 2)
    return _pause_by_failures(fixed + wait_random_exponential(multiplier=first / 2, max=longest / 2))


def exact_backoff(first: float, longest: float) -> Backoff:
    """Double the pause with each failure, without jitter: for one pause that all callers share.

    Args:
        first: The first pause, in seconds.
        longest: The longest pause, in seconds.
    """
    return _pause_by_failures(wait_exponential(multiplier=first, max=longest))


def _pause_by_failures(strategy: wait_base) -> Backoff:
    def pause(failures: int) -> float:
        state = RetryCallState(_UNUSED_RETRYING, None, (), {})
        state.attempt_number = failures
        return strategy(state)

    return pause
