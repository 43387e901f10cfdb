"""The API of Amazon ECR, reduced to the call that gives a login for an access key.

It checks the signature of each request by itself. Source: AWS general reference, "Create a signed AWS API
request" (signature version 4); Amazon ECR API reference, GetAuthorizationToken.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Z0-9]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/ecr/aws4_request), "
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(slots=True)
class EcrApi:
    """A running API.

    Attributes:
        keys: ID of an access key to its secret.
        password: What it gives.
        fault: Status and error code of its next responses; None answers properly.
        body: What it answers in place of a login; None for a login.
        lifetime: Seconds for which a login is valid.
        regions: Of the requests whose signature was right, in order.
    """

    url: str
    keys: dict[str, str] = field(default_factory=dict)
    password: str = "marker-ecr-password"
    fault: tuple[int, str] | None = None
    body: bytes | None = None
    lifetime: float = 12 * 3600.0
    regions: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing on standard error."""

    def do_POST(self) -> None:
        """Answer one call."""
        api, body = self.server.api, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if api.fault is not None:
            self._refuse(*api.fault, "so it was told")
            return
        signed = _AUTHORIZATION.fullmatch(self.headers.get("Authorization", ""))
        if self.headers.get("X-Amz-Target") != TARGET or signed is None:
            self._refuse(400, "UnknownOperationException", "")
            return
        secret = api.keys.get(signed["key"])
        if secret is None:
            said = f"The security token included in the request is invalid: {signed['key']}"
            self._refuse(400, "UnrecognizedClientException", said)
            return
        if self._signature(signed, secret, body) != signed["signature"]:
            self._refuse(400, "InvalidSignatureException", "The request signature does not match")
            return
        api.regions.append(signed["region"])
        token = base64.b64encode(f"AWS:{api.password}".encode()).decode()
        data = [{"authorizationToken": token, "expiresAt": time.time() + api.lifetime}]
        self._send(200, json.dumps({"authorizationData": data}).encode() if api.body is None else api.body)

    def _signature(self, signed: re.Match[str], secret: str, body: bytes) -> str:
        names = signed["headers"].split(";")
        headers = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in names)
        digest = hashlib.sha256(body).hexdigest()
        canonical = f"POST\n{self.path}\n\n{headers}\n{signed['headers']}\n{digest}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers['X-Amz-Date']}\n{signed['scope']}\n{hashed}"
        key = f"AWS4{secret}".encode()
        for part in signed["scope"].split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, json.dumps({"__type": code, "message": message}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        host, port = self.socket.getsockname()[:2]
        self.api = EcrApi(f"http://{host}:{port}")


@contextlib.contextmanager
def serve() -> Iterator[EcrApi]:
    """Run the API for the length of a block."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.api
    finally:
        server.shutdown()
        server.server_close()
