"""Maps the failures of Locket's calls to this program's errors.

Source: cloudfoundry/locket models/models.go; cloudfoundry/bbs db/sqldb/helpers/errors.go.
"""

import grpc
import grpc.aio

from reconcile.errors import Conflict, Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable
from reconcile.foreign_text import one_line

SYSTEM = "locket"

NO_ANSWER = "no-answer"

_NOT_FOUND = "resource-not-found"
_SQL_BAD_REQUEST = "sql-bad-request"
"""Locket's database refused a text that is longer than its column. Its other errors may be over at the next
attempt."""

_STATUS = grpc.StatusCode


def error_from_status(error: grpc.aio.AioRpcError, *, call: str) -> DockerCacheError:
    """Map the status of a call.

    Args:
        error: The error that the call ended with.
        call: What was attempted, and at which address.
    """
    status, text = error.code(), one_line(error.details() or "")
    detail = f"{call}: {text}" if text else call
    match status:
        case _STATUS.ALREADY_EXISTS:
            return Conflict(SYSTEM, ErrorCode.LOCK_HELD, detail)
        case _STATUS.NOT_FOUND if text == _NOT_FOUND:
            return NotFound(SYSTEM, text, detail)
        case _STATUS.NOT_FOUND | _STATUS.INVALID_ARGUMENT:
            return Invalid(SYSTEM, text or _code_of(status), detail)
        case _STATUS.UNAUTHENTICATED | _STATUS.PERMISSION_DENIED:
            return Denied(SYSTEM, _code_of(status), detail)
        case _STATUS.UNKNOWN if text == _SQL_BAD_REQUEST:
            return Invalid(SYSTEM, text, detail)
        case _STATUS.UNIMPLEMENTED:
            return Unavailable(SYSTEM, _code_of(status), f"{detail} (is this Locket?)")
        case _STATUS.UNAVAILABLE if _is_of_tls(text) and not _was_closed(text):
            return Unavailable(SYSTEM, ErrorCode.CERTIFICATE, f"{call}: the TLS handshake failed: {text}")
        case _STATUS.UNAVAILABLE:
            return Unavailable(SYSTEM, ErrorCode.CONNECTION, f"{call}: {_in_short(text)}")
        case _STATUS.DEADLINE_EXCEEDED | _STATUS.CANCELLED:
            return Unavailable(SYSTEM, ErrorCode.TIMEOUT, detail)
        case _:
            return Unavailable(SYSTEM, _code_of(status), detail)


def no_answer(seconds: float, *, call: str) -> Unavailable:
    """Make the error of a call that no server has answered within some seconds."""
    return Unavailable(SYSTEM, NO_ANSWER, f"{call}: no answer within {seconds:g} s")


def _code_of(status: grpc.StatusCode) -> str:
    return status.name.lower().replace("_", "-")


def _in_short(text: str) -> str:
    """Shorten gRPC's text about a failed connection, so that it is the same for each address of a host."""
    lower = text.lower()
    if "refused" in lower:
        return "the connection was refused"
    if _was_closed(text):
        return "the connection was closed" + (" during the TLS handshake" if "handshake" in lower else "")
    return text


def _was_closed(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in ("socket closed", "reset by peer", "broken pipe", "eof"))


def _is_of_tls(text: str) -> bool:
    lower = text.lower()
    return "ssl" in lower or "certificate" in lower or "handshake" in lower
