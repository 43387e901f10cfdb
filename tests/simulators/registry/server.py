"""The protocol of a simulated registry: requests in, answers out, a log of both."""

import base64
import contextlib
import json
import re
import secrets
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.simulators.registry.faults import (
    Action,
    Cut,
    CutUpload,
    Drip,
    Fault,
    Meanwhile,
    Moved,
    NoHeaders,
    OtherBytes,
    Raw,
    Redirect,
    Refuse,
    Stall,
    WithHeaders,
)
from tests.simulators.registry.store import Store, StoredManifest, digest_of

_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
_ROUTE = re.compile(
    rf"/v2/(?P<name>{_NAME})/(?:manifests/(?P<manifest>[\w.:+-]+)|blobs/(?P<blob>[\w]+:[0-9a-fA-F]+)"
    r"|blobs/uploads/(?P<upload>[\w-]*)|tags/(?P<tags>list))"
)
_MAX_MANIFEST = 4 * 1024 * 1024
_PIECE = 256 * 1024
_ESTABLISHED = b"\x01"
"""The first byte of `TCP_INFO`, its state, of a connection that neither end has closed."""
_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNKNOWN": "unknown error",
}


@dataclass(frozen=True, slots=True)
class BasicLogin:
    """User names and passwords that open everything."""

    users: Mapping[str, str]

    def takes(self, given: str) -> bool:
        """Whether a value of `Authorization` opens it."""
        return given in {_basic(user, password) for user, password in self.users.items()}


@dataclass(frozen=True, slots=True)
class AnyLogin:
    """A challenge that any user name and password answers; nobody comes in without one."""

    def takes(self, given: str) -> bool:
        """Whether a value of `Authorization` opens it; clients without a login send two empty words."""
        return given.startswith("Basic ") and given != _basic("", "")


