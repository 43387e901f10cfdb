"""Maps the failures of a BBS call to our errors: an error in a response, an HTTP status, or no response.

Source: cloudfoundry/bbs models/error.proto and models/errors.go.
"""

import httpx

from controller.bbs.text import text_of
from controller.foreign_text import one_line
from controller.tls_causes import causes_of, tls_cause_of
from protos.bbs.error_pb2 import Error
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

SYSTEM = "bbs"

_BY_TYPE: dict[int, type[DockerCacheError]] = {
    Error.ResourceNotFound: NotFound,
    Error.ResourceExists: Conflict,
    Error.ResourceConflict: Conflict,
    Error.InvalidStateTransition: Conflict,
    Error.RunningOnDifferentCell: Conflict,
    Error.ActualLRPCannotBeClaimed: Conflict,
    Error.ActualLRPCannotBeStarted: Conflict,
    Error.ActualLRPCannotBeCrashed: Conflict,
    Error.ActualLRPCannotBeFailed: Conflict,
    Error.ActualLRPCannotBeRemoved: Conflict,
    Error.ActualLRPCannotBeUnclaimed: Conflict,
    Error.InvalidRequest: Invalid,
    Error.InvalidRecord: Invalid,
    Error.InvalidResponse: Invalid,
    Error.InvalidProtobufMessage: Invalid,
    Error.InvalidJSON: Invalid,
    Error.FailedToOpenEnvelope: Invalid,
}
"""Every other type means a temporary failure inside the BBS: a deadlock, its database, Locket, a broken
row that it deletes by itself (Deserialize), or a type that is newer than this table."""


def error_from_answer(error: Error, *, attempt: str) -> DockerCacheError:
    """Map the error of a response; its presence alone means failure, since type 0 is not on the wire."""
    known = error.type in Error.Type.values()
    code = Error.Type.Name(error.type) if known else f"Error{error.type}"
    kind = _BY_TYPE.get(error.type, Unavailable)
    return kind(SYSTEM, code, f"{attempt}: {one_line(text_of(error, 'message'))}")


def error_from_response(response: httpx.Response, *, attempt: str) -> DockerCacheError | None:
    """Map the status and headers of a response; None where it succeeded."""
    router_error = response.headers.get("X-Cf-Routererror")
    if router_error is not None:  # from a router before the BBS
        return Unavailable(SYSTEM, "RouterError", f"{attempt}: {one_line(router_error)}")
    status = response.status_code
    detail = f"{attempt}: HTTP status {status}"
    if status == 200:
        return None
    if status == 429:
        return RateLimited(SYSTEM, "HTTP-429", detail, _retry_after(response))
    if status == 408 or status >= 500:
        # A BBS that is not active responds with 503: it has done nothing.
        return Unavailable(SYSTEM, f"HTTP-{status}", detail, _retry_after(response), status != 503)
    if status in {401, 403}:
        return Denied(SYSTEM, f"HTTP-{status}", detail)
    return Invalid(SYSTEM, "UnknownRoute" if status == 404 else f"HTTP-{status}", detail)


def error_from_exception(error: Exception, *, attempt: str) -> DockerCacheError:
    """Map the failure of a call without a response; whether the call had an effect is unknown."""
    detail = f"{attempt}: {reason_of(error)}"
    tls_cause = tls_cause_of(error)
    is_refused = tls_cause is not None and tls_cause.is_refusal
    was_not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if was_not_sent and not is_refused:
        return Unavailable(SYSTEM, ErrorCode.CONNECTION_FAILED, detail, may_have_happened=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Unavailable(SYSTEM, "Timeout", detail)
    if is_refused:
        return Denied(SYSTEM, "CertificateRefused", detail)
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return Invalid(SYSTEM, "InvalidRequest", detail)
    return Unavailable(SYSTEM, ErrorCode.CONNECTION_FAILED, detail)


def reason_of(error: BaseException) -> str:
    """Describe an error in one line; httpx often says what happened only in the cause of its error."""
    texts = (str(cause) for cause in causes_of(error))
    return one_line(next(filter(None, texts), type(error).__name__))


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
