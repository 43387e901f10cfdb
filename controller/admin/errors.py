"""Errors of the admin API: ours as statuses of gRPC on one side, and back again on the other.

Source: grpc.io/docs/guides/status-codes.
"""

import grpc
import grpc.aio

from controller.foreign_text import one_line
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, Unavailable

SYSTEM = "admin"


class BadRequest(Invalid):
    """A call that nobody could answer, whatever the state of the world."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(SYSTEM, code, detail)


_STATUSES: tuple[tuple[type[DockerCacheError], grpc.StatusCode], ...] = (
    (BadRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.ABORTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Denied, grpc.StatusCode.FAILED_PRECONDITION),
    (Invalid, grpc.StatusCode.FAILED_PRECONDITION),
)

_ERRORS: dict[grpc.StatusCode, type[DockerCacheError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.FAILED_PRECONDITION: Invalid,
}


def status_of(error: DockerCacheError) -> grpc.StatusCode:
    """Give the status that tells a caller what to do about an error."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def error_from_status(error: grpc.aio.AioRpcError, *, attempt: str) -> DockerCacheError:
    """Read an error that a daemon answered with, or that kept the call from it."""
    status, details = error.code(), error.details() or ""
    kind = _ERRORS.get(status, DockerCacheError)
    system, first, rest = details.partition(": ")
    code, second, detail = rest.partition(": ")
    if first and second and " " not in system and " " not in code:
        return kind(system, code, detail)
    if status is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(SYSTEM, "no-answer", f"{attempt}: {_advice(details)}")
    return kind(SYSTEM, status.name.lower().replace("_", "-"), f"{attempt}: {details}")


def _advice(details: str) -> str:
    """Say what to look at; gRPC's own words are long and name what nobody can look at."""
    text = details.lower()
    if "certificate" in text or "ssl" in text or "tls" in text or "handshake" in text:
        return "the TLS handshake failed: look at the admin_* certificate files on both sides"
    if "refused" in text:
        return "nobody listens there: is the daemon running?"
    if "socket closed" in text or "reset by peer" in text or "broken pipe" in text:
        return "it hung up: with TLS 1.3 that is how a daemon refuses admin_client_cert_file"
    return one_line(details)
