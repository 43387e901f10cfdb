"""Sorts errors into a few kinds that operators tell apart, for counting: codes are too many for that."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

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
    """What went wrong, as metrics name it.

    Attributes:
        meaning: One line for operators without a full stop.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Make a member whose text is its value."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    NOT_FOUND = "not-found", "what was asked for is not there, such as an image or a tag"
    DENIED = "denied", "the login is missing, wrong, or not enough"
    RATE_LIMITED = "rate-limited", "the other side wants to be asked more seldom"
    UNAVAILABLE = "unavailable", "the other side says that it cannot now, or answers with an error of its own"
    TIMEOUT = "timeout", "no answer came in time"
    CONNECTION = "connection", "no connection could be made, or it broke"
    UNKNOWN_HOST = "unknown-host", "the name cannot be resolved"
    CERTIFICATE = "certificate", "the certificate is not accepted"
    NO_TLS = "no-tls", "the other side does not speak TLS"
    TOO_SLOW = "too-slow", "a registry sends less than `min_bytes_per_second`"
    CUT = "cut", "what was sent ended before its last byte"
    DISK_FULL = "disk-full", "the disk of the registry, or of the Docker daemon, is full"
    QUOTA_EXCEEDED = "quota-exceeded", "the registry's storage quota is used up"
    READ_ONLY = "read-only", "the registry is read-only"
    STORAGE_FAILED = "storage-failed", "the registry cannot write its files"
    ADDRESS_REFUSED = (
        "address-refused",
        "a host has, or leads to, an address that nothing may be fetched from",
    )
    BAD_CONTENT = "bad-content", "what was served is not what it should be, such as bytes with another digest"
    TOO_LARGE = "too-large", "an image has more bytes, layers or manifests than may be"
    CANNOT_RUN_ON_CELLS = "cannot-run-on-cells", "cells refuse the image, from its source as well"
    CREDENTIALS_LOST = (
        "credentials-lost",
        "the login of a queued job was lost with a restart, and nobody brought it",
    )
    FAILED_BYTES = (
        "failed-bytes",
        "an organization's copies have moved too many bytes without success in a day",
    )
    TOOK_TOO_LONG = "took-too-long", "all attempts together took longer than `max_job_time`"
    NOT_ACTIVE = "not-active", "another instance may be active, so nothing was done"
    CONFLICT = "conflict", "something changed meanwhile, and is looked at again"
    INTERNAL_ERROR = "internal-error", "an error of this program; the log has the traceback"
    OTHER = "other", "anything else; the log has the code"


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
    ErrorCode.BBS_TIMEOUT: FailureKind.TIMEOUT,
    ErrorCode.BBS_CERTIFICATE_REFUSED: FailureKind.CERTIFICATE,
    ErrorCode.DAEMON_CERTIFICATE_REFUSED: FailureKind.CERTIFICATE,
    ErrorCode.DAEMON_DISK_FULL: FailureKind.DISK_FULL,
    ErrorCode.BAD_CREDENTIALS: FailureKind.DENIED,
    ErrorCode.UNAUTHORIZED: FailureKind.DENIED,
    ErrorCode.DENIED: FailureKind.DENIED,
    ErrorCode.MANIFEST_UNKNOWN: FailureKind.NOT_FOUND,
    ErrorCode.NAME_UNKNOWN: FailureKind.NOT_FOUND,
    ErrorCode.BLOB_UNKNOWN: FailureKind.NOT_FOUND,
    ErrorCode.TOO_MANY_REQUESTS: FailureKind.RATE_LIMITED,
    ErrorCode.LIMITED: FailureKind.RATE_LIMITED,
    ErrorCode.FEW_PULLS_LEFT: FailureKind.RATE_LIMITED,
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
    ErrorCode.NOT_VERIFIED: FailureKind.BAD_CONTENT,
    ErrorCode.IMAGE_TOO_LARGE: FailureKind.TOO_LARGE,
    ErrorCode.INDEX_TOO_LARGE: FailureKind.TOO_LARGE,
    ErrorCode.TOO_MANY_LAYERS: FailureKind.TOO_LARGE,
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
"""Classes of errors in the order of the checks, since some of them are kinds of others."""


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
