"""The one policy by which idempotent requests to a registry are repeated."""

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from controller.registry.cancellation import Cancellation
from controller.registry.settings import Retries
from reconcile.errors import RateLimited, Unavailable

# The operator must act first: trying again at once changes nothing.
_HOPELESS = frozenset({"certificate", "no-tls", "unknown-host"})


def retrying(policy: Retries, cancellation: Cancellation) -> Retrying:
    """Repeat what is unavailable, waiting longer each time, or as long as the server says if that is short.

    A rate limit goes up at once, since each try spends quota; so does a longer wait.
    """
    backoff = wait_random_exponential(multiplier=policy.first_wait, max=policy.longest_wait)

    def is_worth_it(error: BaseException) -> bool:
        return (
            isinstance(error, Unavailable)
            and not isinstance(error, RateLimited)
            and error.code not in _HOPELESS
            and (error.retry_after or 0.0) <= policy.longest_wait
        )

    def pause(state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        named = error.retry_after if isinstance(error, Unavailable) else None
        return backoff(state) if named is None else named

    return Retrying(
        retry=retry_if_exception(is_worth_it),
        wait=pause,
        stop=stop_after_attempt(policy.attempts) | stop_after_delay(policy.total),
        sleep=cancellation.wait,
        reraise=True,
    )
