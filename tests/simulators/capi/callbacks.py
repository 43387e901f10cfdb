"""Where the BBS reports the ends of tasks, and what a builder must have reported.

Source: cloud_controller_ng app/controllers/internal/staging_completion_controller.rb,
lib/cloud_controller/diego/docker/staging_completion_handler.rb.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.simulators.bbs.connections import Answer, Connection

MALFORMED = "Malformed message from Diego stager"


class CallbackServer:
    """Listens on a loopback port for callbacks.

    Args:
        take: Takes the parts of a path below /internal and a body, and returns the status.
    """

    def __init__(self, take: Callable[[list[str], bytes], Awaitable[int]]) -> None:
        self._take = take
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self) -> str:
        """Begin to listen, and return the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._connections):
                writer.close()
                await writer.wait_closed()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            connection = Connection(reader, writer)
            while (call := await connection.next_call()) is not None:
                status = await self._take(call.path.split("/")[2:], call.body)
                if not await connection.answer(Answer(status)):
                    return
        finally:
            self._connections.discard(writer)
            writer.close()


def staging_result(text: str) -> dict[str, Any] | None:
    """Read what a builder reports; None if it is not what Cloud Controller insists on."""
    try:
        result = json.loads(text)
        is_good = (
            result["lifecycle_type"] == "docker"
            and isinstance(result["lifecycle_metadata"]["docker_image"], str)
            and isinstance(result["execution_metadata"], str)
            and isinstance(result["process_types"], dict)
        )
    except (ValueError, KeyError, TypeError):
        return None
    return result if is_good else None
