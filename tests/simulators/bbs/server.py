"""A BBS on a loopback port: mutual TLS, its calls, streams, convergence and callbacks, and failover.

Source: bbs cmd/bbs/main.go, handlers/handlers.go, handlers/middleware/middleware.go,
taskworkpool/taskcallback.go.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Self

import httpx

from protos.bbs.error_pb2 import Error
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import convergence, endpoints, tasks
from tests.simulators.bbs.connections import PROTOBUF, Answer, Call, Connection, text_answer
from tests.simulators.bbs.endpoints import STREAMS, Undecodable
from tests.simulators.bbs.errors import BbsError, Panic
from tests.simulators.bbs.faults import Fault, Faults
from tests.simulators.bbs.state import Rep, RepError, State, Version
from tests.simulators.bbs.streams import Stream
from tests.simulators.certificates import Certificates, client_context, server_context

CONVERGE_INTERVAL = 30.0
CALLBACK_TIMEOUT = 10.0
CALLBACK_ATTEMPTS = 3
RETRIED = frozenset({503, 504})
CLOSE_TIMEOUT = 1.0
SHUTDOWN_TIMEOUT = 0.25
NOT_FOUND = text_answer(404, "404 page not found")


class Bbs:
    """One BBS, to be used as an async context manager.

    Attributes:
        state: Its database; outlives a failover.
        faults: Faults of calls, to be ordered by a test.
        beginning_callers: Told the path and the body of each call before it has its effect.
        callers: Told the path and the body of each call that is answered to a client.
        failed_callers: The same of each call that a fault meets.
        named_callers: Told the name in the client's certificate, and the path, before a call has its effect.
        streams: The open event streams.
        requests: Calls so far, by path.
        requests_from: Calls so far, by the address that they came from and their path.
        is_migrating: Whether every call is answered 503.
        converge_interval: Seconds between convergence runs; None for none.
        rep_timeout: Seconds that a cell may take to answer a stop request before it is sent again.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        version: Version = Version.NEW,
        now: Callable[[], int] = time.time_ns,
        converge_interval: float | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.certificates = certificates
        self.state = State(version=version, now=now, complete=self._submit_callback)
        self.faults = Faults()
        self.beginning_callers: list[Callable[[str, bytes], None]] = []
        self.callers: list[Callable[[str, bytes], None]] = []
        self.failed_callers: list[Callable[[str, bytes], None]] = []
        self.named_callers: list[Callable[[str, str], None]] = []
        self.streams: list[Stream] = []
        self.requests: Counter[str] = Counter()
        self.requests_from: Counter[tuple[str, str]] = Counter()
        self.is_migrating = False
        self.converge_interval = converge_interval
        self.rep_timeout = 10.0
        self._tls = server_context(certificates.ca, certificates.server)
        # Bound but not listening: keeps the port while the BBS is passive or down.
        self._reservation = _bound(address)
        self.host, self.port = self._reservation.getsockname()[:2]
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._streaming: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens while it is active."""
        return f"https://{self.host}:{self.port}"

    @property
    def is_listening(self) -> bool:
        """Whether it is the active node."""
        return self._server is not None

    async def __aenter__(self) -> Self:
        self.spawn(self.state.events.run())
        self.spawn(self._converge_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.state.events.close()
        self._reservation.close()

    def add_cell(self, cell: Rep) -> None:
        """Make a cell known under the ID of its presence."""
        self.state.cells[cell.presence.cell_id] = cell

    def handle(self, path: str, body: bytes, trace_id: str = "") -> bytes | None:
        """Answer a call in process, past TLS and faults; None for an unknown path."""
        return endpoints.handle(self.state, path, body, trace_id)

    async def converge(self) -> None:
        """Run convergence once, now, and let its events out."""
        convergence.converge(self.state)
        await self.state.events.settle()

    async def start_listening(self) -> None:
        """Become the active node, with empty hubs."""
        listener = _bound((self.host, self.port))
        self._server = await asyncio.start_server(
            self._serve,
            sock=listener,
            ssl=self._tls,
            ssl_handshake_timeout=60,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )

    async def stop_listening(self) -> None:
        """Become passive: end streams cleanly, then refuse connections and close the open ones."""
        self.state.events.close_subscriptions()
        for stream in tuple(self.streams):
            stream.end()
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._streaming:
            await asyncio.wait(self._streaming, timeout=CLOSE_TIMEOUT)
        for writer in tuple(self._writers):
            writer.transport.abort()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def fail_over(self, down: float, migrating: float = 0.0) -> None:
        """Be gone for `down` seconds, answer 503 for `migrating`, then go on with the same data."""
        await self.stop_listening()
        await asyncio.sleep(down)
        self.is_migrating = migrating > 0
        await self.start_listening()
        await asyncio.sleep(migrating)
        self.is_migrating = False

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run something beside the calls, until the BBS is taken apart."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _converge_forever(self) -> None:
        while self.converge_interval is not None:
            await asyncio.sleep(self.converge_interval)
            if self.is_listening and not self.is_migrating:
                await self.converge()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections.add(task)
        self._writers.add(writer)
        try:
            connection = Connection(reader, writer)
            while (call := await connection.next_call()) is not None:
                if call.path in STREAMS:
                    self._streaming.add(task)
                if not await self._answer(connection, call):
                    return
                self._streaming.discard(task)
        except (Panic, asyncio.CancelledError):
            return  # only we cancel it; asyncio's streams would log that as an error
        finally:
            self._connections.discard(task)
            self._streaming.discard(task)
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, connection: Connection, call: Call) -> bool:
        self.requests[call.path] += 1
        self.requests_from[connection.peer, call.path] += 1
        fault = self.faults.take(call.path)
        for caller in self.failed_callers if fault is not None else ():
            caller(call.path, call.body)
        if fault is Fault.DROP_BEFORE:
            return False
        if fault is Fault.HANG:
            while await connection.reader.read(1024):
                pass
            return False
        if (seconds := self.faults.delay_of(call.path)) > 0:
            await asyncio.sleep(seconds)
        if fault is Fault.UNAVAILABLE or self.is_migrating:
            return await connection.answer(Answer(503))
        if call.path in STREAMS and call.method == "POST":
            return await self._stream(connection, call, opens=fault is not Fault.DROP_AFTER)
        self.state.slow_stops.clear()  # those of convergence and of calls in process: nobody waits for them
        answer = self._handled(connection.client, call)
        await self._wait_for_stops()
        if fault is Fault.DROP_AFTER:
            return False
        for caller in self.callers:
            caller(call.path, call.body)
        return await connection.answer(answer)

    async def _wait_for_stops(self) -> None:
        """Let a call that retires an instance in creation wait, until the request is repeated."""
        stops, self.state.slow_stops = self.state.slow_stops, []
        for stop in stops:
            try:
                async with asyncio.timeout(self.rep_timeout):
                    await stop.answered.wait()
            except TimeoutError:
                with contextlib.suppress(RepError):
                    stop.cell.stop_lrp(stop.key, stop.instance_guid)

    def _handled(self, client: str, call: Call) -> Answer:
        for named_caller in self.named_callers:
            named_caller(client, call.path)
        for caller in self.beginning_callers:
            caller(call.path, call.body)
        known = call.path in endpoints.ENDPOINTS or call.path in STREAMS
        if known and call.method != "POST":
            return text_answer(405, "Method Not Allowed", ("Allow", "POST"))
        body = self.handle(call.path, call.body, call.trace_id)
        return NOT_FOUND if body is None else Answer(200, body, (("Content-Type", PROTOBUF),))

    async def _stream(self, connection: Connection, call: Call, *, opens: bool) -> bool:
        try:
            cell_id = endpoints.cell_filter(call.path, call.body)
        except Undecodable:
            return await connection.answer(Answer(500))
        if not opens:
            return False
        stream = Stream(call.path, self.state.events, STREAMS[call.path], cell_id)
        self.streams.append(stream)
        try:
            await stream.run(connection.reader, connection.writer)
        finally:
            self.streams.remove(stream)
        return False

    def _submit_callback(self, task: Task) -> None:
        copy = Task()
        copy.CopyFrom(task)
        self.spawn(self._call_back(copy))

    async def _call_back(self, task: Task) -> None:
        """Do what a client would: resolving, report, delete. What is not handled stays Resolving."""
        try:
            tasks.resolving(self.state, task.task_guid)
            if await self._report_result(task):
                tasks.delete(self.state, task.task_guid)
        except BbsError as problem:
            if problem.kind not in {Error.ResourceNotFound, Error.InvalidStateTransition}:
                raise

    async def _report_result(self, task: Task) -> bool:
        body: dict[str, str | bool | int] = {
            "task_guid": task.task_guid,
            "failed": task.failed,
            "failure_reason": task.failure_reason,
            "result": task.result,
            "created_at": task.created_at,
        }
        if task.task_definition.annotation:
            body["annotation"] = task.task_definition.annotation
        context = client_context(self.certificates.ca, self.certificates.server)
        async with httpx.AsyncClient(verify=context, timeout=CALLBACK_TIMEOUT) as client:
            for _ in range(CALLBACK_ATTEMPTS):
                try:
                    answer = await client.post(
                        task.task_definition.completion_callback_url,
                        content=json.dumps(body),
                        headers={"Content-Type": "application/json"},
                    )
                except httpx.TimeoutException:
                    continue
                except (httpx.HTTPError, httpx.InvalidURL):
                    return False
                if answer.status_code not in RETRIED:
                    return True
        return False


@contextlib.asynccontextmanager
async def serve_bbs(
    certificates: Certificates,
    *,
    version: Version = Version.NEW,
    now: Callable[[], int] = time.time_ns,
    converge_interval: float | None = None,
    address: tuple[str, int] = ("127.0.0.1", 0),
) -> AsyncIterator[Bbs]:
    """Serve an active BBS until the block ends.

    Args:
        certificates: Its certificates, and those of whom it trusts.
        version: Which of the two recorded versions it is.
        now: Its clock, in nanoseconds since the epoch.
        converge_interval: Seconds between convergence runs; None leaves them to `Bbs.converge`.
        address: Where to listen; port 0 chooses one.
    """
    bbs = Bbs(certificates, version=version, now=now, converge_interval=converge_interval, address=address)
    async with bbs:
        await bbs.start_listening()
        yield bbs


def _bound(address: tuple[str, int]) -> socket.socket:
    # Said to be TCP: asyncio turns Nagle's delay off only where it can see that.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound
