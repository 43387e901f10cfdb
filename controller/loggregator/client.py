"""Sends batches of envelopes to the agent, each acknowledged where the agent knows such a call.

An acknowledged batch is with the agent, and no further: delivery behind it is best effort everywhere.
Source: cloudfoundry/loggregator-agent-release; very old agents know only the stream.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio

from controller.loggregator.agent_errors import SYSTEM, error_from_status
from controller.loggregator.connection import AgentConnection
from controller.loggregator.envelopes import Component, batch_of
from controller.mutual_tls import MutualTls
from protos.loggregator import envelope_pb2 as pb
from reconcile.app_log_lines import AppLogLine, ComponentCounter
from reconcile.errors import ErrorCode, Invalid, Unavailable

LIMIT = 5.0
"""Seconds that one batch may take."""


class AgentClient:
    """Sends batches, one at a time.

    Args:
        connection: To the agent.
        component: Who sends.
    """

    def __init__(self, connection: AgentConnection, component: Component) -> None:
        self._connection, self._component = connection, component
        self._lacks_send = False
        self._stream: Any = None

    @property
    def address(self) -> str:
        """Address of the agent."""
        return self._connection.address

    async def send(self, entries: Sequence[AppLogLine | ComponentCounter]) -> None:
        """Send one batch.

        Raises:
            Unavailable: The agent did not take it, or its answer was lost; or the certificate files cannot be
                used yet.
            Denied: It refuses this program's certificate.
            Invalid: It will never take this batch.
        """
        batch = batch_of(entries, self._component)
        try:
            stub = await self._connection.stub()
        except (Invalid, OSError) as error:  # a later attempt may find other files
            raise Unavailable(SYSTEM, ErrorCode.UNREADABLE_FILE, str(error)) from error
        try:
            async with asyncio.timeout(LIMIT):
                await self._send(stub, batch)
        except TimeoutError as error:
            await self._reset()
            detail = f"the agent at {self.address} did not answer within {LIMIT:g} s"
            raise Unavailable(SYSTEM, ErrorCode.TIMEOUT, detail) from error
        except grpc.aio.AioRpcError as error:
            failure = error_from_status(error, address=self.address)
            if isinstance(failure, Unavailable):  # the peer may be gone without a word
                await self._reset()
            raise failure from error

    async def _send(self, stub: Any, batch: pb.EnvelopeBatch) -> None:
        if not self._lacks_send:
            try:
                await stub.Send(batch)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                self._lacks_send = True
            else:
                return
        if self._stream is None or self._stream.done():
            self._stream = stub.BatchSender()
        await self._stream.write(batch)

    async def _reset(self) -> None:
        self._lacks_send, self._stream = False, None  # another agent may answer next
        await self._connection.close()

    async def close(self) -> None:
        """End the stream, if there is one, and close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None and not stream.done():
            await stream.done_writing()
        await self._connection.close()


@asynccontextmanager
async def open_agent(address: str, tls: MutualTls, component: Component) -> AsyncIterator[AgentClient]:
    """Open a client until the block ends; nothing is sent yet, so neither agent nor files need be there."""
    client = AgentClient(AgentConnection(address, tls), component)
    try:
        yield client
    finally:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it was gone already
            await client.close()
