"""Certificates that change on disk are used for new connections to the control plane, and old ones end in peace."""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.file_values import FileValue
from controller.transport import client_tls, open_calls, open_streams
from tests.simulators.certificates import Authority, Pair

pytestmark = pytest.mark.usefixtures("servers")


class Clock:
    """A clock by which the files are looked at each time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60.0
        return self.now


@dataclass
class Peer:
    """A server that notes the certificate of each caller, and answers each request with one part of a body.

    Attributes:
        callers: The common name of the certificate of each connection, in order.
        may_end: Lets the second part of bodies be sent.
        open: Connections that are open.
    """

    port: int = 0
    callers: list[str] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate: dict[str, Any] = writer.get_extra_info("peercert")
        self.callers.append(certificate["subject"][0][0][1])
        self.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
                    await writer.drain()
                    await self.may_end.wait()
                    writer.write(b"b")
        finally:
            self.open -= 1
            writer.close()


@dataclass
class Files:
    """The files of a client, and the authorities that may sign for it."""

    directory: Path
    own: Authority = field(init=False)
    next: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.own, self.next = Authority(self.directory / "own"), Authority(self.directory / "next")
        self.put(self.own.client("x", file="first"), self.own)

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def pair(self) -> Pair:
        return Pair(self.directory / "client.pem", self.directory / "client.key")

    def put(self, pair: Pair, *trusted: Authority) -> None:
        shutil.copy(pair.certificate, self.pair.certificate)
        shutil.copy(pair.key, self.pair.key)
        self.trust(*trusted)

    def trust(self, *authorities: Authority) -> None:
        self.ca.write_bytes(b"".join(each.certificate.read_bytes() for each in authorities))

    def follow(self) -> FileValue[ssl.SSLContext]:
        files = (self.ca, self.pair.certificate, self.pair.key)
        return FileValue(
            files,
            lambda: client_tls(self.ca, cert_file=self.pair.certificate, key_file=self.pair.key),
            clock=Clock(),
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def serving(files: Files) -> AsyncIterator[Peer]:
    """Serve with a certificate of the first authority; callers may have one of either."""
    peer, pair = Peer(), files.own.server("127.0.0.1")
    peer.may_end.set()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    for authority in (files.own, files.next):
        context.load_verify_locations(authority.certificate)
    context.load_cert_chain(pair.certificate, pair.key)
    server = await asyncio.start_server(peer.answer, "127.0.0.1", 0, ssl=context)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer
        server.close()


@asynccontextmanager
async def calls(peer: Peer, files: Files) -> AsyncIterator[httpx.AsyncClient]:
    tls = await asyncio.to_thread(files.follow)
    async with open_calls(f"https://127.0.0.1:{peer.port}", tls=tls, timeout=10.0) as client:
        yield client


async def closed(peer: Peer, left: int) -> None:
    async with asyncio.timeout(10):
        while peer.open != left:  # noqa: ASYNC110 - the other side closes
            await asyncio.sleep(0.01)


async def test_a_new_certificate_is_shown_from_the_next_call_on(files: Files) -> None:
    async with serving(files) as peer, calls(peer, files) as client:
        assert (await client.get("/")).text == "ab"
        assert (await client.get("/")).text == "ab"
        files.put(files.next.client("x", file="second"), files.own)

        assert (await client.get("/")).text == "ab"
        await closed(peer, 1)

    assert peer.callers == ["first", "second"]


async def test_a_certificate_whose_key_is_not_there_yet_is_not_shown(files: Files) -> None:
    second = files.own.client("x", file="second")
    async with serving(files) as peer, calls(peer, files) as client:
        await client.get("/")
        shutil.copy(second.certificate, files.pair.certificate)
        await client.get("/")
        half = list(peer.callers)
        shutil.copy(second.key, files.pair.key)
        await client.get("/")

    assert half == ["first"]
    assert peer.callers == ["first", "second"]


async def test_an_authority_that_was_removed_is_trusted_no_longer(files: Files) -> None:
    async with serving(files) as peer, calls(peer, files) as client:
        await client.get("/")
        files.trust(files.next)

        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get("/")

        files.trust(files.next, files.own)
        assert (await client.get("/")).text == "ab"


async def test_what_is_under_way_ends_over_its_old_connection(files: Files) -> None:
    """An event stream stays open for weeks."""
    async with serving(files) as peer:
        peer.may_end.clear()
        url, tls = f"https://127.0.0.1:{peer.port}", await asyncio.to_thread(files.follow)
        async with (
            open_streams(url, tls=tls) as client,
            client.stream("GET", "/") as old,
        ):
            parts = old.aiter_raw()
            first = await anext(parts)
            files.put(files.own.client("x", file="second"), files.own)
            async with client.stream("GET", "/") as new:
                both = list(peer.callers), peer.open
                peer.may_end.set()
                whole = await new.aread()
            last = await anext(parts)
            await old.aclose()
            await closed(peer, 0)

    assert (first, last, whole) == (b"a", b"b", b"ab")
    assert both == (["first", "second"], 2)


async def test_a_call_that_fails_leaves_nothing_open(files: Files) -> None:
    async with serving(files) as peer, calls(peer, files) as client:
        await client.get("/")
        peer.may_end.clear()
        under_way = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0.1)
        files.put(files.own.client("x", file="second"), files.own)
        other = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0.1)
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)
        peer.may_end.set()

        assert (await other).text == "ab"
        await closed(peer, 1)
