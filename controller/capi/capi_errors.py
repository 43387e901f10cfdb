"""Maps the failures of requests to Cloud Controller and UAA to this program's errors.

Programs look at the code and the title of an error; the text of its detail may change.
Source: cloud_controller_ng errors/v2.yml and app/controllers/v3/application_controller.rb; RFC 6749 section
5.2 for UAA.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from controller.tls_causes import causes_of, tls_cause_of
from reconcile.errors import (
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)
from reconcile.foreign_text import clean, one_line

SYSTEM = "cloud-controller"
UAA = "uaa"

AFTER_429 = 60.0
"""Seconds that nothing is sent after a refusal that names no time."""

LONGEST_WAIT = 86400
"""Maximum number of seconds to wait; a longer time that a server names is not believed."""

_MOST_READ = 64 * 1024  # bytes of an error that are looked at
_NOT_FOUND = "CF-ResourceNotFound"
_NOT_AUTHORIZED = "CF-NotAuthorized"
_BAD_QUERY = "CF-BadQueryParameter"
_RATE_LIMITED = frozenset({"CF-RateLimitExceeded", "CF-RateLimitV2APIExceeded", "CF-UaaRateLimited"})


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer of Cloud Controller or UAA, with its whole body.

    Attributes:
        call: Method and path, for people.
        request_id: As it was sent; the server's log has it.
    """

    call: str
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str

    @property
    def is_success(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300

    def described(self, text: str) -> str:
        """Write the call, a text about its answer, and the ID by which the server's log has the request."""
        return f"{self.call}: {text} (request {self.request_id})"


def error_from_response(answer: ApiAnswer, *, may_have_happened: bool = False) -> DockerCacheError | None:
    """Map an answer of Cloud Controller; None when it reports success.

    Args:
        answer: Of Cloud Controller.
        may_have_happened: Whether a failure of the server leaves open what it has done.
    """
    if answer.is_success:
        return None
    router_error = answer.headers.get("X-Cf-Routererror")
    if router_error is not None:  # set by a Gorouter between the daemon and Cloud Controller
        detail = answer.described(f"the router says {one_line(router_error)}")
        return _unavailable(answer, SYSTEM, detail, may_have_happened=may_have_happened)
    title, text = _title_and_text(answer)
    detail = answer.described(text)
    if answer.status == 429 or title in _RATE_LIMITED:
        after = retry_after(answer.headers) or AFTER_429
        return RateLimited(SYSTEM, title, detail, after, may_have_happened=False)
    match answer.status:
        case 404 if title == _NOT_FOUND:
            return NotFound(SYSTEM, title, detail)
        case 401:
            return Denied(SYSTEM, ErrorCode.CLOUD_CONTROLLER_TOKEN_REFUSED, detail)
        case 403:
            is_scope = title == _NOT_AUTHORIZED
            code = (
                ErrorCode.CLOUD_CONTROLLER_SCOPE_MISSING if is_scope else ErrorCode.CLOUD_CONTROLLER_REFUSED
            )
            return Denied(SYSTEM, code, detail)
        case 408 | 425:
            return _unavailable(answer, SYSTEM, detail, may_have_happened=may_have_happened)
        case status if status >= 500 or (status >= 400 and not _is_from_cloud_controller(answer)):
            return _unavailable(answer, SYSTEM, detail, may_have_happened=may_have_happened)
        case _:
            is_query = title == _BAD_QUERY
            code = (
                ErrorCode.CLOUD_CONTROLLER_QUERY_REFUSED if is_query else ErrorCode.CLOUD_CONTROLLER_REFUSED
            )
            return Invalid(SYSTEM, code, detail)


def error_from_uaa(answer: ApiAnswer, *, client_id: str, secret: str) -> DockerCacheError | None:
    """Map an answer of UAA to a request for a token; None when it reports success."""
    if answer.is_success:
        return None
    document = _document(answer)
    kind = clean(str(document.get("error", "")), (secret,)) or f"HTTP-{answer.status}"
    description = (
        clean(str(document.get("error_description", "")), (secret,)) or f"HTTP status {answer.status}"
    )
    detail = answer.described(f"{kind}: {description}")
    if answer.status == 429:
        after = retry_after(answer.headers) or AFTER_429
        return RateLimited(UAA, kind, detail, after, may_have_happened=False)
    if answer.status in {408, 425} or answer.status >= 500 or "X-Cf-Routererror" in answer.headers:
        return _unavailable(answer, UAA, detail, may_have_happened=False)
    if answer.status in {400, 401, 403}:
        advice = (
            f"UAA refuses the client {client_id} of uaa_client_id with the secret in uaa_client_secret_file"
            if answer.status == 401 or kind == "invalid_client"
            else f"UAA gives the client {client_id} of uaa_client_id no token by client_credentials"
        )
        return Denied(UAA, ErrorCode.UAA_CLIENT_REFUSED, f"{advice}: {detail}")
    return Invalid(UAA, kind, detail)


def error_from_exception(
    error: Exception, *, system: str, call: str, is_change: bool = False
) -> DockerCacheError:
    """Map the exception of a request that got no whole answer.

    Args:
        error: Of the HTTP client.
        system: Which was asked.
        call: What was asked.
        is_change: Whether it may have changed something, unless it was never sent.
    """
    detail = f"{call}: {_describe(error)}"
    tls_cause = tls_cause_of(error)
    if tls_cause is not None and tls_cause.is_refusal:
        return Denied(system, ErrorCode.CERTIFICATE, detail)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unavailable(system, ErrorCode.CONNECTION_FAILED, detail, may_have_happened=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Unavailable(system, ErrorCode.TIMEOUT, detail, may_have_happened=is_change)
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return Invalid(system, ErrorCode.CLOUD_CONTROLLER_REFUSED, detail)
    return Unavailable(system, ErrorCode.CONNECTION_FAILED, detail, may_have_happened=is_change)


def misunderstood(answer: ApiAnswer, *, system: str, what: str) -> Invalid:
    """Make the error of an answer that reports success and is not what it should be."""
    return Invalid(system, ErrorCode.BAD_ANSWER, answer.described(what))


def effect_unknown(error: Invalid) -> Unavailable:
    """Make the error of a change whose answer is not understood: the change may have happened."""
    return Unavailable(error.system, error.code, error.detail, may_have_happened=True)


def retry_after(headers: httpx.Headers) -> float:
    """Return the seconds in `Retry-After`, at most a day; 0 where it is missing or no whole number."""
    value = headers.get("Retry-After", "")
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(LONGEST_WAIT))):
        return 0.0
    return float(min(int(value), LONGEST_WAIT))