@dataclass(slots=True)
class TokenLogin:
    """Bearer tokens from a token server; the simulator's own answers at /token.

    Attributes:
        users: May pull and push; nobody else may push.
        anonymous: Whether anybody may pull.
        lifetime: Seconds for which a token is valid, as the answer states; with None it states nothing, and 60 hold.
        realm: URL of the token server; empty for the simulator's own.
        pull_only_tokens: How many of the next tokens grant only pull, whatever was asked for.
        identity_token: What the token server takes by OAuth; empty where it does not offer that.
        registry_token: A token that the registry takes although the token server never gave it.
        age: How many seconds before the answer `issued_at` lies, as for a token from a cache; None states none.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = True
    lifetime: int | None = 300
    realm: str = ""
    pull_only_tokens: int = 0
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    age: int | None = None


Login = BasicLogin | AnyLogin | TokenLogin


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request as it came; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


class RegistrySimulator:
    """A running registry.

    Attributes:
        store: What it holds.
        login: Who may do what; None lets everybody.
        faults: What to do wrong; the first that fits a request is done.
        status_for_anonymous: Status that anonymous requests get in place of a challenge, except at the base
            of the API; 0 for none.
        forbids: Whether a wrong login is answered with 403 in place of a challenge.
        mounts: Whether mounts are granted.
        deletes: Whether manifests may be deleted; the real one has to be told so.
        ahead: Seconds that its clock is ahead, as its answers show.
        relative_locations: Whether upload locations are relative.
        resumable: Whether broken uploads can be resumed, as with 3.x; 2.8 has lost them.
        catalog: Whether it lists its repositories.
        referrers: Whether the registry lists what refers to a manifest; 2.8 does not.
        longest_body: Bytes of the longest body that a proxy in front of it takes; None where none does.
        least_chunk: Bytes of the shortest part of an upload but the last, as it states; 0 states nothing.
        lenient: Whether it takes manifests without the blobs that they refer to.
        cancelled: How many uploads were cancelled.
        foreign: What becomes of manifests with foreign layers: "refused" as by 2.8, "kept", or
            "insisted" on their blobs.
        requests: All requests so far, in the order of their answers.
        tokens: Token to its scopes and the monotonic second at which it expires.
        uploads: Upload session to the state that its next request must name.
        partial: Upload session to the bytes that it holds.
        open_connections: Those of clients, idle ones included.
        connections: How many were ever opened.
        most_connections: How many clients had open at the same time at most.
    """

    def __init__(self, address: str, scheme: str) -> None:
        self.address = address
        self.url = f"{scheme}://{address}"
        self.store = Store()
        self.login: Login | None = None
        self.faults: list[Fault] = []
        self.status_for_anonymous = 0
        self.forbids = False
        self.mounts = True
        self.deletes = True
        self.ahead = 0.0
        self.relative_locations = False
        self.resumable = False
        self.referrers = False
        self.catalog = True
        self.foreign = "refused"
        self.longest_body: int | None = None
        self.least_chunk = 0
        self.cancelled = 0
        self.lenient = False
        self.requests: list[LoggedRequest] = []
        self.tokens: dict[str, tuple[frozenset[str], float]] = {}
        self.uploads: dict[str, str] = {}
        self.partial: dict[str, bytes] = {}
        self.open_connections: set[socket.socket] = set()
        self.connections = self.most_connections = 0
        self.stalled = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.uploading = threading.Lock()

    def fail(
        self, method: str, pattern: str, action: Action, *, times: int | None = 1, after: int = 0
    ) -> None:
        """Do something wrong at the next requests that fit."""
        self.faults.append(Fault(method, pattern, action, times, after))

    def count(self, method: str, pattern: str = "") -> int:
        """Count the requests of a method whose path and query match a pattern."""
        return sum(each.method == method and bool(re.search(pattern, each.path)) for each in self.requests)

    def forget_requests(self) -> None:
        """Start counting anew."""
        with self.lock:
            self.requests.clear()

    def drop_connections(self) -> None:
        """Close every connection, as a restart does."""
        for each in list(self.open_connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait_for_stall(self, seconds: float = 60.0) -> None:
        """Wait until a request has run into a `Stall`."""
        if not self.stalled.acquire(timeout=seconds):
            raise TimeoutError("no request stalled")

    def wait_for_hangup(self, seconds: float = 60.0) -> None:
        """Wait until a client has closed the connection of a request that ran into a `Stall`."""
        if not self.left.acquire(timeout=seconds):
            raise TimeoutError("no client gave a stalled request up")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    wbufsize: ClassVar[int] = 65536

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing on standard error."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Tell the time by the registry's own clock."""
        now = time.time() if timestamp is None else timestamp
        return super().date_time_string(now + self.server.registry.ahead)

    def handle(self) -> None:
        # A client that goes away is no event.
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            super().handle()

    def _action(self) -> Action | None:
        """Find what to do wrong now; a proxy in front refuses what is too long before anything else."""
        registry = self.server.registry
        if int(self.headers.get("Content-Length") or 0) > (registry.longest_body or sys.maxsize):
            page = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
            return Refuse(413, page, {"Content-Type": "text/html"}, early=True)
        with registry.lock:
            fault = next((each for each in registry.faults if each.hits(self.command, self.path)), None)
        return None if fault is None else fault.action

    def _run(self) -> None:
        self.body = b""
        action = self._action()
        if isinstance(action, Refuse) and action.early:
            self.close_connection = True
            self._send(_Answer(action.status, action.body, action.headers))
            self.wfile.flush()
            self._linger()
            return
        if isinstance(action, CutUpload):
            self._cut_upload(action.after)
            return
        if not self._is_allowed_early():
            self.close_connection = True
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match action:
            case Refuse():
                if action.keeps:
                    self._keep(self.body)
                self._send(_Answer(action.status, action.body, action.headers))
            case Redirect():
                self._send(_Answer(action.status, headers={"Location": action.location}))
            case Moved():
                location = f"{self.path}{'&' if '?' in self.path else '?'}moved=1"
                self._send(_Answer(action.status, headers={"Location": location}))
            case Raw():
                self._log(0)
                self.wfile.write(action.answer)
                self.close_connection = self.close_connection or not action.keeps
            case Meanwhile():
                action.do()
                self._send(self._answer())
            case _:
                self._send(self._answer(), action)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _run  # noqa: N815

    def _is_allowed_early(self) -> bool:
        return not isinstance(self.server.registry.login, BasicLogin) or self._refusal() is None

    def _cut_upload(self, after: int) -> None:
        self._keep(self.rfile.read(min(after, int(self.headers.get("Content-Length") or 0))))
        self._log(0)
        self.close_connection = True

    def _keep(self, content: bytes) -> None:
        """Add to an upload session, or lose it."""
        registry, session = self.server.registry, urlsplit(self.path).path.rpartition("/")[2]
        if registry.resumable:
            registry.partial[session] = registry.partial.get(session, b"") + content
        else:
            registry.uploads.pop(session, None)

    def _linger(self) -> None:
        """Let a client that is still writing read the answer before the connection is reset."""
        self.connection.settimeout(2.0)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(65536):
                pass

    def _log(self, status: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.registry.lock:
            self.server.registry.requests.append(LoggedRequest(self.command, self.path, headers, status))

    def _send(self, answer: _Answer, action: Action | None = None) -> None:
        if isinstance(action, OtherBytes):
            answer = _Answer(200, action.body, answer.headers)
        body = answer.body
        headers = {"Docker-Distribution-Api-Version": "registry/2.0", **answer.headers}
        headers["Content-Length"] = str(len(body) if answer.length is None else answer.length)
        if isinstance(action, WithHeaders):
            headers.update(action.headers)
        if isinstance(action, NoHeaders):
            headers = {name: value for name, value in headers.items() if name not in action.names}
            self.close_connection = self.close_connection or "Content-Length" in action.names
        self._log(answer.status)
        self.send_response(answer.status)
        for name, value in headers.items():
            for each in value.split("\n"):
                self.send_header(name, each)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, action)

    def _send_body(self, body: bytes, action: Action | None) -> None:
        whole = body
        if isinstance(action, Cut | Stall | Drip):
            body = body[: action.after]
        view = memoryview(body)
        for start in range(0, len(body), _PIECE):
            self.wfile.write(view[start : start + _PIECE])
        self.wfile.flush()
        if isinstance(action, Cut | Stall):
            self.close_connection = True
        if isinstance(action, Drip):
            self._drip(whole[action.after :], action.pause)
        if isinstance(action, Stall):
            self.server.registry.stalled.release()
            with contextlib.suppress(OSError):
                while self.connection.recv(65536):  # until the client closes the connection, or the test does
                    pass
            self.server.registry.left.release()

    def _drip(self, body: bytes, pause: float) -> None:
        """Send byte by byte until the client goes away."""
        for n in range(len(body)):
            readable, _, _ = select.select([self.connection], [], [], pause)
            if readable:
                self.close_connection = True
                return
            self.connection.sendall(body[n : n + 1])

    # Who may do what

    def _wanted_scopes(self) -> frozenset[str]:
        parts = urlsplit(self.path)
        route = _ROUTE.fullmatch(unquote(parts.path))
        if route is None:
            return frozenset()
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "pull,push")
        scopes = {f"repository:{route['name']}:{each}" for each in action.split(",")}
        holder = parse_qs(parts.query).get("from")
        return frozenset(scopes | ({f"repository:{holder[0]}:pull"} if holder else set()))

    def _refusal(self) -> _Answer | None:
        registry, refusal = self.server.registry, self._challenge()
        if refusal is None:
            return None
        is_anonymous = "Authorization" not in self.headers
        if registry.forbids and not is_anonymous:
            return _error(403, "DENIED")
        status = registry.status_for_anonymous
        if status and is_anonymous and urlsplit(self.path).path != "/v2/":
            return _error(status, {401: "UNAUTHORIZED", 403: "DENIED"}.get(status, "NAME_UNKNOWN"))
        return refusal

    def _challenge(self) -> _Answer | None:
        registry, given = self.server.registry, self.headers.get("Authorization", "")
        match registry.login:
            case BasicLogin() | AnyLogin() as login:
                if login.takes(given):
                    return None
                return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="simulator"'})
            case TokenLogin() as login:
                granted, until = registry.tokens.get(given.removeprefix("Bearer "), (frozenset(), 0.0))
                wanted = self._wanted_scopes()
                if given and until > time.monotonic() and wanted <= granted:
                    return None
                if login.registry_token and given == f"Bearer {login.registry_token}":
                    return None
                realm = login.realm or f"{registry.url}/token"
                challenge = f'Bearer realm="{realm}",service="simulator"'
                if wanted:
                    challenge += f',scope="{" ".join(_joined(wanted))}"'
                if given:
                    challenge += ',error="insufficient_scope"'
                return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
            case None:
                return None

    def _token(self) -> _Answer:
        registry = self.server.registry
        login = registry.login if isinstance(registry.login, TokenLogin) else TokenLogin()
        if self.command == "POST":
            form = parse_qs(self.body.decode())
            if not login.identity_token:
                return _Answer(404)
            if form.get("refresh_token") != [login.identity_token]:
                return _error(401, "UNAUTHORIZED")
            scopes = " ".join(form.get("scope", [])).split()
            parted = [scope.rpartition(":") for scope in scopes]
            allowed = {f"{kind}:{each}" for kind, _, actions in parted for each in actions.split(",")}
            return self._grant(frozenset(allowed), login)
        given = self.headers.get("Authorization")
        known = given in {_basic(user, password) for user, password in login.users.items()}
        if given is not None and not known:
            return _error(401, "UNAUTHORIZED")
        asked = parse_qs(urlsplit(self.path).query).get("scope", [])
        granted = set()
        with registry.lock:
            is_pull_only, login.pull_only_tokens = (
                login.pull_only_tokens > 0,
                max(login.pull_only_tokens - 1, 0),
            )
        for scope in asked:
            resource, _, actions = scope.rpartition(":")
            for action in actions.split(","):
                if (known and not is_pull_only) or (action == "pull" and (known or login.anonymous)):
                    granted.add(f"{resource}:{action}")
        return self._grant(frozenset(granted), login)

    def _grant(self, granted: frozenset[str], login: TokenLogin) -> _Answer:
        registry = self.server.registry
        token = secrets.token_urlsafe(16)
        lifetime = 60 if login.lifetime is None else login.lifetime
        registry.tokens[token] = (granted, time.monotonic() + lifetime)
        stated: dict[str, object] = {} if login.lifetime is None else {"expires_in": login.lifetime}
        if login.age is not None:
            issued = datetime.fromtimestamp(time.time() + registry.ahead - login.age, UTC)
            stated["issued_at"] = f"{issued:%Y-%m-%dT%H:%M:%S}.123456789Z"
        return _Answer(
            200, json.dumps({"token": token, **stated}).encode(), {"Content-Type": "application/json"}
        )

    # What is asked

    def _answer(self) -> _Answer:
        parts = urlsplit(self.path)
        if parts.path == "/token":
            return self._token()
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        if parts.path == "/v2/":
            return _Answer(200, b"{}", {"Content-Type": "application/json"})
        if parts.path == "/v2/_catalog":
            return self._catalog(parse_qs(parts.query))
        listing = re.fullmatch(rf"/v2/({_NAME})/referrers/(\w+:[0-9a-f]+)", unquote(parts.path))
        if listing is not None and self.server.registry.referrers:
            return self._referrers(listing[1], listing[2])
        route = _ROUTE.fullmatch(unquote(parts.path))
        if route is None:
            return _Answer(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if route["manifest"]:
            return self._manifest(route["name"], route["manifest"])
        if route["blob"]:
            return self._blob(route["name"], route["blob"])
        if route["tags"]:
            return self._tags(route["name"])
        with self.server.registry.uploading:
            return self._upload(route["name"], route["upload"], query)

    def _catalog(self, query: Mapping[str, list[str]]) -> _Answer:
        """List the repositories in pages, as distribution does; a full page links to the next one."""
        if not self.server.registry.catalog:
            return _error(404, "UNSUPPORTED")
        size, last = int(query.get("n", ["100"])[0]), query.get("last", [""])[0]
        store = self.server.registry.store
        with store.lock:
            names = sorted(name for name in store.repositories if name > last)
        page = names[:size]
        headers = {"Content-Type": "application/json"}
        if len(names) > size:
            headers["Link"] = f'</v2/_catalog?last={page[-1]}&n={size}>; rel="next"'
        return _Answer(200, json.dumps({"repositories": page}).encode(), headers)

    def _tags(self, name: str) -> _Answer:
        tags = self.server.registry.store.repository(name).tags
        body = json.dumps({"name": name, "tags": list(tags) or None}).encode()
        return _Answer(200, body, {"Content-Type": "application/json"})

    def _referrers(self, name: str, subject: str) -> _Answer:
        entries = self.server.registry.store.referrers(name, subject)
        media_type = "application/vnd.oci.image.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return _Answer(200, json.dumps(document).encode(), {"Content-Type": media_type})

    def _manifest(self, name: str, reference: str) -> _Answer:
        store = self.server.registry.store
        if self.command == "PUT":
            return self._put_manifest(name, reference)
        if self.command == "DELETE":
            return self._delete_manifest(name, reference)
        found = store.find_manifest(name, reference)
        accepted = {each.partition(";")[0].strip() for each in self.headers.get("Accept", "").split(",")}
        if found is None or (found[1].media_type not in accepted and ".oci." in found[1].media_type):
            return _error(404, "MANIFEST_UNKNOWN")
        digest, manifest = found
        headers = {
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": digest,
            "Etag": f'"{digest}"',
        }
        return _Answer(200, manifest.content, headers)

    def _delete_manifest(self, name: str, reference: str) -> _Answer:
        if not self.server.registry.deletes:
            return _error(405, "UNSUPPORTED")
        if ":" not in reference:
            return _error(400, "DIGEST_INVALID")
        store = self.server.registry.store
        with store.lock:
            repository = store.repository(name)
            if repository.manifests.pop(reference, None) is None:
                return _error(404, "MANIFEST_UNKNOWN")
            repository.tags = {tag: each for tag, each in repository.tags.items() if each != reference}
        return _Answer(202)

    def _put_manifest(self, name: str, reference: str) -> _Answer:
        store = self.server.registry.store
        manifest = StoredManifest(self.headers.get("Content-Type", ""), self.body)
        digest = digest_of(self.body)
        if len(self.body) > _MAX_MANIFEST or not manifest.media_type.startswith("application/vnd."):
            return _error(400, "MANIFEST_INVALID")
        try:
            missing = store.missing(name, manifest, foreign_too=self.server.registry.foreign != "kept")
            foreign = [layer for layer in json.loads(self.body).get("layers") or () if layer.get("urls")]
        except (ValueError, KeyError, TypeError):
            return _error(400, "MANIFEST_INVALID")
        if ":" in reference and reference != digest:
            return _error(400, "DIGEST_INVALID")
        if foreign and self.server.registry.foreign == "refused":
            unknown = [{"code": "UNKNOWN"}, {"code": "MANIFEST_BLOB_UNKNOWN", "detail": foreign[0]["digest"]}]
            return _errors(500, unknown)
        if missing and not self.server.registry.lenient:
            return _errors(400, [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": each} for each in missing])
        store.add_manifest(name, reference, manifest)
        location = f"{self.server.registry.url}/v2/{name}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": digest}
        subject = json.loads(self.body).get("subject")
        if subject and self.server.registry.referrers:
            headers["OCI-Subject"] = subject["digest"]
        return _Answer(201, headers=headers)

    def _blob(self, name: str, digest: str) -> _Answer:
        content = self.server.registry.store.find_blob(name, digest)
        if content is None:
            return _errors(404, [{"code": "BLOB_UNKNOWN", "detail": digest}])
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest_of(content)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return _Answer(200, content, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return _Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return _Answer(206, content[first : last + 1], headers)

    def _upload(self, name: str, session: str, query: Mapping[str, str]) -> _Answer:
        registry = self.server.registry
        if self.command == "POST" and not session:
            return self._start_upload(name, query)
        if self.command not in {"PUT", "GET", "PATCH", "DELETE"}:
            return _Answer(405)
        is_known = registry.uploads.get(session, "") + "=" == query.get("_state")
        if not is_known and not (
            registry.resumable and self.command == "GET" and session in registry.uploads
        ):
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        held = registry.partial.get(session, b"")
        match self.command:
            case "GET":
                return _Answer(204, headers=self._moved(name, session, held))
            case "DELETE":
                del registry.uploads[session]
                registry.partial.pop(session, None)
                registry.cancelled += 1
                return _Answer(204)
            case _ if held and not self.headers.get("Content-Range", f"{len(held)}-").startswith(
                f"{len(held)}-"
            ):
                return _error(416, "RANGE_INVALID")
            case "PATCH":
                return self._append(name, session, held + self.body)
            case _:
                return self._close_upload(name, session, query.get("digest", ""))

    def _start_upload(self, name: str, query: Mapping[str, str]) -> _Answer:
        """Mount a blob, or else start an upload."""
        registry = self.server.registry
        mounted, holder = query.get("mount", ""), query.get("from", "")
        content = registry.store.find_blob(holder, mounted) if registry.mounts and holder else None
        if content is not None:
            registry.store.add_blob(name, content)
            location = f"{registry.url}/v2/{name}/blobs/{mounted}"
            return _Answer(201, headers={"Location": location, "Docker-Content-Digest": mounted})
        session, state = secrets.token_hex(8), secrets.token_hex(8)
        registry.uploads[session] = state
        base = "" if registry.relative_locations else registry.url
        location = f"{base}/v2/{name}/blobs/uploads/{session}?_state={state}%3D"
        headers = {"Location": location, "Range": "0-0", "Docker-Upload-Uuid": session}
        if registry.least_chunk:
            headers["OCI-Chunk-Min-Length"] = str(registry.least_chunk)
        return _Answer(202, headers=headers)

    def _moved(self, name: str, session: str, held: bytes) -> dict[str, str]:
        """Give an upload another location; the older one does not work any more."""
        registry = self.server.registry
        registry.uploads[session] = secrets.token_hex(8)
        location = f"/v2/{name}/blobs/uploads/{session}?_state={registry.uploads[session]}%3D"
        return {"Location": location, "Range": f"0-{max(len(held) - 1, 0)}"}

    def _append(self, name: str, session: str, held: bytes) -> _Answer:
        """Add a part to an upload."""
        registry = self.server.registry
        if len(self.body) < registry.least_chunk:
            return _error(416, "RANGE_INVALID")
        registry.partial[session] = held
        return _Answer(202, headers=self._moved(name, session, held))

    def _close_upload(self, name: str, session: str, digest: str) -> _Answer:
        """Complete an upload; what a client has broken off stays where uploads can be resumed."""
        registry = self.server.registry
        length = int(self.headers.get("Content-Length") or -1)
        if length > 0 and not self.body:  # nothing arrived, and nothing has changed
            return _error(400, "SIZE_INVALID")
        self.sent, self.body = len(self.body), registry.partial.pop(session, b"") + self.body
        if length not in {self.sent, -1} and registry.resumable:
            registry.partial[session] = self.body
            self._moved(name, session, self.body)
            return _error(400, "SIZE_INVALID")
        del registry.uploads[session]
        if length not in {self.sent, -1}:
            return _error(400, "SIZE_INVALID")
        if digest_of(self.body, "sha512" if digest.startswith("sha512:") else "sha256") != digest:
            return _errors(400, [{"code": "DIGEST_INVALID", "detail": digest}])
        registry.store.add_blob(name, self.body)
        location = f"{registry.url}/v2/{name}/blobs/{digest}"
        return _Answer(201, headers={"Location": location, "Docker-Content-Digest": digest})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        super().__init__(address, _Handler)
        self._tls = tls
        host, port = self.socket.getsockname()[:2]
        self.registry = RegistrySimulator(f"{host}:{port}", "http" if tls is None else "https")

    def process_request_thread(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        registry = self.registry
        with registry.lock:
            registry.open_connections.add(request)
            registry.connections += 1
            in_use = sum(map(_is_established, registry.open_connections))
            registry.most_connections = max(registry.most_connections, in_use)
        try:
            if self._tls is not None:
                raw, request = request, self._tls.wrap_socket(request, server_side=True)
                registry.open_connections.add(request)
                registry.open_connections.discard(raw)
            super().process_request_thread(request, client_address)
        except (OSError, ssl.SSLError):
            request.close()
        finally:
            registry.open_connections.discard(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that went away."""


def _is_established(connection: socket.socket) -> bool:
    """Whether neither end has closed a connection; the system knows it before the server reads it."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _ESTABLISHED
    except OSError:
        return False


def _message(code: str) -> str:
    return _MESSAGES.get(code, code.lower().replace("_", " "))


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _joined(scopes: frozenset[str]) -> list[str]:
    return sorted(scopes, reverse=True)


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> _Answer:
    return _errors(status, [{"code": code}], headers)


def _errors(status: int, entries: list[dict[str, str]], headers: Mapping[str, str] | None = None) -> _Answer:
    errors = [
        {"message": _message(each["code"]), "detail": "as the request had it", **each} for each in entries
    ]
    body = json.dumps({"errors": errors}).encode()
    return _Answer(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


@contextlib.contextmanager
def serve(
    host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> Iterator[RegistrySimulator]:
    """Run a registry for the length of a block; port 0 picks a free one."""
    server = _Server((host, port), tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.registry
    finally:
        server.shutdown()
        server.registry.drop_connections()
        server.server_close()
        thread.join()
