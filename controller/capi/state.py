"""Keeps how Cloud Controller has answered, for operators, and tells whoever counts requests."""

from collections.abc import Callable
from typing import Protocol

from controller.capi.capi_errors import ApiAnswer
from controller.capi.gate import RequestGate
from controller.capi.scopes import missing_scopes
from controller.capi.settings import CapiSettings
from controller.capi.uaa import UaaTokens
from reconcile.cloud_controller_status import ApiCall, ApiOutcome, CloudControllerStatus
from reconcile.errors import (
    Denied,
    DockerCacheError,
    ErrorCode,
    LeaseLost,
    NotFound,
    RateLimited,
    Unavailable,
)

_ANSWERED = frozenset({ErrorCode.CLOUD_CONTROLLER_SCOPE_MISSING, ErrorCode.CLOUD_CONTROLLER_REFUSED})
"""Errors for which one request was refused, and which say nothing of others."""


class ApiObserver(Protocol):
    """Is told how requests end."""

    def answered(self, answer: ApiAnswer, seconds: float) -> None:
        """Take note of one answer of Cloud Controller or UAA, and how long it took."""

    def asked(self, call: ApiCall, outcome: ApiOutcome, status: CloudControllerStatus) -> None:
        """Take note of one request, and of what is known after it."""


class NullApiObserver:
    """An observer that takes note of nothing."""

    def answered(self, answer: ApiAnswer, seconds: float) -> None:
        """Take no note."""

    def asked(self, call: ApiCall, outcome: ApiOutcome, status: CloudControllerStatus) -> None:
        """Take no note."""


class ApiState:
    """How Cloud Controller has answered so far.

    Args:
        settings: See there.
        gate: Knows what is left of the budget.
        tokens: Know the scopes.
        wall_clock: Gives UTC seconds since 1970.
        observer: See there.
    """

    def __init__(
        self,
        settings: CapiSettings,
        *,
        gate: RequestGate,
        tokens: UaaTokens,
        wall_clock: Callable[[], float],
        observer: ApiObserver,
    ) -> None:
        self._address, self._updates = settings.api_url, settings.updates
        self._gate, self._tokens = gate, tokens
        self._wall_clock, self._observer = wall_clock, observer
        self._reachable_since: float | None = None
        self._failing_since: float | None = None
        self._last_success: float | None = None
        self._error = ""

    def succeeded(self, call: ApiCall) -> None:
        """Take note of a request that was answered as it was meant."""
        self._reached()
        self._last_success = self._wall_clock()
        self._observer.asked(call, ApiOutcome.OK, self.status())

    def failed(self, call: ApiCall, error: DockerCacheError) -> None:
        """Take note of a request that was not."""
        outcome = _outcome_of(error)
        match outcome:
            case _ if error.code in _ANSWERED:
                self._reached()
            case ApiOutcome.UNAVAILABLE | ApiOutcome.DENIED:
                self._reachable_since, self._error = None, str(error)
                if self._failing_since is None:
                    self._failing_since = self._wall_clock()
            case ApiOutcome.NOT_FOUND | ApiOutcome.INVALID:
                self._reached()
            case _:  # it says nothing of Cloud Controller's health
                pass
        self._observer.asked(call, outcome, self.status())

    def _reached(self) -> None:
        self._failing_since, self._error = None, ""
        if self._reachable_since is None:
            self._reachable_since = self._wall_clock()

    def status(self) -> CloudControllerStatus:
        """Return what is known now."""
        token = self._tokens.known
        return CloudControllerStatus(
            self._address,
            reachable_since=self._reachable_since,
            failing_since=self._failing_since,
            last_success=self._last_success,
            error=self._error,
            missing_scopes=() if token is None else missing_scopes(token.scopes, updates=self._updates),
            requests_left=self._gate.left,
            window_ends_at=self._wall_clock() + self._gate.window_ends_in,
        )


def _outcome_of(error: DockerCacheError) -> ApiOutcome:
    match error:
        case LeaseLost():
            return ApiOutcome.NOT_ACTIVE
        case RateLimited():
            return ApiOutcome.RATE_LIMITED
        case Unavailable():
            return ApiOutcome.UNAVAILABLE
        case NotFound():
            return ApiOutcome.NOT_FOUND
        case Denied():
            return ApiOutcome.DENIED
        case _:
            return ApiOutcome.INVALID
