"""What the API, or the token server, may be told to do wrong."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulators.capi import errors
from tests.simulators.capi.errors import JSON, ApiError


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error instead of doing what was asked.

    Attributes:
        does: It is done all the same.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (JSON,)
    does: bool = False


@dataclass(frozen=True, slots=True)
class Break:
    """Break the connection off before the answer.

    Attributes:
        does: It is done all the same, so that the answer alone is lost.
    """

    does: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """Answer nothing until the client gives up.

    Attributes:
        does: It is done all the same.
    """

    does: bool = False


@dataclass(frozen=True, slots=True)
class Slow:
    """Answer as usual, so many seconds late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Do something first, such as what another client would, and answer as usual then."""

    do: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Afterwards:
    """Answer as usual after doing something once the request has had its effect."""

    do: Callable[[], None]


Action = Refuse | Break | Hang | Slow | Meanwhile | Afterwards


def refuse(problem: ApiError, *headers: tuple[str, str], does: bool = False) -> Refuse:
    """Refuse as Cloud Controller words it."""
    return Refuse(problem.status, problem.body, (JSON, *headers), does)


def fail(*, does: bool = False) -> Refuse:
    """Answer 500, as for whatever nobody has caught."""
    return refuse(errors.unknown_error(), does=does)


def be_unavailable() -> Refuse:
    """Answer 503, as in trouble with the database."""
    return refuse(errors.unavailable())


def limit(seconds: int) -> Refuse:
    """Answer 429, to be asked again after so many seconds."""
    return refuse(errors.rate_limited(), ("Retry-After", str(seconds)))


def limit_tokens(seconds: int) -> Refuse:
    """Answer 429 as UAA does, to be asked again after so many seconds."""
    body = b'{"error":"too_many_requests","error_description":"Rate limit exceeded"}'
    return Refuse(429, body, (JSON, ("Retry-After", str(seconds))))


def reject_token() -> Refuse:
    """Answer 401, as for a token that has ended meanwhile."""
    return refuse(errors.invalid_token())


def forbid() -> Refuse:
    """Answer 403, as without a scope."""
    return refuse(errors.not_authorized())


def not_from_us(*, status: int = 502) -> Refuse:
    """Answer as the router in front does when nobody behind it answers."""
    text = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    return Refuse(status, text, (("Content-Type", "text/plain; charset=utf-8"),))


@dataclass(slots=True)
class Order:
    """An action for requests of a method whose path and query match a pattern.

    Attributes:
        times: How many such requests are left to hit; None means all.
        after: How many such requests pass first.
    """

    method: str
    pattern: str
    action: Action
    times: int | None = 1
    after: int = 0

    def hits(self, method: str, target: str) -> bool:
        """Whether the next request is hit; counts it."""
        if self.method not in {"*", method} or not re.search(self.pattern, target):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(slots=True)
class Faults:
    """The faults ordered, of which the first that fits a request happens.

    Attributes:
        happened: Name of a kind of action to how often it has happened.
    """

    happened: Counter[str] = field(default_factory=Counter)
    orders: list[Order] = field(default_factory=list)

    def order(
        self, method: str, pattern: str, action: Action, *, times: int | None = 1, after: int = 0
    ) -> Order:
        """Do something wrong at the next requests that fit; "*" is any method."""
        ordered = Order(method, pattern, action, times, after)
        self.orders.append(ordered)
        return ordered

    def clear(self) -> None:
        """Forget all orders."""
        self.orders.clear()

    def take(self, method: str, target: str) -> Action | None:
        """Use up one request's worth of the first order that fits."""
        for each in self.orders:
            if each.hits(method, target):
                self.happened[type(each.action).__name__] += 1
                return each.action
        return None