def _unavailable(answer: ApiAnswer, system: str, detail: str, *, may_have_happened: bool) -> DockerCacheError:
    after = retry_after(answer.headers) or None
    return Unavailable(
        system, ErrorCode.CLOUD_CONTROLLER_FAILED, detail, after, may_have_happened=may_have_happened
    )


def _is_from_cloud_controller(answer: ApiAnswer) -> bool:
    """Whether it says what is wrong in Cloud Controller's form, and not in that of a proxy before it."""
    return isinstance(_document(answer).get("errors"), list)


def _title_and_text(answer: ApiAnswer) -> tuple[str, str]:
    """Return the title of the first error in an answer, and its code, title and detail as one line."""
    errors = _document(answer).get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return f"HTTP-{answer.status}", f"HTTP status {answer.status}"
    code, title = one_line(str(first.get("code", ""))), one_line(str(first.get("title", "")))
    detail = clean(str(first.get("detail", "")))
    return title, f"HTTP status {answer.status}, {code} {title}: {detail}"


def _document(answer: ApiAnswer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body[:_MOST_READ])
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _describe(error: BaseException) -> str:
    # httpx errors often have an empty text and the details in their cause.
    texts = (str(cause) for cause in causes_of(error))
    return one_line(next(filter(None, texts), type(error).__name__))
