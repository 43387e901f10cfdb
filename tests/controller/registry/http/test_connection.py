"""One connection's HTTP: what is read of an answer however it arrives, and what is refused."""

import socket
import ssl
import threading
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.registry.http.connection import (
    Connection,
    IllegalRequestError,
    ProtocolError,
    RawResponse,
    can_read,
)
from controller.registry.http.urls import Origin
from tests.simulators.certificates import Authority

ORIGIN = Origin("http", "r.example", 5000)
OK = b"HTTP/1.1 200 OK\r\n"
BODY = bytes(range(256)) * 40
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Pair:
    """A connection, and the socket of the server at its other end."""

    def __init__(self) -> None:
        ours, self.server = socket.socketpair()
        ours.settimeout(60.0)
        self.server.settimeout(60.0)
        self.connection = Connection(ours, ORIGIN)

    def answers(self, *parts: bytes, method: str = "GET") -> RawResponse:
        """Let the server answer, and end its side."""
        for part in parts:
            self.server.sendall(part)
        self.server.shutdown(socket.SHUT_WR)
        return self.connection.receive(method)

    def close(self) -> None:
        self.connection.close()
        self.server.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def stated(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunks(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def test_a_request_names_its_host_and_asks_for_the_bytes_as_they_are(pair: Pair) -> None:
    pair.connection.send("PUT", "/v2/x?a=b%20c", {"Content-Type": "text/plain"}, b"body")

    assert pair.server.recv(4096) == (
        b"PUT /v2/x?a=b%20c HTTP/1.1\r\nHost: r.example:5000\r\nAccept-Encoding: identity\r\n"
        b"User-Agent: diego-docker-cache\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("https", "r.example", 443), b"r.example"),
        (Origin("https", "::1", 5000), b"[::1]:5000"),
        (Origin("http", "r.example", 443), b"r.example:443"),
    ],
)
def test_a_host_has_a_port_where_it_is_not_the_usual_one(pair: Pair, origin: Origin, host: bytes) -> None:
    Connection(pair.connection.sock, origin).send("GET", "/", {}, None)

    assert b"\r\nHost: %b\r\n" % host in pair.server.recv(4096)


def test_pieces_of_a_body_follow_their_head(pair: Pair) -> None:
    pieces = (memoryview(b"ab"), memoryview(b"cd"))
    pair.connection.send("PUT", "/", {"Content-Length": "4"}, iter(pieces))

    text = b""
    while not text.endswith(b"\r\n\r\nabcd"):
        text += pair.server.recv(4096)
    assert text.count(b"Content-Length") == 1


@pytest.mark.parametrize(
    ("target", "value"),
    [("/ HTTP/1.1\r\nX: y", "v"), ("/", "v\r\nX: y"), ("/", "v\nX: y"), ("/\x00", "v"), ("/", "ü")],
)
def test_a_request_cannot_be_made_longer_by_what_is_in_it(pair: Pair, target: str, value: str) -> None:
    with pytest.raises(IllegalRequestError):
        pair.connection.send("GET", target, {"Authorization": value}, None)

    pair.connection.close()
    assert pair.server.recv(4096) == b""


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(stated(BODY), id="of a stated length"),
        pytest.param(CHUNKED + chunks(BODY), id="in chunks"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks(BODY)[:-2] + b"X: y\r\n\r\n", id="trailer"
        ),
        pytest.param(b"\r\n" + BODY, id="until the end"),
    ],
)
@pytest.mark.parametrize("size", [7, 1000, 65536])
def test_a_body_is_read_whole_into_buffers_of_any_size(pair: Pair, rest: bytes, size: int) -> None:
    response = pair.answers(OK, rest)
    body, buffer = b"", memoryview(bytearray(size))
    while count := response.readinto(buffer):
        body += buffer[:count]

    assert body == BODY
    assert response.is_at_end
    assert response.headers.get("X") is None  # what follows chunks is no header


@pytest.mark.parametrize(
    "rest", [CHUNKED + chunks(BODY[:500], 33), stated(BODY[:500])], ids=["chunks", "stated"]
)
@given(sizes=st.lists(st.integers(1, 200), max_size=30))
def test_an_answer_is_the_same_however_it_is_cut(rest: bytes, sizes: list[int]) -> None:
    raw = OK + b"A: 1\r\na: 2\r\n" + rest
    cuts = [0, *accumulate(sizes), len(raw)]
    parts = [raw[begin:end] for begin, end in pairwise(cuts)]
    response = RawResponse(Dripping(parts), "GET")  # type: ignore[arg-type]

    assert (response.status, response.headers.get_all("A")) == (200, ["1", "2"])
    assert response.read(10_000) == BODY[:500]
    assert response.keeps_connection
    assert response.is_at_end


