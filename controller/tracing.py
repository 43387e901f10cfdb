"""Gives what belongs together one id, by which it is found in our lines and in those of the BBS.

A BBS that is sent the id as `X-Vcap-Request-Id` writes it into its own lines as `trace-id`, hands it on to
cells and the auctioneer, and puts it into the events that the request causes. Every line that is logged
within the block has it under the same key.

Source: cloudfoundry/bbs client.go and trace/; lager v3 writes a trace id as 32 hexadecimal digits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

_TRACE: ContextVar[str] = ContextVar("trace", default="")


@contextmanager
def tracing() -> Iterator[str]:
    """Let what the block does have a new id, and yield the id."""
    trace_id = uuid4().hex
    token = _TRACE.set(trace_id)
    try:
        yield trace_id
    finally:
        _TRACE.reset(token)


def trace_id() -> str:
    """Return the id of what is being done; empty outside of a block."""
    return _TRACE.get()


def request_id() -> str:
    """Return the id for a request that is made now: that of the block, or one of its own."""
    return _TRACE.get() or uuid4().hex
