"""Reads the `Content-Range` of a 206 answer. Source: RFC 9110 section 14.4."""

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)


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
