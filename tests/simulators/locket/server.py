"""One server of Locket on a loopback port: gRPC with mutual TLS over a state that it shares with others.

Source: locket cmd/locket/main.go, grpcserver/server.go, handlers/handler.go, models/models.go.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn, Self

import grpc
import grpc.aio

from protos.locket import locket_pb2 as pb
from protos.locket.locket_pb2_grpc import LocketServicer, add_LocketServicer_to_server
from tests.simulators.certificates import Certificates
from tests.simulators.locket.faults import Fault, Faults
from tests.simulators.locket.state import Burglar, Refusal, Refused, State

STOP_WITHIN = 1.0
"""Seconds that running calls get when a server stops."""

_STATUSES = {
    Refused.LOCK_COLLISION: grpc.StatusCode.ALREADY_EXISTS,
    Refused.INVALID_TTL: grpc.StatusCode.INVALID_ARGUMENT,
    Refused.INVALID_OWNER: grpc.StatusCode.INVALID_ARGUMENT,
    Refused.INVALID_TYPE: grpc.StatusCode.NOT_FOUND,
    Refused.RESOURCE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Refused.BAD_REQUEST: grpc.StatusCode.UNKNOWN,
}

Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a server has got.

    Attributes:
        uuid: The metadata of that name; None where there is none.
    """

    method: str
    key: str
    owner: str
    uuid: str | None


class Locket:
    """One server of Locket, to be used as an async context manager.

    Attributes:
        state: The database; outlives the server, and may be shared with others.
        faults: Faults of calls, to be ordered by a test.
        calls: What it was asked, in order.
    """

    def __init__(
        self, certificates: Certificates, state: State, *, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.certificates, self.state = certificates, state
        self.faults = Faults()
        self.calls: list[Call] = []
        # Bound but not listening: keeps the port while the server is down.
        self._reservation = _bound(address)
        self.host, self.port = self._reservation.getsockname()[:2]
        self._server: grpc.aio.Server | None = None
        self._burglar: Burglar | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where it listens while it runs."""
        return f"{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        if self._ending is not None:
            await self._ending
        self._reservation.close()

    async def start(self) -> None:
        """Listen; its timers begin anew."""
        pair = self.certificates.server
        credentials = grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.certificate.read_bytes())],
            root_certificates=self.certificates.ca.read_bytes(),
            require_client_auth=True,
        )
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_LocketServicer_to_server(_Servicer(self), server)
        server.add_secure_port(self.address, credentials)
        await server.start()
        self._server, self._burglar = server, self.state.start_server()

    async def stop(self) -> None:
        """Refuse new connections, let running calls end, and be gone."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(STOP_WITHIN)  # what it answers meanwhile has its effect
        self._end_timers()

    async def kill(self) -> None:
        """Be gone at once, with all connections."""
        server, self._server = self._server, None
        self._end_timers()
        if server is not None:
            await server.stop(None)

    def _end_timers(self) -> None:
        burglar, self._burglar = self._burglar, None
        if burglar is not None:
            self.state.stop_server(burglar)

    def end(self) -> None:
        """Be gone, without a wait for it."""
        self._ending = asyncio.create_task(self.kill())

    def lock(self, request: pb.LockRequest) -> None:
        """Take or renew a key; what comes in after this server's end has no effect."""
        if self._burglar is not None:
            self.state.lock(request, self._burglar)


class _Servicer(LocketServicer):
    def __init__(self, locket: Locket) -> None:
        self._locket = locket

    async def Lock(self, request: pb.LockRequest, context: Context) -> pb.LockResponse:  # noqa: N802 - gRPC names the methods
        await self._answer("Lock", request, context, lambda: self._locket.lock(request))
        return pb.LockResponse()

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:  # noqa: N802 - gRPC names the methods
        await self._answer("Release", request, context, lambda: self._locket.state.release(request.resource))
        return pb.ReleaseResponse()

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:  # noqa: N802 - gRPC names the methods
        found = pb.FetchResponse()
        await self._answer(
            "Fetch",
            request,
            context,
            lambda: found.resource.CopyFrom(self._locket.state.fetch(request.key)),
        )
        return found

    async def FetchAll(self, request: pb.FetchAllRequest, context: Context) -> pb.FetchAllResponse:  # noqa: N802 - gRPC names the methods
        found = pb.FetchAllResponse()
        await self._answer(
            "FetchAll",
            request,
            context,
            lambda: found.resources.extend(self._locket.state.fetch_all(request.type_code)),
        )
        return found

    async def _answer(
        self,
        method: str,
        request: pb.LockRequest | pb.ReleaseRequest | pb.FetchRequest | pb.FetchAllRequest,
        context: Context,
        effect: Callable[[], object],
    ) -> None:
        """Do what a call is about, or what a fault makes of it; refusals end the call."""
        self._locket.calls.append(_call(method, request, context))
        if isinstance(request, pb.LockRequest | pb.ReleaseRequest) and not request.HasField("resource"):
            self._locket.end()  # the real one dereferences it, and has nothing that would recover
            await _wait_for_ever()
        fault = self._locket.faults.take(method)
        match fault:
            case None:
                await _refusing(context, effect)
            case Fault.UNAVAILABLE:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            case Fault.LOST_ANSWER:
                await _refusing(context, effect)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "error reading from server: EOF")
            case Fault.HANG:
                await _wait_for_ever()
            case Fault.HANG_AFTER:
                await _refusing(context, effect)
                await _wait_for_ever()
            case Fault.LATE:
                try:
                    await _wait_for_ever()
                finally:
                    with contextlib.suppress(Refusal):
                        effect()
            case Fault.DATABASE_SLOW:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, fault.value)
            case _:
                if fault is Fault.UNRECOVERABLE:
                    self._locket.end()
                await context.abort(grpc.StatusCode.UNKNOWN, fault.value)


async def _refusing(context: Context, effect: Callable[[], object]) -> None:
    try:
        effect()
    except Refusal as refusal:
        await context.abort(_STATUSES[refusal.why], refusal.why.value)


def _call(
    method: str,
    request: pb.LockRequest | pb.ReleaseRequest | pb.FetchRequest | pb.FetchAllRequest,
    context: Context,
) -> Call:
    metadata = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
    key, owner = getattr(request, "key", ""), ""
    if isinstance(request, pb.LockRequest | pb.ReleaseRequest):
        key, owner = request.resource.key, request.resource.owner
    return Call(method, key, owner, metadata.get("uuid"))


async def _wait_for_ever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


@contextlib.asynccontextmanager
async def serve_locket(
    certificates: Certificates,
    *,
    clock: Callable[[], float] = time.monotonic,
    address: tuple[str, int] = ("127.0.0.1", 0),
) -> AsyncIterator[Locket]:
    """Serve one Locket with a state of its own until the block ends.

    Args:
        certificates: Of the server and its clients.
        clock: Monotonic time in seconds, by which keys expire.
        address: Where it listens; port 0 chooses one.
    """
    async with Locket(certificates, State(clock), address=address) as locket:
        yield locket


def _bound(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
