"""Maps the failures of calls to the agent to this program's errors."""

import grpc
import grpc.aio

from reconcile.errors import Denied, DockerCacheError, Invalid, Unavailable
from reconcile.foreign_text import one_line

SYSTEM = "loggregator"

_STATUS = grpc.StatusCode

_REFUSED = frozenset({_STATUS.INVALID_ARGUMENT, _STATUS.RESOURCE_EXHAUSTED, _STATUS.OUT_OF_RANGE})
"""Statuses of a batch that the agent will never take, such as one that is too large."""


def error_from_status(error: grpc.aio.AioRpcError, *, address: str) -> DockerCacheError:
    """Map the status of a call to the agent at an address."""
    status, text = error.code(), one_line(error.details() or "")
    code = status.name.lower().replace("_", "-")
    detail = f"the agent at {address}: {text}" if text else f"the agent at {address}"
    if status in _REFUSED:
        return Invalid(SYSTEM, code, detail)
    if status in {_STATUS.UNAUTHENTICATED, _STATUS.PERMISSION_DENIED}:
        return Denied(SYSTEM, code, detail)
    return Unavailable(SYSTEM, code, detail)