class Dripping:
    """A socket that gives its parts one at a time."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = [part for part in parts if part]

    def recv(self, most: int) -> bytes:
        if not self._parts:
            return b""
        part = self._parts[0][:most]
        self._parts[:1] = [self._parts[0][most:]] if self._parts[0][most:] else []
        return part

    def is_at(self, left: int) -> bool:
        """Whether so many bytes, or more, have not been read."""
        return sum(map(len, self._parts)) >= left

    def recv_into(self, buffer: memoryview) -> int:
        part = self.recv(len(buffer))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_answers_have_no_body_whatever_they_state(pair: Pair, status: bytes) -> None:
    response = pair.answers(b"HTTP/1.1 %b\r\nContent-Length: 5\r\n\r\n" % status)

    assert response.is_at_end
    assert response.read(10) == b""


def test_an_answer_to_head_has_no_body_and_the_next_one_follows_it(pair: Pair) -> None:
    pair.server.sendall(OK + b"Content-Length: 5\r\n\r\n")
    first = pair.connection.receive("HEAD")
    second = pair.answers(OK + stated(b"abc"))

    assert (first.left, first.is_at_end, first.keeps_connection) == (0, True, True)
    assert first.headers.get("content-length") == "5"
    assert second.read(10) == b"abc"


def test_what_comes_before_the_answer_is_passed_over(pair: Pair) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    response = pair.answers(early + OK + stated(b"abc"))

    assert (response.status, response.headers.get("Link"), response.read(10)) == (200, None, b"abc")


def test_a_proxy_that_ends_its_lines_with_line_feeds_alone_is_understood(pair: Pair) -> None:
    response = pair.answers(b"HTTP/1.0 503 Service Unavailable\nRetry-After: 5\n\nbusy\n")

    assert (response.status, response.headers.get("Retry-After")) == (503, "5")
    assert response.read(100) == b"busy\n"
    assert not response.keeps_connection


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two lengths"),
        pytest.param(OK + b"Content-Length: 3\r\n" + CHUNKED + chunks(b"abc"), id="a length and chunks"),
        pytest.param(OK + b"Content-Length: x\r\n\r\nabc", id="a length that is none"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\nabc", id="a negative length"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(OK + b"A" * 70_000, id="a head without end"),
        pytest.param(OK + b"A: 1\r\n" * 20_000, id="headers without end"),
        pytest.param(OK + b"Link: <" + b"a" * 17_000 + b">\r\n\r\n", id="a header that is too long"),
        pytest.param(OK + b"a" * 17_000 + b": 1\r\n\r\n", id="a name of a header that is too long"),
        pytest.param(OK + b"A: 1\r\n" * 300 + b"\r\n", id="too many headers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, id="interim answers without end"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="an upgrade"),
        pytest.param(OK + b"A: 1\r\n", id="a head that is cut"),
    ],
)
def test_what_is_no_answer_is_refused(pair: Pair, answer: bytes) -> None:
    pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)

    with pytest.raises(ProtocolError):
        pair.answers(answer)


def test_a_connection_that_ends_without_a_word_is_lost(pair: Pair) -> None:
    with pytest.raises(ConnectionResetError):
        pair.answers()


def test_a_body_of_a_stated_length_that_is_cut_ends_early(pair: Pair) -> None:
    response = pair.answers(OK + stated(BODY)[:-100])

    assert response.read(100_000) == BODY[:-100]
    assert (response.left, response.keeps_connection) == (100, False)


def test_chunks_that_are_cut_are_an_error(pair: Pair) -> None:
    response = pair.answers(OK + CHUNKED + chunks(BODY)[:-3])

    with pytest.raises(ProtocolError, match="within the body"):
        response.read(100_000)


def test_chunks_that_cannot_be_read_are_an_error(pair: Pair) -> None:
    pair.server.sendall(OK + CHUNKED + b"3\r\nabc\r\n")
    response = pair.connection.receive("GET")
    pair.server.sendall(b"no number\r\n")

    assert response.read(3) == b"abc"
    with pytest.raises(ProtocolError, match="not HTTP"):
        response.read(1)


@pytest.mark.parametrize(
    "much", [b"0\r\nX: " + b"y" * 500_000, b"5;" + b"y" * 500_000], ids=["trailer", "extension"]
)
def test_chunks_with_much_beside_them_are_an_error(much: bytes) -> None:
    response = RawResponse(Dripping([OK + CHUNKED + b"3\r\nabc\r\n", much]), "GET")  # type: ignore[arg-type]

    with pytest.raises(ProtocolError, match="between the chunks"):
        response.read(100)


def test_many_small_chunks_are_read_whole() -> None:
    response = RawResponse(Dripping([OK + CHUNKED + chunks(BODY, 1)]), "GET")  # type: ignore[arg-type]

    assert response.read(100_000) == BODY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_connection_with_more_than_was_asked_for_is_not_kept(pair: Pair, method: str) -> None:
    response = pair.answers(OK + stated(b"abc") + OK + stated(b"another"), method=method)

    assert response.read(100) == (b"abc" if method == "GET" else b"")
    assert not response.keeps_connection


@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"])
def test_a_connection_is_kept_where_the_server_keeps_it(pair: Pair, head: bytes) -> None:
    assert pair.answers(head + stated(b"abc")).keeps_connection


@pytest.mark.parametrize("head", [OK + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_is_not_kept_where_the_server_closes_it(pair: Pair, head: bytes) -> None:
    assert not pair.answers(head + stated(b"abc")).keeps_connection


def test_a_connection_that_ends_with_its_answer_is_not_kept(pair: Pair) -> None:
    response = pair.answers(OK + b"\r\nabc")

    assert response.read(100) == b"abc"
    assert not response.keeps_connection


def test_a_kept_connection_on_which_something_waits_is_none(pair: Pair) -> None:
    def connected() -> bool:
        return pair.connection.is_connected

    assert connected()

    pair.server.sendall(b"x")
    assert not connected()

    pair.connection.close()
    assert not connected()


# What follows an answer

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nA: first\r\n"


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(OK + stated(b"abc"), id="another answer"),
        pytest.param(OK + CHUNKED + chunks(b"abc"), id="another answer in chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + stated(b"abc"), id="an interim answer"),
        pytest.param(b"H", id="its first letter"),
        pytest.param(b"\r", id="a carriage return"),
        pytest.param(b"\n", id="a line feed"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"\r\n\r\n", id="two empty lines"),
        pytest.param(b"0", id="a digit"),
        pytest.param(b"0\r\n\r\n", id="another end"),
        pytest.param(b"\x00", id="a byte that is no text"),
    ],
)
@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        pytest.param("GET", CHUNKED + chunks(b"gone"), b"gone", id="chunks"),
        pytest.param("GET", CHUNKED + b"4;x=y\r\ngone\r\n0\r\nX: y\r\n\r\n", b"gone", id="trailer"),
        pytest.param("GET", CHUNKED + b"0\r\n\r\n", b"", id="no chunk"),
        pytest.param("GET", stated(b"gone"), b"gone", id="a stated length"),
        pytest.param("GET", stated(b""), b"", id="no body"),
        pytest.param("HEAD", b"Content-Length: 4\r\n\r\n", b"", id="head"),
        pytest.param("HEAD", CHUNKED, b"", id="head of chunks"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 65536])
def test_an_answer_is_itself_whatever_follows_it(
    method: str, rest: bytes, body: bytes, behind: bytes, size: int
) -> None:
    """Once the status of a chunked answer was that of the answer behind it."""
    sent = NOT_FOUND + rest + behind
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    sock = Dripping(parts)
    response = RawResponse(sock, method)  # type: ignore[arg-type]

    assert (response.status, response.headers.get_all("A")) == (404, ["first"])
    assert response.read(100) == body
    assert response.status == 404
    assert response.headers.get("X") is None
    is_in_sight = not sock.is_at(len(behind))
    assert response.keeps_connection is not is_in_sight


@given(behind=st.binary(min_size=1, max_size=40))
@pytest.mark.parametrize("rest", [CHUNKED + chunks(b"gone"), stated(b"gone"), stated(b"")])
def test_nothing_may_come_with_an_answer_on_a_connection_that_is_kept(rest: bytes, behind: bytes) -> None:
    response = RawResponse(Dripping([NOT_FOUND + rest + behind]), "GET")  # type: ignore[arg-type]

    assert response.status == 404
    assert response.read(100) in {b"gone", b""}
    assert not response.keeps_connection


def test_what_tls_has_decrypted_already_is_seen(tmp_path: Path) -> None:
    """It is not in the socket any more, so that the socket alone looks as if nothing followed."""
    authority = Authority(tmp_path)
    pair = authority.server("r.example")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pair.certificate, pair.key)
    client_side = ssl.create_default_context(cafile=str(authority.certificate))
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with server_side.wrap_socket(theirs, server_side=True) as server:
            server.sendall(OK + stated(BODY[:5000]) + OK + stated(b"abc"))
            server.recv(1)  # until the client has closed its side

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    connection = Connection(client_side.wrap_socket(ours, server_hostname="r.example"), ORIGIN)
    response = connection.receive("GET")

    assert response.read(5000) == BODY[:5000]
    assert response.keeps_connection  # it stated its length and was read to its end
    assert not can_read(connection.sock)
    assert not connection.is_connected
    connection.close()
    thread.join()
