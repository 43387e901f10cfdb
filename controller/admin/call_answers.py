"""Answers the calls of the admin API: errors become gRPC statuses, and changes are noted in the audit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog

from controller.admin.audit import Arguments
from controller.admin.callers import caller_of
from controller.admin.grpc_status import details_of, status_of
from controller.admin.leadership import ServedDependencies
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="admin")

_LONG = frozenset({"Apply", "Evict", "Rebuild", "Restore", "RestoreBackup", "Verify"})
"""The calls that may take long: they are noted in the audit when they begin, too."""

Context = grpc.aio.ServicerContext[Any, Any]
"""The context of one call."""


class CallAnswers:
    """Context managers around the body of every call."""

    def __init__(self, served: ServedDependencies) -> None:
        self._served = served

    @asynccontextmanager
    async def changing(self, context: Context, call: str, arguments: Arguments) -> AsyncIterator[None]:
        """Answer a call that changes something, as `answering` does, and note its outcome in the audit.

        A long call is also noted when it begins, since a daemon that is killed notes no outcome.
        """
        outcome = "internal-error"
        async with self.answering(context, call):
            caller, audit = caller_of(context), self._served.require().stored.audit
            if call in _LONG:
                await audit.note(caller, call, arguments, "begun")
            try:
                yield
                outcome = "done"
            except DockerCacheError as error:
                outcome = str(error)
                raise
            except (asyncio.CancelledError, GeneratorExit):
                outcome = "interrupted"
                raise
            finally:
                await asyncio.shield(audit.note(caller, call, arguments, outcome))

    @asynccontextmanager
    async def answering(self, context: Context, call: str) -> AsyncIterator[None]:
        """Turn errors into gRPC statuses, and let the daemon survive a bug in one call."""
        try:
            with self._served.calling():
                yield
        except DockerCacheError as error:
            await _abort(context, status_of(error), details_of(error))
        except grpc.aio.AbortError:
            raise
        except Exception:
            log.exception("failed-to-answer", call=call)
            await _abort(context, grpc.StatusCode.INTERNAL, "admin: internal-error: see the daemon's log")


async def _abort(context: Context, status: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(status, details)
    raise AssertionError("an aborted call does not return")
