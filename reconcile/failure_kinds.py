"""Sorts errors into a few kinds that operators tell apart, for counting: codes are too many for that."""

from collections.abc import Mapping
from enum import StrEnum

from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    LeaseLost,
    NotFound,
    RateLimited,
    Unavailable,
)


class FailureKind(StrEnum):
    """What went wrong, as metrics name it."""

    NOT_FOUND = "not-found"
    DENIED = "denied"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"
    """It says that it cannot serve now, or answers with errors of its own."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNKNOWN_HOST = "unknown-host"
    CERTIFICATE = "certificate"
    NO_TLS = "no-tls"
    TOO_SLOW = "too-slow"
    CUT = "cut"
    DISK_FULL = "disk-full"
    QUOTA_EXCEEDED = "quota-exceeded"
    READ_ONLY = "read-only"
    STORAGE_FAILED = "storage-failed"
    ADDRESS_REFUSED = "address-refused"
    """It has, or leads to, an address that nothing may be fetched from."""
    BAD_CONTENT = "bad-content"
    """What was served is not what it should be, such as bytes with another digest."""
    TOO_LARGE = "too-large"
    CANNOT_RUN_ON_CELLS = "cannot-run-on-cells"
    CREDENTIALS_LOST = "credentials-lost"
    FAILED_BYTES = "failed-bytes"
    TOOK_TOO_LONG = "took-too-long"
    NOT_ACTIVE = "not-active"
    CONFLICT = "conflict"
    INTERNAL_ERROR = "internal-error"
    """An error of this program; the log has the traceback."""
    OTHER = "other"


INTERNAL_ERROR = FailureKind.INTERNAL_ERROR.value
"""The code of an error of this program."""

_WITH_CODES = frozenset(FailureKind) - {
    FailureKind.NOT_FOUND,
    FailureKind.DENIED,
    FailureKind.BAD_CONTENT,
    FailureKind.TOO_LARGE,
    FailureKind.CONFLICT,
    FailureKind.OTHER,
}
"""Kinds whose names are codes of errors, too."""

_BY_CODE: Mapping[str, FailureKind] = {
    **{kind.value: kind for kind in _WITH_CODES},
    ErrorCode.CONNECTION_FAILED: FailureKind.CONNECTION,
    ErrorCode.BAD_CREDENTIALS: FailureKind.DENIED,
    "UNAUTHORIZED": FailureKind.DENIED,
    "DENIED": FailureKind.DENIED,
    "MANIFEST_UNKNOWN": FailureKind.NOT_FOUND,
    "NAME_UNKNOWN": FailureKind.NOT_FOUND,
    "BLOB_UNKNOWN": FailureKind.NOT_FOUND,
    ErrorCode.TOO_MANY_REQUESTS: FailureKind.RATE_LIMITED,
    "limited": FailureKind.RATE_LIMITED,
    "few-pulls-left": FailureKind.RATE_LIMITED,
    ErrorCode.ORIGIN_REFUSED: FailureKind.ADDRESS_REFUSED,
    ErrorCode.REALM_REFUSED: FailureKind.ADDRESS_REFUSED,
    ErrorCode.REDIRECT_REFUSED: FailureKind.ADDRESS_REFUSED,
    ErrorCode.BAD_ANSWER: FailureKind.BAD_CONTENT,
    ErrorCode.DIGEST_MISMATCH: FailureKind.BAD_CONTENT,
    ErrorCode.SIZE_MISMATCH: FailureKind.BAD_CONTENT,
    ErrorCode.NOT_REPAIRED: FailureKind.BAD_CONTENT,
    ErrorCode.DIGEST_INVALID: FailureKind.BAD_CONTENT,
    ErrorCode.MANIFEST_INVALID: FailureKind.BAD_CONTENT,
    ErrorCode.MANIFEST_BLOB_UNKNOWN: FailureKind.BAD_CONTENT,
    ErrorCode.SIZE_INVALID: FailureKind.BAD_CONTENT,
    "not-verified": FailureKind.BAD_CONTENT,
    "image-too-large": FailureKind.TOO_LARGE,
    "index-too-large": FailureKind.TOO_LARGE,
    "too-many-layers": FailureKind.TOO_LARGE,
}

_BY_CLASS: tuple[tuple[type[DockerCacheError], FailureKind], ...] = (
    (LeaseLost, FailureKind.NOT_ACTIVE),
    (RateLimited, FailureKind.RATE_LIMITED),
    (Unavailable, FailureKind.UNAVAILABLE),
    (NotFound, FailureKind.NOT_FOUND),
    (Denied, FailureKind.DENIED),
    (Conflict, FailureKind.CONFLICT),
    (Invalid, FailureKind.OTHER),
)
"""In this order, since some of them are kinds of others."""


def kind_of(error: DockerCacheError) -> FailureKind:
    """Tell what went wrong: by the error's code, or else by what a caller may do about it.

    An error that only says in which step another one was met is of the kind of that one.
    """
    if error.code == ErrorCode.SOURCE_UNREACHABLE:
        cause = error.__cause__
        return kind_of(cause) if isinstance(cause, DockerCacheError) else FailureKind.TIMEOUT
    known = _BY_CODE.get(error.code)
    return known or next((kind for each, kind in _BY_CLASS if isinstance(error, each)), FailureKind.OTHER)


def kind_of_code(code: str) -> FailureKind:
    """Tell what went wrong by a code alone, such as that of a job that was saved."""
    return _BY_CODE.get(code, FailureKind.OTHER)
