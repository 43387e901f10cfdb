"""The readers of foreign bytes, with valid inputs, the words of their grammars, and what they may cost."""

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from controller.bbs.events import event_from_sse
from controller.bbs.sse import EventTooLarge, SseParser
from controller.engines.docker_stream import LayerProgress, read_events
from controller.engines.progress import ProgressMeter
from controller.registry.auth.challenges import choose_challenge, merge_scopes, parse_token
from controller.registry.http.connection import Connection, ProtocolError
from controller.registry.http.links import next_page
from controller.registry.http.refusals import Refusal, error_from_refusal
from controller.registry.http.urls import parse_url
from controller.registry.oci.manifests import OCI_INDEX, OCI_MANIFEST, parse_document
from reconcile.errors import DockerCacheError
from tests.fuzz.limits import Bounds

_URL = parse_url("https://registry.example/v2/team/web/tags/list?n=100")
_MEDIA = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
_LARGEST_HEAD = 1 << 17
_LARGEST_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Reader:
    """One of the readers.

    Attributes:
        name: What it reads.
        read: Reads an input, which a seed divides into chunks.
        seeds: Valid inputs.
        words: Of its grammar.
        errors: By which it may refuse an input.
        largest: Bytes of an input.
        bounds: What an input may cost.
    """

    name: str
    read: Callable[[bytes, int], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = (DockerCacheError,)
    largest: int = _LARGEST_LINE
    bounds: Bounds = Bounds()  # noqa: RUF009 - a frozen value


def chunks(data: bytes, split: int) -> Iterator[bytes]:
    """Divide an input: into few pieces, or into many small ones."""
    chance = random.Random(split)
    most = chance.choice([1, 16, 1000, 1 << 16, 1 << 24])
    at = 0
    while at < len(data):
        count = chance.randint(1, most)
        yield data[at : at + count]
        at += count


class ScriptedSocket:
    """The socket of a server that sends some bytes, whatever it is asked, and closes.

    Attributes:
        sent: How many bytes it has sent.
    """

    def __init__(self, data: bytes, split: int) -> None:
        self._chunks, self._rest, self.sent = chunks(data, split), b"", 0

    def recv(self, most: int) -> bytes:
        """Give the next bytes."""
        self._rest = self._rest or next(self._chunks, b"")
        data, self._rest = self._rest[:most], self._rest[most:]
        self.sent += len(data)
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """Fill a buffer with the next bytes."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class WrongAnswerError(Exception):
    """A response was read as something that it is not."""


_HTTP_ERRORS = (DockerCacheError, ProtocolError, ConnectionResetError)


def _read_response(data: bytes, split: int) -> None:
    """Read a response with its body, and see that no byte behind it is left on a connection that is kept."""
    read = _read_once(data, split)
    if read is None:
        return
    with contextlib.suppress(*_HTTP_ERRORS):
        if _read_once(data[: read - 1], split) is not None:
            raise WrongAnswerError(
                f"a connection is kept although the last of {read} bytes is none of the response"
            )


def _read_once(data: bytes, split: int) -> int | None:
    """Read a response as a client would that asks for one blob.

    Returns:
        How many bytes were taken off a connection that may be used again; None where it may not.
    """
    sock = ScriptedSocket(data, split)
    connection = Connection(cast("socket.socket", sock), _URL.origin)
    method = ("GET", "HEAD", "PUT")[split % 3]
    response = connection.receive(method)
    if not 200 <= response.status <= 999:
        raise WrongAnswerError(f"status {response.status}")
    status, stated, count = response.status, response.left, 0
    buffer = memoryview(bytearray(4096))
    while got := response.readinto(buffer):
        count += got
    if response.status != status:
        raise WrongAnswerError(f"status {status} became {response.status}")
    if stated is not None and count > stated:
        raise WrongAnswerError(f"{count} bytes of {stated}")
    return sock.sent if response.keeps_connection and response.is_at_end else None


def _read_refusal(data: bytes, _split: int) -> None:
    method, _, rest = data.partition(b"\n")
    status, _, body = rest.partition(b"\n")
    number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else 400
    refusal = Refusal(number, {}, body, "r.example/a/b:1 (read manifest)", method=method.decode("latin-1"))
    raise error_from_refusal(refusal)


def _read_link(data: bytes, _split: int) -> None:
    next_page(_URL, [data.decode("latin-1")])


def _read_challenge(data: bytes, _split: int) -> None:
    challenge = choose_challenge([data.decode("latin-1")])
    scopes = getattr(challenge, "scopes", ())
    merge_scopes(scopes, ["repository:team/web:pull"])


def _read_token(data: bytes, _split: int) -> None:
    parse_token(data, "r.example/a/b:1 (log in)")


def _read_manifest(data: bytes, split: int) -> None:
    parse_document(data, ("", OCI_MANIFEST, OCI_INDEX)[split % 3], "r.example/a/b:1")


def _read_sse(data: bytes, split: int) -> None:
    parser = SseParser(max_event=1 << 20)
    for chunk in chunks(data, split):
        for event in parser.feed(chunk):
            event_from_sse(event.name, data=event.data)


def _read_docker_stream(data: bytes, split: int) -> None:
    progress = LayerProgress(ProgressMeter(), {})
    for event in read_events(chunks(data, split), "r.example/a/b:1 (pull)", ()):
        progress.record(event)


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _descriptor(media_type: str, letter: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{letter * 64}", "size": 1000}


_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": _descriptor(_MEDIA[0], "a"),
    "layers": [_descriptor(_MEDIA[1], letter) for letter in "bcd"],
    "annotations": {"org.opencontainers.image.title": "web"},
}
_PLATFORM = {"architecture": "amd64", "os": "linux", "variant": "v8"}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": OCI_INDEX,
    "manifests": [_descriptor(OCI_MANIFEST, letter) | {"platform": _PLATFORM} for letter in "ab"],
}
_ERRORS = {"errors": [{"code": "DENIED", "message": "requested access is denied", "detail": {"Err": 28}}]}

READERS = (
    Reader(
        "http",
        _read_response,
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDocker-Content-Digest: sha256:aa\r\n\r\nhello",
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nLocation: /v2/x\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        ),
        (
            b"HTTP/1.1 200 OK\r\n",
            b"Content-Length: 7\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Connection: keep-alive\r\n",
            b"Upgrade: h2c\r\n",
            b"\r\n\r\n",
            b"0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"1;x=y\r\na\r\n",
            b"X: y\r\n",
        ),
        errors=_HTTP_ERRORS,
        largest=_LARGEST_HEAD,
    ),
    Reader(
        "refusal",
        _read_refusal,
        (b"GET\n403\n" + _json(_ERRORS), b"PUT\n500\n<html>no space left on device</html>"),
        (
            b'"errors"',
            b'"detail"',
            b'"message"',
            b"x-amz-",
            b"Authorization: Bearer ",
            b"://u:p@h/",
            b"GET\n429\n",
        ),
    ),
    Reader(
        "link",
        _read_link,
        (
            b'</v2/team/web/tags/list?last=9&n=100>; rel="next"',
            b'</v2/a>; rel=prev; title="x", <https://registry.example/v2/b>; rel=next',
        ),
        (b"<", b">; rel=next", b'; rel="next"', b'; title="', b"a" * 64, b", ", b";", b'="x"'),
    ),
    Reader(
        "challenge",
        _read_challenge,
        (
            b'Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull"',
            b'Negotiate, Basic realm="r", Bearer realm="/token"',
        ),
        (
            b"Bearer ",
            b"Basic ",
            b'realm="',
            b'scope="',
            b'\\"',
            b"repository:a/b:pull,push ",
            b", ",
            b"=\t",
            b"\\",
        ),
    ),
    Reader(
        "token",
        _read_token,
        (_json({"token": "t" * 40, "expires_in": 300, "issued_at": "2026-01-02T03:04:05Z"}),),
        (b'"token":', b'"access_token":', b'"expires_in":', b'"issued_at":', b"null", b"true", b"[", b"{"),
        largest=1 << 20,
    ),
    Reader(
        "manifest",
        _read_manifest,
        (_json(_MANIFEST), _json(_INDEX)),
        (
            b'"layers":[',
            b'"manifests":[',
            b'{"":[]},',
            b"[[",
            b'"Layers":[],',
            b'"annotations":{"a":"b"},',
            b'"urls":["https://x.example/"],',
            b"null",
            _json(_descriptor(_MEDIA[1], "e")) + b",",
        ),
        largest=4 << 20,
        # A document that is taken has descriptors of some hundred bytes each.
        bounds=Bounds(memory=8 << 20),
    ),
    Reader(
        "sse",
        _read_sse,
        (
            b"id: 0\nevent: task_created\ndata: ChUKBHRhc2s=\n\n",
            b"event: desired_lrp_removed\r\ndata: CgA=\r\ndata: CgA=\r\n\r\n: comment\n\n",
        ),
        (b"data: ", b"event: ", b"\n\n", b"\r", b"\xef\xbb\xbf", b"actual_lrp_crashed", b"data:\n", b":"),
        errors=(EventTooLarge,),
        largest=2 << 20,
        # It is the BBS's, and may be nothing but line ends.
        bounds=Bounds(seconds_per_mib=4.0),
    ),
    Reader(
        "docker-stream",
        _read_docker_stream,
        (
            b'{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}\r\n',
            b'{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"0123456789ab"}\r\n',
            b'{"aux":{"Tag":"1","Digest":"sha256:' + b"a" * 64 + b'","Size":528}}\r\n',
        ),
        (b'"status":', b'"error":', b'"errorDetail":', b"\r\n", b"{", b"}", b"[", b'"current":', b" "),
        largest=2 << 20,
    ),
)
"""All readers."""
