"""Computes the pause before an attempt is repeated, as a function of how many attempts have failed."""

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random_exponential
from tenacity.wait import wait_base

Backoff = Callable[[int], float]
"""Number of failed attempts, from 1 on, to the seconds to wait."""

_NO_LOOP = Retrying()
"""The loop that a strategy of tenacity is told about; the strategies here read the attempt alone."""


def backoff(first: float, longest: float) -> Backoff:
    """Double the pause with each failure and draw it at random from its upper half.

    The pause after failure n lies between half and the whole of `first * 2 ** (n - 1)`, at most `longest`:
    the jitter keeps clients from returning all at once, the lower bound keeps one from returning at once.

    Args:
        first: Upper bound of the first pause, in seconds.
        longest: Upper bound of every pause, in seconds.
    """
    # The random part is drawn from zero up to the fixed part.
    fixed = wait_exponential(multiplier=first / 2, max=longest / 2)
    return _function_of_the_attempt(fixed + wait_random_exponential(multiplier=first / 2, max=longest / 2))


def exact_backoff(first: float, longest: float) -> Backoff:
    """Double the pause with each failure without jitter, for a pause that all callers share.

    Args:
        first: The first pause, in seconds.
        longest: The longest pause, in seconds.
    """
    return _function_of_the_attempt(wait_exponential(multiplier=first, max=longest))


def _function_of_the_attempt(strategy: wait_base) -> Backoff:
    def pause(failures: int) -> float:
        state = RetryCallState(_NO_LOOP, None, (), {})
        state.attempt_number = failures
        return strategy(state)

    return pause
