"""Reads which part of a whole an answer is about. Source: RFC 9110 section 14.4; OCI distribution "Range"."""

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
_UPLOAD_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """First and last byte of a part, and the size of the whole; None when the server does not know it."""

    first: int
    last: int
    total: int | None


def parse_content_range(values: list[str]) -> ContentRange | None:
    """Read all `Content-Range` headers of an answer; None when they do not name one range."""
    match = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last, total = match.groups()
    return ContentRange(int(first), int(last), None if total == "*" else int(total))


def parse_upload_range(value: str | None) -> int:
    """Read how many bytes an upload session holds from its `Range`; what can mean nothing means 0."""
    match = _UPLOAD_RANGE.fullmatch((value or "").strip())
    last = 0 if match is None else int(match[1])
    return last + 1 if last else 0  # "0-0" is also what an empty session says
