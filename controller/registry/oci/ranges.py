"""Parses the `Content-Range` headers of blobs and the `Range` headers of upload sessions.

Source: RFC 9110 section 14.4; OCI distribution specification, "Pushing a blob in chunks".
"""

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
_UPLOAD_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)


_MOST_CHUNK = 1024**3
"""Bytes; no registry needs a longer part, so a longer one is not believed."""


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The first and last byte of a part, and the total size; None when the size is not stated."""

    first: int
    last: int
    total: int | None


def parse_content_range(values: list[str]) -> ContentRange | None:
    """Parse the `Content-Range` headers of a response; None unless there is exactly one, and it is valid."""
    match = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last, total = match.groups()
    return ContentRange(int(first), int(last), None if total == "*" else int(total))


def parse_upload_range(value: str | None) -> int:
    """Parse the number of bytes that an upload session holds from its `Range`; 0 when that is not certain."""
    match = _UPLOAD_RANGE.fullmatch((value or "").strip())
    last = 0 if match is None else int(match[1])
    return last + 1 if last else 0  # "0-0" means one byte, but registries send it for an empty session too


def parse_least_chunk(value: str | None) -> int:
    """Parse `OCI-Chunk-Min-Length`; 0 when it is not stated, or cannot be believed."""
    text = (value or "").strip()
    length = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    return length if length <= _MOST_CHUNK else 0
