"""Recognizes in an error response what keeps a registry from storing anything, and says it in words.

Source: the CNCF registry answers 500 `UNKNOWN`, and in `detail` either the operating system's text or its
file system driver's error with the number of Linux's errno.h (seen with version 2.8 on a full and on a
read-only disk). In its read-only mode it answers every write with 405. Harbor, Quay and MinIO
say it in texts.
"""

import errno
import re
from collections.abc import Iterator
from types import MappingProxyType

from reconcile.errors import ErrorCode

WORDS = MappingProxyType(
    {
        ErrorCode.DISK_FULL: "its disk is full",
        ErrorCode.QUOTA_EXCEEDED: "its storage quota is used up",
        ErrorCode.READ_ONLY: "it is read-only",
        ErrorCode.STORAGE_FAILED: "its storage fails",
    }
)
"""Error code to what is wrong, for a sentence about the registry."""

_ERRNO = MappingProxyType(
    {
        errno.ENOSPC: ErrorCode.DISK_FULL,
        errno.EDQUOT: ErrorCode.QUOTA_EXCEEDED,
        errno.EROFS: ErrorCode.READ_ONLY,
        errno.EIO: ErrorCode.STORAGE_FAILED,
        errno.EACCES: ErrorCode.STORAGE_FAILED,
    }
)
_TEXTS = (
    (
        re.compile(
            r"(?i)no space left on device|\bENOSPC\b|insufficient storage|disk (is )?full|StorageFull"
        ),
        ErrorCode.DISK_FULL,
    ),
    (re.compile(r"(?i)minimum free drive threshold"), ErrorCode.DISK_FULL),
    (
        re.compile(r"(?i)quota (has been |was |is )?exceeded|exceed\w{0,16} the configured upper limit"),
        ErrorCode.QUOTA_EXCEEDED,
    ),
    (re.compile(r"(?i)\bread[- ]only\b"), ErrorCode.READ_ONLY),
)
_WRITES = frozenset({"POST", "PUT", "PATCH"})
_MOST_NODES = 200


def storage_fault(method: str, status: int, text: str, details: tuple[object, ...]) -> ErrorCode | None:
    """Recognize why a registry stores nothing; None when the response does not say so.

    Args:
        method: Of the request that was refused.
        status: Of the response.
        text: The messages of the response, as people read them.
        details: The parsed `detail` of each entry in the error document.
    """
    is_write = method in _WRITES
    if status == 507:
        return ErrorCode.DISK_FULL
    if status == 405 and is_write:
        return ErrorCode.READ_ONLY
    if status < 500 and not (is_write and status in {403, 409, 412}):
        return None
    for number in _numbers(details):
        if number in _ERRNO:
            return _ERRNO[number]
    return next((code for pattern, code in _TEXTS if pattern.search(text)), None)


def _numbers(details: tuple[object, ...]) -> Iterator[int]:
    """Yield the error numbers of failed operations of the file system, of at most 200 values in all."""
    left: list[object] = [*details]
    for _ in range(_MOST_NODES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, dict):
            number = value.get("Err")
            if isinstance(number, int) and "Op" in value:
                yield number
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
