"""The health of a registry as a value: since when its requests fail, and what it says.

Pulls and pushes are told apart, since a registry whose disk is full or that is read-only still serves pulls.
One failed request proves little. A registry is called unhealthy when it says itself that it cannot do what
was asked, or when several requests in a row failed over some seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from reconcile.errors import Denied, DockerCacheError, ErrorCode, RateLimited, Unavailable
from reconcile.foreign_text import one_line

FEWEST_FAILURES = 3
SHORTEST_FAILURE = 10.0
"""Failures in a row, and seconds from the first to the last, that make a registry unhealthy that does not say
what is wrong."""

SHORTEST_REFUSAL = 2.0
"""Seconds after which a refused login counts: one that was changed is looked up again at once."""

LONG_WAIT = 10.0
"""Seconds that a registry asks to be left alone for, from which on its word is enough."""

QUIET = 600.0
"""Seconds without a failed push after which a smaller push counts as proof that there is room again; longer
than any pause between two attempts at a copy."""


class RegistryUse(StrEnum):
    """What is asked of a registry."""

    PULL = "pull"
    PUSH = "push"


class Fault(StrEnum):
    """What is wrong with a registry.

    Attributes:
        words: The same for people, about the registry as "it".
        is_certain: The registry says it itself, so one failure is enough.
        answers: It answers, however little that helps.
    """

    words: str
    is_certain: bool
    answers: bool

    def __new__(cls, value: str, words: str = "", *flags: bool) -> Self:
        """Make a member whose text is its value."""
        member = str.__new__(cls, value)
        member._value_, member.words = value, words
        member.is_certain, member.answers = flags
        return member

    DISK_FULL = "disk-full", "its disk is full", True, False
    QUOTA = "quota-exceeded", "its storage quota is used up", True, False
    READ_ONLY = "read-only", "it is read-only", True, False
    STORAGE = "storage-failed", "its storage fails", True, False
    CERTIFICATE = "certificate", "its certificate is not accepted", True, False
    NO_TLS = "no-tls", "it does not speak TLS", True, False
    LOGIN = "login", "it refuses the login", False, True
    UNKNOWN_HOST = "unknown-host", "its name cannot be resolved", False, False
    NO_ANSWER = "no-answer", "it does not answer", False, False
    UNAVAILABLE = "unavailable", "it says that it is unavailable", False, False
    ERRORS = "errors", "it answers with errors of its own", False, False


_FAULTS: Mapping[str, Fault] = {
    ErrorCode.DISK_FULL: Fault.DISK_FULL,
    ErrorCode.QUOTA_EXCEEDED: Fault.QUOTA,
    ErrorCode.READ_ONLY: Fault.READ_ONLY,
    ErrorCode.STORAGE_FAILED: Fault.STORAGE,
    ErrorCode.CERTIFICATE: Fault.CERTIFICATE,
    ErrorCode.NO_TLS: Fault.NO_TLS,
    ErrorCode.UNKNOWN_HOST: Fault.UNKNOWN_HOST,
    ErrorCode.CONNECTION: Fault.NO_ANSWER,
    ErrorCode.TIMEOUT: Fault.NO_ANSWER,
    ErrorCode.UNAVAILABLE: Fault.UNAVAILABLE,  # it was not even asked, since it wants to be left alone
}
_NO_FAULT = frozenset(
    {
        ErrorCode.BUSY,
        ErrorCode.CUT,
        ErrorCode.OUT_OF_RESOURCES,
        ErrorCode.TOO_SLOW,
        ErrorCode.TOKEN_EXPIRED,
        ErrorCode.UPLOAD_FAILED,
    }
)
"""Codes of errors that concern one body or this process alone, or that hide another error."""

_WHOLE_REGISTRY = frozenset({502, 503, 504})
"""Statuses of a registry that does not work at all, or of a proxy in front of one."""

_ABOUT_STORAGE = frozenset({Fault.DISK_FULL, Fault.QUOTA, Fault.STORAGE, Fault.ERRORS})
"""Faults of pushes that only something stored disproves: an upload may start that has no room for bytes."""

_ABOUT_SIZE = frozenset({Fault.DISK_FULL, Fault.QUOTA})

_PERHAPS_ONE_IMAGE = frozenset({Fault.LOGIN, Fault.ERRORS})
"""Faults that may be those of one image alone."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a request to a registry was about.

    Attributes:
        registry: Its name in image references, in lower case.
        repository: The path of the repository.
        has_operators_login: Whether it had a login of the operator's, and not one that came with an image.
    """

    registry: str
    repository: str
    use: RegistryUse
    has_operators_login: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request failed.

    Attributes:
        length: Bytes of its body.
        status: Of the response; 0 when there was none.
    """

    error: DockerCacheError
    length: int = 0
    status: int = 0


