"""What a registry may be told to do wrong."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with a status instead of doing what was asked.

    Attributes:
        early: The request's body is not read.
        keeps: The body of an upload is kept in its session all the same.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Write these bytes as the whole answer, over TLS in one record if they fit, and close.

    Attributes:
        keeps: The connection stays open instead.
    """

    answer: bytes
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer with a redirect."""

    location: str
    status: int = 307


@dataclass(frozen=True, slots=True)
class Moved:
    """Redirect a request to its own path and query with `moved=1` added."""

    status: int = 307


@dataclass(frozen=True, slots=True)
class Cut:
    """Answer as usual, but close the connection after so many bytes of the body."""

    after: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Answer as usual, but send nothing more after so many bytes of the body until the client goes away."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Drip:
    """Answer as usual, but send one byte at a time after so many bytes of the body, with pauses in seconds."""

    after: int = 0
    pause: float = 0.01


@dataclass(frozen=True, slots=True)
class OtherBytes:
    """Answer 200 with another body and its true length."""

    body: bytes


@dataclass(frozen=True, slots=True)
class WithHeaders:
    """Answer as usual, with some headers replaced."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NoHeaders:
    """Answer as usual, with some headers left out."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class CutUpload:
    """Close the connection after so many bytes of the request's body."""

    after: int


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Do something, and then answer as usual."""

    do: Callable[[], None]


Action = (
    Refuse
    | Raw
    | Redirect
    | Moved
    | Cut
    | CutUpload
    | Stall
    | Drip
    | OtherBytes
    | WithHeaders
    | NoHeaders
    | Meanwhile
)


@dataclass(slots=True)
class Fault:
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

    def hits(self, method: str, path: str) -> bool:
        """Whether the next request is hit; counts it."""
        if method != self.method or not re.search(self.pattern, path):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0
