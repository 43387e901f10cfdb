"""A docker daemon's image API on a unix socket, which says what a test has written for it.

It moves no bytes: a pull makes a local image known, a push tells of a digest. Shapes of
requests and answers are those of daemon 20.10.
"""

import base64
import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Script:
    """What a pull or a push answers.

    Attributes:
        chunks: Each sent in a chunk of its own.
        status: Of the answer; other than 200 the chunks are its whole body.
        is_cut: Close the connection after the last chunk, without the end of the body.
        is_chunked: Else the body's end is that of the connection.
        then_repeat: Sent again and again at the end, until the client goes away.
        then_hang: Keep silent at the end, until the client goes away.
    """

    chunks: tuple[bytes, ...] = ()
    status: int = 200
    is_cut: bool = False
    is_chunked: bool = True
    then_repeat: bytes = b""
    then_hang: bool = False


def lines(*messages: Mapping[str, object]) -> tuple[bytes, ...]:
    """Write messages as the daemon does, one a chunk."""
    return tuple(json.dumps(message).encode() + b"\r\n" for message in messages)


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A request that the daemon got.

    Attributes:
        auth: Decoded `X-Registry-Auth`; None when there was none.
    """

    method: str
    path: str
    query: dict[str, str]
    auth: dict[str, str] | None = field(repr=False)


@dataclass
class DockerDaemonSimulator:
    """What it will say, what it holds, and what it was asked.

    Attributes:
        image_id: Of whatever is pulled.
        diff_ids: Of whatever is pulled.
        names: Reference to image ID.
        old_passwords: Those that registries refuse.
        gone: Set when a client went away in the middle of a stream.
        waits: Set when a stream repeats its last message or keeps silent until the client goes away.
    """

    socket_path: str
    image_id: str = f"sha256:{'0' * 64}"
    diff_ids: tuple[str, ...] = ()
    pull: Script = field(default_factory=Script)
    push: Script = field(default_factory=Script)
    remove_status: int = 200
    names: dict[str, str] = field(default_factory=dict)
    old_passwords: set[str] = field(default_factory=set, repr=False)
    calls: list[LoggedCall] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    waits: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """Its address as clients write it."""
        return f"unix://{self.socket_path}"

    def called(self, ending: str) -> list[LoggedCall]:
        """List the calls whose path ends so."""
        return [call for call in self.calls if call.path.endswith(ending)]

    def describe(self, image_id: str) -> dict[str, object]:
        """Write an image as `inspect` shows it."""
        names = [name for name, held in self.names.items() if held == image_id]
        return {
            "Id": image_id,
            "RepoTags": [name for name in names if "@" not in name],
            "RepoDigests": [name for name in names if "@" in name],
            "RootFS": {"Type": "layers", "Layers": list(self.diff_ids)},
            "Unknown": {"field": 1},
        }


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    daemon: DockerDaemonSimulator

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # a client may go away at any time
            super().handle_error(request, client_address)  # type: ignore[arg-type] # as it came


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
        pass

    def _begin(self) -> tuple[DockerDaemonSimulator, str, dict[str, str]]:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = unquote(parts.path)
        if path.startswith("/v1."):
            path = path[path.index("/", 1) :]
        header = self.headers.get("X-Registry-Auth")
        auth = None if header is None else json.loads(base64.urlsafe_b64decode(header))
        daemon = self.server.daemon
        daemon.calls.append(LoggedCall(self.command, path, query, auth))
        return daemon, path, query

    def _send(self, status: int, body: object) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        daemon, path, _ = self._begin()
        if path == "/version":
            self._send(200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"})
        elif path == "/images/json":
            self._send(200, [daemon.describe(each) for each in set(daemon.names.values())])
        else:
            image = daemon.names.get(path.removeprefix("/images/").removesuffix("/json"))
            if image is None:
                self._send(404, {"message": "No such image"})
            else:
                self._send(200, daemon.describe(image))

    def do_POST(self) -> None:
        daemon, path, query = self._begin()
        if path == "/images/create":
            at = "@" if ":" in query["tag"] else ":"
            if self._run(daemon.pull):
                daemon.names[f"{query['fromImage']}{at}{query['tag']}"] = daemon.image_id
        elif path.endswith("/tag"):
            daemon.names[f"{query['repo']}:{query['tag']}"] = daemon.image_id
            self._send(201, b"")
        else:
            self._run(daemon.push)

    def do_DELETE(self) -> None:
        daemon, path, _ = self._begin()
        name = path.removeprefix("/images/")
        if daemon.remove_status != 200:
            self._send(daemon.remove_status, {"message": "conflict: unable to remove"})
        elif daemon.names.pop(name, None) is None:
            self._send(404, {"message": "No such image"})
        else:
            self._send(200, [{"Untagged": name}])

    def _run(self, script: Script) -> bool:
        """Tell what the script says; True when that was a stream to its end, without an error in it."""
        auth = self.server.daemon.calls[-1].auth or {}
        if auth.get("password") in self.server.daemon.old_passwords:
            self._send(500, {"message": "unauthorized: incorrect username or password"})
            return False
        if script.status != 200:
            self._send(script.status, b"".join(script.chunks))
            return False
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header(
            *(("Transfer-Encoding", "chunked") if script.is_chunked else ("Connection", "close"))
        )
        self.end_headers()
        try:
            self._stream(script)
        except OSError:
            self.server.daemon.gone.set()
            self.close_connection = True
            return False
        if script.is_cut or not script.is_chunked:
            self.close_connection = True
        return not script.is_cut and b"rror" not in b"".join(script.chunks)

    def _stream(self, script: Script) -> None:
        for chunk in script.chunks:
            self._chunk(chunk, script)
        if script.then_repeat or script.then_hang:
            self.server.daemon.waits.set()
        pause = threading.Event()
        while script.then_repeat:
            self._chunk(script.then_repeat, script)
            pause.wait(0.01)  # the real one counts seconds
        if script.then_hang:
            self.connection.recv(1)  # until the client goes away
            raise ConnectionAbortedError
        if script.is_chunked and not script.is_cut:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, chunk: bytes, script: Script) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if script.is_chunked else chunk)


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[DockerDaemonSimulator]:
    """Run one for the length of a block; its socket lies in a directory with a short path."""
    daemon = DockerDaemonSimulator(str(directory / "docker.sock"))
    with _Server(daemon.socket_path, _Handler) as server:
        server.daemon = daemon
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            server.shutdown()
            thread.join()