def fault_of(error: DockerCacheError, status: int = 0) -> Fault | None:
    """Tell what an error says about the registry as a whole; None when it says nothing about it.

    Args:
        error: What a request ended with.
        status: Of the response; 0 when there was none.
    """
    if error.code in _FAULTS:
        return _FAULTS[error.code]
    match error:
        case RateLimited():  # it answers, and wants to be asked more seldom
            return None
        case Denied(code=ErrorCode.REALM_REFUSED):
            return None
        case Denied():
            return Fault.LOGIN
        case Unavailable() if error.code not in _NO_FAULT:
            return Fault.UNAVAILABLE if status in _WHOLE_REGISTRY else Fault.ERRORS
        case _:
            return None


def is_gone(failure: Failure) -> bool:
    """Whether a probe that failed so shows that the registry cannot be reached, or serves nothing.

    A probe is small and waits for no other work, so that one which takes too long is the registry's fault.
    """
    fault = fault_of(failure.error, failure.status)
    if fault is None:
        return failure.error.code in {ErrorCode.TOO_SLOW, ErrorCode.CUT}
    return not fault.answers


@dataclass(frozen=True, slots=True)
class Failing:
    """Requests that have failed in a row.

    Attributes:
        since: When the first one failed, in seconds of a clock that only grows.
        last_at: When the last one failed.
        fault: What the last one showed.
        said: What the registry said then, in one line without credentials.
        repository: What they were about; empty when they were about several.
        size: Bytes of the largest push that failed.
        is_long: The registry asked to be left alone for long.
    """

    since: float
    last_at: float
    fault: Fault
    said: str
    count: int = 1
    repository: str = ""
    size: int = 0
    is_long: bool = False

    @property
    def is_proof(self) -> bool:
        """Whether it proves that the registry is unhealthy, as far as these requests can."""
        duration = self.last_at - self.since
        if self.fault.is_certain or self.is_long:
            return True
        if self.fault is Fault.LOGIN:
            return duration >= SHORTEST_REFUSAL
        return self.count >= FEWEST_FAILURES and duration >= SHORTEST_FAILURE


def _is_room(failing: Failing, stored: int | None, now: float) -> bool:
    """Whether bytes that were stored prove that there is room again."""
    return stored is not None and (stored >= failing.size or now - failing.last_at >= QUIET)


@dataclass(frozen=True, slots=True)
class UseHealth:
    """The health of one registry for pulls or for pushes.

    Attributes:
        failing: None while the last request went well.
        served: The repository of the last request that went well; None when none has.
    """

    failing: Failing | None = None
    served: str | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether its last request has failed."""
        return self.failing is not None

    @property
    def unhealthy(self) -> Failing | None:
        """The failures that make it unhealthy; None while it is well, or while little speaks against it."""
        failing = self.failing
        if failing is None or not failing.is_proof:
            return None
        is_one_image = bool(failing.repository) and self.served not in {None, failing.repository}
        return None if is_one_image and failing.fault in _PERHAPS_ONE_IMAGE else failing

    def failed(self, failure: Failure, repository: str, *, now: float) -> Self:
        """Return the health after a request that failed."""
        error, size = failure.error, failure.length
        fault = fault_of(error, failure.status)
        if fault is None:
            return self
        before, said = self.failing, one_line(error.detail)
        named = error.retry_after if isinstance(error, Unavailable) else None
        is_long = named is not None and named >= LONG_WAIT
        if before is None:
            first = Failing(now, now, fault, said, repository=repository, size=size, is_long=is_long)
            return replace(self, failing=first)
        after = replace(
            before,
            last_at=now,
            fault=fault,
            said=said,
            count=before.count + 1,
            repository=repository if before.repository == repository else "",
            size=max(before.size, size),
            is_long=is_long,
        )
        return replace(self, failing=after)

    def answered(self, repository: str, *, stored: int | None, now: float) -> Self:
        """Return the health after a request that went well.

        Args:
            repository: What it was about.
            stored: Bytes that were stored by it; None when it was not to store any.
            now: On the clock of the failures.
        """
        failing = self.failing
        if failing is None:
            return self if self.served == repository else replace(self, served=repository)
        if failing.size and failing.fault in _ABOUT_STORAGE and stored is None:
            return self
        if failing.fault in _ABOUT_SIZE and not _is_room(failing, stored, now):
            return self
        return replace(self, failing=None, served=repository)


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """The health of one registry."""

    pull: UseHealth = UseHealth()
    push: UseHealth = UseHealth()

    def of(self, use: RegistryUse) -> UseHealth:
        """Return the health for one use."""
        return self.pull if use is RegistryUse.PULL else self.push

    def with_use(self, use: RegistryUse, health: UseHealth) -> Self:
        """Return the same with another health for one use."""
        return replace(self, pull=health) if use is RegistryUse.PULL else replace(self, push=health)

    @property
    def is_served(self) -> bool:
        """Whether it has ever served anything."""
        return self.pull.served is not None or self.push.served is not None
