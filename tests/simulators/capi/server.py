"""The API and the token server on loopback ports of their own, with or without TLS, and a log of their requests."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from tests.simulators.bbs.connections import Answer, Call, Connection, reset
from tests.simulators.capi.api import Api
from tests.simulators.capi.faults import Afterwards, Break, Faults, Hang, Meanwhile, Refuse, Slow
from tests.simulators.capi.uaa import SMALLEST_USEFUL, Uaa, UaaClient, login_of
from tests.simulators.certificates import Pair
from tests.simulators.cloud_controller import CloudController

CLIENT_ID = "docker-cache"
CLIENT_SECRET = "made-up secret of the client"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request and how it was answered; status 0 for not at all.

    Attributes:
        target: Its path and query.
        client: Whose valid token it had, or whose login at UAA; empty without one.
    """

    method: str
    target: str
    client: str
    status: int
    request_id: str


class HttpService:
    """Answers HTTP on one port, apart from what it is told to do wrong.

    Attributes:
        faults: What to do wrong.
        requests: All requests so far, in the order of their answers.
        hanging: How many requests wait for their client to give up.
        callers: Told each client and what it asks for, when it asks.
    """

    def __init__(self, answer: Callable[[Call], Awaitable[Answer]], client_of: Callable[[Call], str]) -> None:
        self.faults = Faults()
        self.requests: list[LoggedRequest] = []
        self.hanging = 0
        self.callers: list[Callable[[str, str], None]] = []
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self._answer = answer
        self._client_of = client_of
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Begin to listen, on the same port as before if there was one."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Break all connections off, and take no more: whoever comes is refused."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    def count(self, method: str = "*", pattern: str = "") -> int:
        """Count the requests of a method whose path and query match a pattern; "*" is any method."""
        return sum(
            method in {"*", each.method} and bool(re.search(pattern, each.target)) for each in self.requests
        )

    def forget_requests(self) -> None:
        """Start counting anew."""
        self.requests.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            connection = Connection(reader, writer)
            while (call := await connection.next_call()) is not None:
                answer = await self._respond(call, connection)
                if answer is None or not await connection.answer(answer):
                    return
        except asyncio.CancelledError:
            reset(writer)  # and end well: asyncio's own callback does not expect a cancelled one
        finally:
            writer.close()

    async def _respond(self, call: Call, connection: Connection) -> Answer | None:
        """Find out what to answer, and do what was asked; None for nothing, on a connection of no more use."""
        target = f"{call.path}?{call.query}" if call.query else call.path
        client = self._client_of(call)
        for listener in self.callers:
            listener(client, f"{call.method} {target}")
        answer = await self._answer_or_fail(call, target, connection)
        request_id = call.headers.get("x-vcap-request-id", "")
        status = 0 if answer is None else answer.status
        self.requests.append(LoggedRequest(call.method, target, client, status, request_id))
        return answer

    async def _answer_or_fail(self, call: Call, target: str, connection: Connection) -> Answer | None:
        action = self.faults.take(call.method, target)
        if isinstance(action, Meanwhile):
            action.do()
        if isinstance(action, Slow):
            await asyncio.sleep(action.seconds)
        if isinstance(action, Refuse | Break | Hang) and not action.does:
            return await self._go_wrong(action, connection)
        answer = await self._answer(call)
        if isinstance(action, Afterwards):
            action.do()
        if isinstance(action, Refuse | Break | Hang):
            return await self._go_wrong(action, connection)
        return answer

    async def _go_wrong(self, action: Refuse | Break | Hang, connection: Connection) -> Answer | None:
        match action:
            case Refuse():
                return Answer(action.status, action.body, action.headers)
            case Break():
                reset(connection.writer)
            case Hang():
                self.hanging += 1
                try:
                    with contextlib.suppress(ConnectionError):
                        await connection.reader.read()
                finally:
                    self.hanging -= 1
        return None


class CapiSimulator:
    """The API of a simulated Cloud Controller with its token server, to be used as an async context manager.

    Attributes:
        cloud: The Cloud Controller behind it, whose methods change what the API shows.
        api, uaa: Each on a port of its own; what they are told to do wrong, and what they were asked.
        tokens: The token server's clients and keys.
        handler: Answers the API's requests.
        limiter: The API's rate limiter.
    """

    def __init__(self, cloud: CloudController, *, pair: Pair | None = None) -> None:
        self.cloud = cloud
        self.tokens = Uaa()
        self.handler = Api(cloud, self.tokens)
        self.limiter = self.handler.limiter
        self.api = HttpService(self.handler.answer, self.handler.client_of)
        self.uaa = HttpService(self._give_token, login_of)
        if pair is not None:
            self.api.tls = self.uaa.tls = _tls(pair)

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.api.url

    async def __aenter__(self) -> Self:
        await self.uaa.listen()
        await self.api.listen()
        self.tokens.url, self.handler.url = self.uaa.url, self.api.url
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.stop_listening()
        await self.uaa.stop_listening()

    def add_client(
        self,
        client_id: str = CLIENT_ID,
        secret: str = CLIENT_SECRET,
        authorities: tuple[str, ...] = SMALLEST_USEFUL,
        *,
        lifetime: int = 43200,
    ) -> UaaClient:
        """Make a client of the token server known, or change it."""
        client = UaaClient(client_id, secret, authorities, lifetime)
        self.tokens.add_client(client)
        return client

    async def _give_token(self, call: Call) -> Answer:
        return self.tokens.answer(call)


@contextlib.asynccontextmanager
async def serve_capi(cloud: CloudController, *, pair: Pair | None = None) -> AsyncIterator[CapiSimulator]:
    """Serve the API of a Cloud Controller, with the client that the daemon needs, over TLS where there is a pair."""
    async with CapiSimulator(cloud, pair=pair) as capi:
        capi.add_client()
        yield capi


def _tls(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pair.certificate, pair.key)
    return context
