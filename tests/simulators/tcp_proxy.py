"""A TCP proxy between one client and a server, such as Locket, that can fail as a network does.

It listens on loopback, and passes bytes on without reading them.
"""

import asyncio
import contextlib
from typing import Self

_READ_SIZE = 65536


class TcpProxy:
    """A TCP proxy that can be cut, to be used as an async context manager.

    Args:
        host: Of the server.
        port: Of the server.
        source: The address from which the server sees the client connect, such as "127.0.0.2"; None for any.

    Attributes:
        address: "host:port" at which the proxy listens.
        connections: How many connections of the client have been accepted.
    """

    def __init__(self, host: str, port: int, *, source: str | None = None) -> None:
        self._target = host, port
        self._source = None if source is None else (source, 0)
        self._is_refusing = False
        self.connections = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._silent: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._server: asyncio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._is_closed = True
        self.mend()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Pass nothing on any more, and answer nothing: connections stay open and new ones are taken."""
        self._is_open.clear()
        self.forget()

    def refuse(self) -> None:
        """Break off the connections that are open and each new one, as if the server was being started."""
        self._is_refusing = True
        self.reset()

    def mend(self) -> None:
        """Pass on what comes over new connections; those from before the cut stay silent for ever."""
        self._is_refusing = False
        self._is_open.set()

    def forget(self) -> None:
        """Let the connections that are open be silent for ever, as a firewall does that was restarted."""
        self._silent |= self._writers

    def reset(self) -> None:
        """Break off the connections that are open."""
        for writer in self._writers:
            writer.transport.abort()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_closed or self._is_refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in the task, which may be cancelled before it has begun.
        task.add_done_callback(lambda _: self._end(writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._is_open.wait()
            back, forth = await asyncio.open_connection(*self._target, local_addr=self._source)
            self._writers.add(forth)
            if writer in self._silent:  # it was cut meanwhile
                self._silent.add(forth)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, forth))
                    both.create_task(self._copy(back, writer))
            finally:
                self._end(forth)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        self._silent.discard(writer)
        writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_READ_SIZE):
                if target not in self._silent:
                    target.write(data)
                    await target.drain()
        if target not in self._silent:
            target.transport.abort()
