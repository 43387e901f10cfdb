"""Turns the error responses of registries into the errors of `reconcile.errors`.

Source: OCI distribution specification, "Error codes"; RFC 9110 section 10.2.3 (Retry-After).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.foreign_text import clean

MAX_ERROR_BODY = 65536
_MAX_RETRY_AFTER = 86400.0
_RETRYABLE = frozenset({408, 425, 499})


class ReadableHeaders(Protocol):
    """The headers of a response, reduced to what this module needs."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, whose name is case-insensitive; None when there is none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response to a request.

    Attributes:
        body: The first bytes of the body.
        attempted: The image, and what was attempted on it, such as "r.example/a/b:1 (read manifest)".
        secrets: Texts that must not occur in the error.
    """

    status: int
    headers: ReadableHeaders
    body: bytes
    attempted: str
    secrets: tuple[str, ...] = field(default=(), repr=False)


def parse_retry_after(
    value: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """Parse `Retry-After` into seconds, at most one day; None when it is absent or cannot be parsed."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), _MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now()).total_seconds(), 0.0), _MAX_RETRY_AFTER)


def parse_remaining(value: str | None) -> int | None:
    """Parse the number of remaining pulls from `RateLimit-Remaining`; a negative number becomes 0."""
    if value is None:
        return None
    number = value.partition(";")[0].strip()
    return max(int(number), 0) if re.fullmatch(r"-?[0-9]{1,9}", number) else None


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """The code and the message of one entry in the `errors` of an error document."""

    code: str
    message: str


def parse_entries(body: bytes) -> tuple[ErrorEntry, ...]:
    """Parse the entries of an error document; a body that is no error document has none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    entries = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return ()
    return tuple(
        ErrorEntry(code=_text(entry.get("code")), message=_text(entry.get("message")))
        for entry in entries
        if isinstance(entry, dict)
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _describe(refusal: Refusal, entries: tuple[ErrorEntry, ...]) -> str:
    message = next((entry.message for entry in entries if entry.message), "")
    if not entries:
        message = refusal.body[:200].decode("utf-8", "replace")
    if refusal.status == 401:
        message = f"missing, or no access: {message}"
    if refusal.status == 429:
        remaining = parse_remaining(refusal.headers.get("RateLimit-Remaining"))
        source = refusal.headers.get("Docker-RateLimit-Source")
        message += "" if remaining is None else f" ({remaining} pulls left)"
        message += "" if source is None else f" (counted for {source})"
    return clean(message, refusal.secrets).rstrip(": ")


def error_from_refusal(refusal: Refusal) -> DockerCacheError:
    """Turn a refusal into an error; the status decides its class, and the body its code and text."""
    entries = parse_entries(refusal.body)
    status = refusal.status
    code = next((entry.code for entry in entries if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", entry.code)), "")
    code = code or f"http-{status}"
    message = _describe(refusal, entries)
    detail = f"{refusal.attempted}: {message}" if message else f"{refusal.attempted}: status {status}"
    retry_after = parse_retry_after(refusal.headers.get("Retry-After"))
    if status == 429 or code == "TOOMANYREQUESTS":
        return RateLimited("registry", code, detail, retry_after=retry_after)
    if status >= 500 or status in _RETRYABLE:
        return Unavailable("registry", code, detail, retry_after=retry_after)
    if status in {401, 403}:
        return Denied("registry", code, detail)
    if status in {404, 410}:
        return NotFound("registry", code, detail)
    if status in {409, 412}:
        return Conflict("registry", code, detail)
    return Invalid("registry", code, detail)
