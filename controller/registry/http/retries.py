"""Defines the one policy by which idempotent requests to a registry are repeated."""

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay

from controller.backoff import backoff
from controller.registry.http.settings import Retries
from controller.threads import Cancellation
from reconcile.answers import WAITED_FOR
from reconcile.errors import ErrorCode, LeaseLost, RateLimited, Unavailable

# Only the operator can correct these; a repetition fails as well.
_PERMANENT = frozenset({ErrorCode.CERTIFICATE, ErrorCode.NO_TLS, ErrorCode.UNKNOWN_HOST, *WAITED_FOR})


def retrying(policy: Retries, cancellation: Cancellation) -> Retrying:
    """Repeat requests that fail as unavailable, with a growing pause, or a longer one that the server names.

    A rate limit is raised at once, since each attempt spends quota; so is an error for which the
    server names a pause longer than the policy's longest.
    """
    own_pause = backoff(policy.first_wait, policy.longest_wait)

    def is_retryable(error: BaseException) -> bool:
        return (
            isinstance(error, Unavailable)
            and not isinstance(error, RateLimited | LeaseLost)
            and error.code not in _PERMANENT
            and (error.retry_after or 0.0) <= policy.longest_wait
        )

    def pause(state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        named = error.retry_after if isinstance(error, Unavailable) else None
        return max(own_pause(state.attempt_number), named or 0.0)

    return Retrying(
        retry=retry_if_exception(is_retryable),
        wait=pause,
        stop=stop_after_attempt(policy.attempts) | stop_after_delay(policy.total),
        sleep=cancellation.wait,
        reraise=True,
    )
