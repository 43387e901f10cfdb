"""Maps the failures of BBS calls to this program's errors.

A call fails by an error in its response, by the HTTP status of the response, or without a response.

Source: cloudfoundry/bbs models/error.proto and models/errors.go.
"""

import httpx

from controller.bbs.text import text_of
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
from reconcile.foreign_text import one_line

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
"""The error class of each type. Every other type maps to `Unavailable`: the BBS has a temporary failure (a
deadlock, its database, Locket, or a broken row, which it deletes by itself: `Deserialize`), or the type is
newer than this table."""


def error_from_message(error: Error, *, call: str) -> DockerCacheError:
    """Map the error message in a response.

    A response that has an error message has failed, whatever the error's type: protobuf does not send type 0.
    """
    known = error.type in Error.Type.values()
    code = Error.Type.Name(error.type) if known else f"Error{error.type}"
    kind = _BY_TYPE.get(error.type, Unavailable)
    return kind(SYSTEM, code, f"{call}: {one_line(text_of(error, 'message'))}")


def error_from_response(response: httpx.Response, *, call: str) -> DockerCacheError | None:
    """Map the status and headers of a response; None when they report success."""
    router_error = response.headers.get("X-Cf-Routererror")
    if router_error is not None:  # set by a Gorouter between the daemon and the BBS
        return Unavailable(SYSTEM, "RouterError", f"{call}: {one_line(router_error)}")
    status = response.status_code
    detail = f"{call}: HTTP status {status}"
    if status == 200:
        return None
    if status == 429:
        return RateLimited(SYSTEM, "HTTP-429", detail, _retry_after(response))
    if status == 408 or status >= 500:
        # A BBS that is not the active one responds with 503, and has changed nothing.
        return Unavailable(SYSTEM, f"HTTP-{status}", detail, _retry_after(response), status != 503)
    if status in {401, 403}:
        return Denied(SYSTEM, f"HTTP-{status}", detail)
    return Invalid(SYSTEM, "UnknownRoute" if status == 404 else f"HTTP-{status}", detail)


def error_from_exception(error: Exception, *, call: str) -> DockerCacheError:
    """Map the exception of a call that got no response.

    Unless the request was never sent, the call may have changed something.
    """
    detail = f"{call}: {describe_error(error)}"
    tls_cause = tls_cause_of(error)
    is_refused = tls_cause is not None and tls_cause.is_refusal
    was_not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if was_not_sent and not is_refused:
        return Unavailable(SYSTEM, ErrorCode.CONNECTION_FAILED, detail, may_have_happened=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Unavailable(SYSTEM, ErrorCode.BBS_TIMEOUT, detail)
    if is_refused:
        return Denied(SYSTEM, ErrorCode.BBS_CERTIFICATE_REFUSED, detail)
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return Invalid(SYSTEM, "InvalidRequest", detail)
    return Unavailable(SYSTEM, ErrorCode.CONNECTION_FAILED, detail)


def describe_error(error: BaseException) -> str:
    """Describe an error in one line; httpx errors often have an empty text and the details in their cause."""
    texts = (str(cause) for cause in causes_of(error))
    return one_line(next(filter(None, texts), type(error).__name__))


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
