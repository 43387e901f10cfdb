"""Makes Locket's calls on locks: take or renew one, give it back, and see who holds it.

This client takes no presence locks, since the BBS counts each as a cell, and sends no request without a
resource, since Locket's server would crash.
Source: cloudfoundry/locket models/locket.proto, handlers/handler.go.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from controller.locket.attempts import until_answered
from controller.locket.connections import Connections, KeepAlive, open_connections
from controller.locket.locket_errors import error_from_status, no_answer
from controller.mutual_tls import MutualTls
from protos.locket import locket_pb2 as pb
from reconcile.errors import NotFound, Unavailable

log = structlog.get_logger(scope="locket")

_TYPE = "lock"


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that somebody holds."""

    owner: str
    value: str


class LocketClient:
    """Locket's calls on locks."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def address(self) -> str:
        """Where Locket is."""
        return self._connections.address

    async def lock(self, key: str, lock: HeldLock, *, ttl: int, limit: float) -> None:
        """Take a lock, or renew it for its owner.

        Args:
            key: Name of the lock.
            lock: Its owner, and the value to be stored with it.
            ttl: Seconds after which it may expire.
            limit: Seconds that this may take.

        Raises:
            Conflict: `lock-held`: another owner has it.
            Unavailable: Nobody has answered; the lock may have been taken nevertheless.
            Invalid: Locket does not accept the owner or the time.
        """
        resource = _resource(key, lock.owner)
        resource.value = lock.value
        await self._call("Lock", pb.LockRequest(resource=resource, ttl_in_seconds=ttl), key, limit)

    async def release(self, key: str, owner: str, *, limit: float) -> None:
        """Give a lock back; one that nobody has is no error.

        Raises:
            Conflict: `lock-held`: another owner has it.
            Unavailable: Nobody has answered; the lock may have been given back nevertheless.
        """
        await self._call("Release", pb.ReleaseRequest(resource=_resource(key, owner)), key, limit)

    async def find(self, key: str, *, limit: float) -> HeldLock | None:
        """Find who has a lock; None where nobody has it.

        Raises:
            Unavailable: Nobody has answered.
        """
        try:
            answer = await self._call("Fetch", pb.FetchRequest(key=key), key, limit)
        except NotFound:
            return None
        return HeldLock(answer.resource.owner, answer.resource.value)

    async def _call(self, method: str, request: object, key: str, limit: float) -> Any:
        request_uuid = str(uuid.uuid4())  # Locket writes it into its log
        call = f"{method} of {key} at {self.address}"

        async def attempt() -> Any:
            async with self._connections.borrow() as stub:
                try:
                    return await getattr(stub, method)(
                        request, timeout=limit, metadata=(("uuid", request_uuid),)
                    )
                except grpc.aio.AioRpcError as error:
                    failure = error_from_status(error, call=call)
                    if isinstance(failure, Unavailable):
                        log.debug("attempt-failed", request_uuid=request_uuid, error=str(failure))
                    raise failure from error

        return await until_answered(
            attempt, limit=limit, patience=limit / 2, late=lambda: no_answer(limit, call=call)
        )


def _resource(key: str, owner: str) -> pb.Resource:
    return pb.Resource(key=key, owner=owner, type=_TYPE, type_code=pb.LOCK)


@asynccontextmanager
async def open_locket(address: str, tls: MutualTls, keep_alive: KeepAlive) -> AsyncIterator[LocketClient]:
    """Open a client until the block ends; nothing is sent yet.

    Raises:
        Invalid: The files are not a CA certificate, and a certificate with its key.
    """
    async with open_connections(address, tls, keep_alive) as connections:
        yield LocketClient(connections)
