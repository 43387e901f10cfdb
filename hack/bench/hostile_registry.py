"""A registry on loopback that answers each request as a hostile one would, by the name of the repository.

`/v2/<kind>/<anything>/…` gets what is bad about that kind; each is written down in `ANSWERS`.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

KIBI, MEBI = 1 << 10, 1 << 20
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_numbers = itertools.count()

Answer = Callable[[str], bytes]
"""Path of a request to all that is sent; of what answers a HEAD, the head alone is sent."""


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Write a response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def _refuse(status: int, message: str, *headers: str) -> Answer:
    body = json.dumps({"errors": [{"code": "DENIED", "message": message, "detail": message}]}).encode()
    return lambda _path: answer(status, body, "Content-Type: application/json", *headers)


def _serve(body: bytes, media_type: str) -> Answer:
    headers = (f"Content-Type: {media_type}", f"Docker-Content-Digest: {_digest(body)}")

    def serve(path: str) -> bytes:
        if "/manifests/" not in path:
            return answer(404)
        return answer(200, body, *headers)

    return serve


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _manifest(layers: list[tuple[str, int]], **more: object) -> bytes:
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}
        | _content(_digest(config), len(config)),
        "layers": [{"mediaType": _LAYER} | _content(digest, size) for digest, size in layers],
    }
    return json.dumps(document | more).encode()


def _content(digest: str, size: int) -> dict[str, object]:
    return {"digest": digest, "size": size}


def _with_wrong_blobs(path: str) -> bytes:
    """Serve a manifest whose layers turn out to be something else, each time another one."""
    if "/blobs/" in path:
        return answer(200, b"x" * (256 * KIBI))
    layers = [(f"sha256:{next(_numbers):064x}", 256 * KIBI) for _ in range(3)]
    return _serve(_manifest(layers), _MANIFEST)(path)


def _big_index(architecture: str) -> bytes:
    entry = {"mediaType": _MANIFEST} | _content("sha256:" + "a" * 64, 500)
    platform = {"architecture": architecture, "os": "linux"}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry | {"platform": platform}]}
    ).encode()


def _with_tokens(path: str) -> bytes:
    """Ask for another scope each time, and give tokens of a megabyte."""
    if path.startswith("/token"):
        return answer(200, json.dumps({"token": "t" * MEBI, "expires_in": 86400}).encode())
    scope = f"repository:big-token/x{next(_numbers)}:pull"
    return answer(401, b"", f'WWW-Authenticate: Bearer realm="/token",service="x",scope="{scope}"')


_TERMINAL = "\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\r\n\x00"
_CASES = _manifest([("sha256:" + "b" * 64, 10)], Layers=[], LAYERS=[])
_LINK = "Link: <" + "a" * 60_000

ANSWERS: dict[str, Answer] = {
    "quadratic-text": _refuse(403, "x-amz-" * 10_800),
    "long-link": _refuse(403, "no", _LINK),
    "huge-name": _serve(_big_index("z" * 3_900_000), _INDEX),
    "terminal": _refuse(403, _TERMINAL * 100),
    "big-token": _with_tokens,
    "many-values": _serve(b'{"schemaVersion":2,"layers":[' + b'{"":[]},' * 500_000 + b"{}]}", _MANIFEST),
    "two-cases": _serve(_CASES, _MANIFEST),
    "at-once": _refuse(429, "slow down", "Retry-After: 0"),
    "long-ago": _refuse(503, "later", "Retry-After: Mon, 01 Jan 2001 00:00:00 GMT"),
    "wrong-blobs": _with_wrong_blobs,
    "two-answers": lambda _path: answer(404) + answer(200, b"{}"),
    "in-chunks": lambda _path: (
        b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + answer(200, b"{}")
    ),
    "half": lambda _path: b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf",
    "long-head": lambda _path: b"HTTP/1.1 200 X\r\n" + b"X-Y: z\r\n" * 50_000,
    "no-http": lambda _path: b"\x16\x03\x01" * 10_000,
}
"""Kind to what it answers."""


class HostileRegistry:
    """The registry.

    Attributes:
        requests: How many it was asked.
    """

    def __init__(self) -> None:
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
                self.requests += 1
                writer.write(self._answer(method, path))
                await writer.drain()
        writer.close()

    def _answer(self, method: str, path: str) -> bytes:
        if path == "/v2/":
            return answer(200, b"{}")
        kind = "big-token" if path.startswith("/token") else path.split("/")[2]
        data = ANSWERS[kind](path)
        head, end, _ = data.partition(b"\r\n\r\n")
        return head + end if method == "HEAD" and kind != "two-answers" else data


@asynccontextmanager
async def serve_hostility(hosts: int) -> AsyncIterator[tuple[HostileRegistry, list[str]]]:
    """Serve it at so many addresses, and give these."""
    registry = HostileRegistry()
    server = await asyncio.start_server(registry.serve, "127.0.0.1", 0, limit=MEBI)
    port = server.sockets[0].getsockname()[1]
    others = [
        await asyncio.start_server(registry.serve, f"127.0.0.{number}", port, limit=MEBI)
        for number in range(2, hosts + 1)
    ]
    try:
        yield registry, [f"127.0.0.{number}:{port}" for number in range(1, hosts + 1)]
    finally:
        for each in (server, *others):
            each.close()


def references(addresses: list[str]) -> Iterator[str]:
    """Give image references without end, under tags that are ever new.

    Each kind has hosts of its own: one that limits requests would keep the others from being asked.
    """
    kinds = list(ANSWERS)
    for number in itertools.count():
        for at, kind in enumerate(kinds):
            own = addresses[at :: len(kinds)]
            yield f"{own[number % len(own)]}/{kind}/web:{number}"
