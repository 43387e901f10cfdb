"""Translates errors to gRPC statuses in the daemon, and back to errors in its clients.

Source: grpc.io/docs/guides/status-codes.
"""

import grpc
import grpc.aio

from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.foreign_text import cut, one_line

SYSTEM = "admin"

_MAX_WIDE_DETAILS = 400
"""Characters of details that are not all ASCII."""


class BadRequest(Invalid):
    """A call that cannot be answered, whatever the state of the daemon."""

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
    """Choose the status that tells a caller what to do about an error."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def details_of(error: DockerCacheError) -> str:
    """Write an error as the details of a status, which travel in a header of at most 8 KiB.

    What is not ASCII takes up to twelve bytes there.
    """
    text = str(error)
    return text if text.isascii() else cut(text, _MAX_WIDE_DETAILS)


def error_from_status(error: grpc.aio.AioRpcError, *, attempt: str) -> DockerCacheError:
    """Read an error that the daemon answered with, or that prevented the call."""
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
    """Say what to check, in fewer words than gRPC's own."""
    text = details.lower()
    is_closed = "socket closed" in text or "reset by peer" in text or "broken pipe" in text
    if is_closed and "handshake" in text:
        return "the connection was closed during the TLS handshake: is this a proxy, and the daemon gone?"
    if "certificate" in text or "ssl" in text or "tls" in text or "handshake" in text:
        return "the TLS handshake failed: check the admin_* certificate files on both sides"
    if "refused" in text:
        return "nothing listens there: is the daemon running?"
    if is_closed:
        return "the connection was closed: with TLS 1.3 a daemon refuses admin_client_cert_file so"
    return one_line(details)
