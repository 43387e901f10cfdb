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

from controller.registry.http.storage_faults import WORDS, storage_fault
from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)
from reconcile.foreign_text import clean

MAX_ERROR_BODY = 65536
_MAX_ENTRIES = 1000
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
        method: Of the request.
        length: Bytes of the request's body.
    """

    status: int
    headers: ReadableHeaders
    body: bytes
    attempted: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    method: str = ""
    length: int = 0


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
    """One entry in the `errors` of an error document; its detail may be any JSON value."""

    code: str
    message: str
    detail: object = None


def parse_entries(body: bytes) -> tuple[ErrorEntry, ...]:
    """Parse the entries of an error document; a body that is no error document has none."""
    try:
        document = json.loads(body)  # of 64 KiB
    except (ValueError, RecursionError):
        return ()
    entries = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return ()
    return tuple(
        ErrorEntry(_text(entry.get("code")), _text(entry.get("message")), entry.get("detail"))
        for entry in entries[:_MAX_ENTRIES]
        if isinstance(entry, dict)
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _describe(refusal: Refusal, entries: tuple[ErrorEntry, ...]) -> str:
    """Write what a registry says of an error: its message and its detail, or else the begin of the body."""
    message = next((entry.message for entry in entries if entry.message), "")
    if not entries:
        message = refusal.body.decode("utf-8", "replace")
    if refusal.status == 401:
        message = f"missing, or no access: {message}".rstrip(": ")
    if refusal.status == 429:
        remaining = parse_remaining(refusal.headers.get("RateLimit-Remaining"))
        source = refusal.headers.get("Docker-RateLimit-Source")
        message += "" if remaining is None else f" ({remaining} pulls left)"
        message += "" if source is None else f" (counted for {source})"
    detail = next((text for entry in entries if (text := _detail_text(entry))), "")
    return clean(": ".join(filter(None, (message.strip(), detail))), refusal.secrets).rstrip(": ")


def _detail_text(entry: ErrorEntry) -> str:
    """Write the detail of an entry; empty where it says nothing beyond the message."""
    detail = entry.detail
    if detail is None or detail in ({}, [], "", entry.message):
        return ""
    if isinstance(detail, str):
        return detail
    try:
        return json.dumps(detail, separators=(",", ":"))
    except RecursionError:
        return ""


def _explain(refusal: Refusal, said: str, fault: ErrorCode | None) -> str:
    """Put what a registry says into a line that tells an operator what is wrong."""
    status = f"status {refusal.status}"
    quoted = f"{status}: {said}" if said else status
    if fault is not None:
        return f"{refusal.attempted}: {WORDS[fault]} ({quoted})"
    if refusal.status == 413:
        size = f" of {refusal.length:,} bytes" if refusal.length else ""
        advice = (
            "raise the limit of the registry, or of the proxy in front of it (client_max_body_size in nginx)"
        )
        return f"{refusal.attempted}: an upload{size} is more than it accepts: {advice} ({quoted})"
    return f"{refusal.attempted}: {quoted}"


def error_from_refusal(refusal: Refusal) -> DockerCacheError:
    """Turn a refusal into an error; the status decides its class, and the body its code and text.

    A registry that stores nothing for now is unavailable, whatever its status.
    """
    entries = parse_entries(refusal.body)
    status = refusal.status
    said = _describe(refusal, entries)
    fault = storage_fault(refusal.method, status, said, tuple(entry.detail for entry in entries))
    code = next((entry.code for entry in entries if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", entry.code)), "")
    detail = _explain(refusal, f"{code}: {said}".rstrip(": ") if fault is not None and code else said, fault)
    code = fault or code or f"http-{status}"
    retry_after = parse_retry_after(refusal.headers.get("Retry-After"))
    if status == 429 or code == "TOOMANYREQUESTS":
        return RateLimited("registry", code, detail, retry_after=retry_after)
    if status >= 500 or status in _RETRYABLE or fault is not None:
        return Unavailable("registry", code, detail, retry_after=retry_after)
    if status in {401, 403}:
        return Denied("registry", code, detail)
    if status in {404, 410}:
        return NotFound("registry", code, detail)
    if status in {409, 412}:
        return Conflict("registry", code, detail)
    return Invalid("registry", code, detail)
