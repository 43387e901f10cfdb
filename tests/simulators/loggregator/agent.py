"""A simulated Loggregator agent on a loopback port: gRPC with mutual TLS, which keeps all that it was given.

Source: cloudfoundry/loggregator-agent-release src/pkg/ingress/v2 (receiver.go, tagger) and
src/cmd/forwarder-agent/app (forwarder_agent.go: sizes and TLS); the name in its certificate is "metron".
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Self

import grpc
import grpc.aio

from protos.loggregator import envelope_pb2 as pb
from protos.loggregator import ingress_pb2
from protos.loggregator.ingress_pb2_grpc import IngressServicer, add_IngressServicer_to_server
from tests.simulators.certificates import Certificates, Pair

SERVER_NAME = "metron"
MAX_MESSAGE = 10 * 1024 * 1024
"""Bytes of a batch."""

DEFAULT_TAGS = {"deployment": "cf", "job": "scheduler", "index": "3a1f9d2c", "ip": "10.0.0.9"}
"""What an agent adds where a tag is missing."""

Context = grpc.aio.ServicerContext[object, object]


class Fault(StrEnum):
    """What can go wrong with a call."""

    UNAVAILABLE = "unavailable"
    """Nothing is taken; the agent is going away."""
    HANG = "hang"
    """Nothing is taken and nothing is answered until the client gives up."""
    LOST_ANSWER = "lost-answer"
    """It is taken, and the connection breaks before the answer."""
    REFUSED = "refused"
    """The batch is larger than the agent takes."""


class Agent:
    """One agent, to be used as an async context manager.

    Attributes:
        envelopes: All that it was given, in order, as it would hand it on.
        batches: The number of envelopes of each batch.
        methods: The calls in order, a stream once.
        is_called: Is set with the first call.
        faults: Those of the next calls, in order.
        knows_send: Whether it knows the acknowledged call, as all but very old agents do.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        server: Pair | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._certificates = certificates
        self.server = server or certificates.authority.server(SERVER_NAME, file="loggregator-agent")
        self.envelopes: list[pb.Envelope] = []
        self.batches: list[int] = []
        self.methods: list[str] = []
        self.is_called = asyncio.Event()
        self.faults: list[Fault] = []
        self.knows_send = True
        self._sums: dict[tuple[object, ...], int] = {}
        # Bound but not listening: keeps the port while the agent is away.
        self._reservation = _bound(address)
        self.port: int = self._reservation.getsockname()[1]
        self._running: grpc.aio.Server | None = None
        self._received = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._reservation.close()

    @property
    def address(self) -> str:
        """Where it listens while it runs."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        credentials = grpc.ssl_server_credentials(
            [(self.server.key.read_bytes(), self.server.certificate.read_bytes())],
            root_certificates=self._certificates.ca.read_bytes(),
            require_client_auth=True,
        )
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE)]
        running = grpc.aio.server(options=options)
        add_IngressServicer_to_server(_Servicer(self), running)
        running.add_secure_port(self.address, credentials)
        await running.start()
        self._running = running

    async def stop(self) -> None:
        """Be gone at once, with all connections."""
        running, self._running = self._running, None
        if running is not None:
            await running.stop(None)

    def logs(self, app_guid: str) -> list[pb.Envelope]:
        """The log lines of an app."""
        return [each for each in self.envelopes if each.source_id == app_guid and each.HasField("log")]

    def texts(self, app_guid: str) -> list[str]:
        """What the log lines of an app say."""
        return [each.log.payload.decode() for each in self.logs(app_guid)]

    def totals(self, source_id: str) -> dict[str, int]:
        """The newest total of each counter of a component."""
        return {
            each.counter.name: each.counter.total
            for each in self.envelopes
            if each.source_id == source_id and each.HasField("counter")
        }

    async def until(self, text: str, *, app_guid: str | None = None, seconds: float = 60.0) -> pb.Envelope:
        """Wait for a log line with some text, and give it."""

        def found() -> pb.Envelope | None:
            lines = self.envelopes if app_guid is None else self.logs(app_guid)
            return next((each for each in lines if text in each.log.payload.decode()), None)

        async with asyncio.timeout(seconds), self._received:
            await self._received.wait_for(lambda: found() is not None)
        line = found()
        assert line is not None
        return line

    async def take(self, envelopes: Iterable[pb.Envelope]) -> None:
        """Take what a client has sent."""
        taken = [self._handed_on(each) for each in envelopes]
        self.batches.append(len(taken))
        self.envelopes += taken
        async with self._received:
            self._received.notify_all()

    def _handed_on(self, received: pb.Envelope) -> pb.Envelope:
        envelope = pb.Envelope.FromString(received.SerializeToString())
        for name, value in envelope.deprecated_tags.items():
            envelope.tags[name] = str(getattr(value, value.WhichOneof("data") or "text"))
        envelope.ClearField("deprecated_tags")
        for name, text in DEFAULT_TAGS.items():
            if name not in envelope.tags:
                envelope.tags[name] = text
        envelope.source_id = envelope.source_id or envelope.tags.get("origin", "")
        if envelope.HasField("counter"):
            self._add_up(envelope)
        return envelope

    def _add_up(self, envelope: pb.Envelope) -> None:
        counter = envelope.counter
        key = (counter.name, envelope.source_id, *sorted(envelope.tags.items()))
        if not counter.total:
            counter.total = self._sums.get(key, 0) + counter.delta
        self._sums[key] = counter.total


class _Servicer(IngressServicer):
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def Send(  # noqa: N802 - gRPC names the methods
        self, request: pb.EnvelopeBatch, context: Context
    ) -> ingress_pb2.SendResponse:
        self._agent.methods.append("Send")
        self._agent.is_called.set()
        if not self._agent.knows_send:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method Send")
        await self._take(request.batch, context)
        return ingress_pb2.SendResponse()

    async def BatchSender(  # noqa: N802 - gRPC names the methods
        self, request_iterator: AsyncIterator[pb.EnvelopeBatch], context: Context
    ) -> ingress_pb2.BatchSenderResponse:
        self._agent.methods.append("BatchSender")
        async for batch in request_iterator:
            await self._take(batch.batch, context)
        return ingress_pb2.BatchSenderResponse()

    async def Sender(  # noqa: N802 - gRPC names the methods
        self, request_iterator: AsyncIterator[pb.Envelope], context: Context
    ) -> ingress_pb2.IngressResponse:
        self._agent.methods.append("Sender")
        async for envelope in request_iterator:
            await self._take([envelope], context)
        return ingress_pb2.IngressResponse()

    async def _take(self, envelopes: Iterable[pb.Envelope], context: Context) -> None:
        fault = self._agent.faults.pop(0) if self._agent.faults else None
        match fault:
            case Fault.UNAVAILABLE:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the agent is shutting down")
            case Fault.HANG:
                await asyncio.Event().wait()
            case Fault.REFUSED:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "received message larger than max")
            case _:
                await self._agent.take(envelopes)
        if fault is Fault.LOST_ANSWER:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "error reading from server: EOF")


@asynccontextmanager
async def serve_agent(
    certificates: Certificates, *, address: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[Agent]:
    """Serve one agent until the block ends; port 0 chooses one."""
    async with Agent(certificates, address=address) as agent:
        yield agent


def _bound(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack:
        stack.callback(bound.close)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        stack.pop_all()
    return bound
