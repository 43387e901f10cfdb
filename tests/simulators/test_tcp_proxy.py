"""A TCP proxy that can be cut."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.simulators.tcp_proxy import TcpProxy

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """Lead to a server that says from which address somebody comes, and then what it is told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{writer.get_extra_info('peername')[0]}\n".encode())
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, TcpProxy(host, port, source="127.0.0.7") as opened:
        yield opened


async def connect(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def accepted(proxy: TcpProxy) -> None:
    async with asyncio.timeout(60):
        while not proxy.connections:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)


async def is_broken_off(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_the_server_sees_the_client_come_from_the_address_of_the_proxy(proxy: TcpProxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"hello\n")

    assert [await reader.readline(), await reader.readline()] == [b"127.0.0.7\n", b"hello\n"]
    writer.close()


async def test_a_connection_that_waits_while_the_proxy_is_cut_is_broken_off_like_any_other(
    proxy: TcpProxy,
) -> None:
    proxy.cut()
    waiting, writer = await connect(proxy)
    await accepted(proxy)
    proxy.reset()

    assert await is_broken_off(waiting)
    writer.close()


async def test_a_connection_that_waits_while_the_proxy_is_cut_once_more_stays_silent(proxy: TcpProxy) -> None:
    proxy.cut()
    waiting, writer = await connect(proxy)
    await accepted(proxy)
    proxy.cut()
    proxy.mend()
    mended, writer_mended = await connect(proxy)
    assert await mended.readline() == b"127.0.0.7\n"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await waiting.readline()
    writer.close()
    writer_mended.close()


async def test_while_it_refuses_it_breaks_off_what_is_open_and_what_is_new(proxy: TcpProxy) -> None:
    before, writer_before = await connect(proxy)
    await before.readline()
    proxy.refuse()
    new, writer_new = await connect(proxy)

    assert await is_broken_off(before)
    assert await is_broken_off(new)

    proxy.mend()
    mended, writer_mended = await connect(proxy)
    assert await mended.readline() == b"127.0.0.7\n"
    for writer in (writer_before, writer_new, writer_mended):
        writer.close()
