"""Handshakes with servers that end them in their own ways."""

import asyncio
import ssl

import pytest

from controller.doctor.handshake import ClosedInHandshakeError, grpc_tls, hangs_up
from controller.mutual_tls import MutualTls
from tests.controller.doctor.conftest import proxy_of_nobody
from tests.simulators.certificates import Certificates, server_context

pytestmark = pytest.mark.usefixtures("servers")

LIMIT = 5.0


@pytest.fixture
async def context(certificates: Certificates) -> ssl.SSLContext:
    pair = certificates.client
    return await asyncio.to_thread(grpc_tls, MutualTls(certificates.ca, pair.certificate, pair.key))


@pytest.fixture
async def served(certificates: Certificates) -> ssl.SSLContext:
    return await asyncio.to_thread(server_context, certificates.ca, certificates.server)


@pytest.mark.parametrize("has_word", [False, True])
async def test_a_server_that_hangs_up_after_the_handshake_is_told_from_one_that_answers(
    context: ssl.SSLContext, served: ssl.SSLContext, *, has_word: bool
) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if has_word:
            writer.write(b"settings")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await hangs_up(address, context, limit=LIMIT) is not has_word


async def test_a_server_that_is_slow_to_agree_to_an_end_is_not_waited_for(
    context: ssl.SSLContext, served: ssl.SSLContext
) -> None:
    """It answers, and then reads nothing more, so that it does not see that this side ends."""
    callers: list[asyncio.StreamWriter] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        assert isinstance(writer.transport, asyncio.ReadTransport)
        writer.transport.pause_reading()
        writer.write(b"settings")

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert not await hangs_up(address, context, limit=LIMIT)
        for writer in callers:
            writer.transport.abort()


async def test_a_connection_that_is_closed_during_the_handshake_is_said_so(context: ssl.SSLContext) -> None:
    async with proxy_of_nobody() as address:
        with pytest.raises(ClosedInHandshakeError):
            await hangs_up(address, context, limit=LIMIT)
