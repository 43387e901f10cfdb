"""A Cloud Controller and a UAA in memory, whose answers a test prepares, and a client of them.

What the real ones do is in the contract suite and its simulator; here are the answers that are hard to provoke.
"""

import base64
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from controller.capi.capi_errors import ApiAnswer
from controller.capi.client import CloudController, client_over
from controller.capi.settings import CapiSettings, Clocks
from controller.capi.uaa import UaaClient
from controller.file_values import FileValue
from reconcile.cloud_controller_status import ApiCall, ApiOutcome, CloudControllerStatus
from reconcile.errors import LeaseLost
from reconcile.lrps import Secret
from reconcile.request_budget import BudgetSettings

API = "https://api.sys.example.com"
UAA = "https://uaa.sys.example.com"
CLIENT_ID, SECRET = "docker-cache", "the-secret/+ of docker:cache"
SCOPES = ("cloud_controller.write", "cloud_controller.update_build_state", "cloud_controller.global_auditor")

APP = "0d6c0b8a-51c5-4b2c-8f2e-0f0f5f2a9b11"
BUILD = "6b1f2c1e-7f0a-4d47-9a4b-2b7f0a9e5c31"
DROPLET = "f2b9d7c4-5555-4e6f-a1b2-c3d4e5f60718"
PACKAGE = "aa0e8f1c-4444-4c8d-b7a6-5e4d3c2b1a09"
IMAGE = "registry.example.com/team/web:1"

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def build(**changed: Any) -> dict[str, Any]:
    return {
        "guid": BUILD,
        "created_at": "2026-01-05T10:00:00Z",
        "updated_at": "2026-01-05T10:00:09Z",
        "state": "STAGED",
        "error": None,
        "lifecycle": {"type": "docker", "data": {}},
        "package": {"guid": PACKAGE},
        "droplet": {"guid": DROPLET},
        "relationships": {"app": {"data": {"guid": APP}}},
        "links": {"app": {"href": f"{API}/v3/apps/{APP}"}},
    } | changed


def droplet(**changed: Any) -> dict[str, Any]:
    return {
        "guid": DROPLET,
        "created_at": "2026-01-05T10:00:08Z",
        "updated_at": "2026-01-05T10:00:09Z",
        "state": "STAGED",
        "error": None,
        "lifecycle": {"type": "docker", "data": {}},
        "image": IMAGE,
        "process_types": {"web": "/srv/api"},
        "relationships": {"app": {"data": {"guid": APP}}},
        "links": {
            "self": {"href": f"{API}/v3/droplets/{DROPLET}"},
            "package": {"href": f"{API}/v3/packages/{PACKAGE}"},
        },
    } | changed


def package(**changed: Any) -> dict[str, Any]:
    return {
        "guid": PACKAGE,
        "type": "docker",
        "state": "READY",
        "created_at": "2026-01-05T10:00:00Z",
        "data": {"image": IMAGE, "username": "robot", "password": "***"},
        "relationships": {"app": {"data": {"guid": APP}}},
    } | changed


def page(items: Iterable[dict[str, Any]], *, total: int, following: str | None = None) -> httpx.Response:
    link = None if following is None else {"href": following}
    pagination = {"total_results": total, "total_pages": 2, "next": link, "previous": None}
    document = {"pagination": pagination, "resources": list(items)}
    return httpx.Response(200, content=json.dumps(document).encode())


def refusal(
    status: int, code: int, title: str, detail: str = "told so", headers: dict[str, str] | None = None
) -> httpx.Response:
    errors = [{"code": code, "title": title, "detail": detail}]
    return httpx.Response(status, json={"errors": errors}, headers=headers)


def jwt(scopes: Iterable[str], number: int = 1) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    claims = {"client_id": CLIENT_ID, "scope": list(scopes), "aud": ["cloud_controller"], "jti": number}
    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmVk"


class Tenure:
    """Whether this process may ask anything; it may as long as a test does not end it."""

    def __init__(self) -> None:
        self.is_over: Callable[[], bool] = lambda: False

    def check(self) -> None:
        if self.is_over():
            raise LeaseLost("another instance is active")


class Time:
    """Clocks that stand until somebody sleeps, or a test lets time pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: 1_800_000_000.0 + self.now, self.sleep)


@dataclass
class Seen:
    """Notes what an observer is told."""

    answers: list[ApiAnswer] = field(default_factory=list)
    asked_for: list[tuple[ApiCall, ApiOutcome]] = field(default_factory=list)

    def answered(self, answer: ApiAnswer, seconds: float) -> None:
        self.answers.append(answer)

    def asked(self, call: ApiCall, outcome: ApiOutcome, status: CloudControllerStatus) -> None:
        self.asked_for.append((call, outcome))


class Api:
    """Answers for both servers; a path that no answer is prepared for is unknown.

    Attributes:
        requests: All that came, of which the paths of Cloud Controller alone are in `asked`.
        uaa_url: Where the API says that UAA is.
        root_answers: Answers to the root of the API before it is shown.
        token_answers: Answers of UAA before it gives tokens.
    """

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.prepared: dict[tuple[str, str], deque[Answer]] = {}
        self.uaa_url = UAA
        self.root: dict[str, Any] | None = None
        self.root_answers: deque[httpx.Response] = deque()
        self.scopes: tuple[str, ...] = SCOPES
        self.expires_in: object = 43199
        self.token_answers: deque[Answer] = deque()
        self.tokens: list[str] = []

    def prepare(self, method: str, path: str, *answers: Answer) -> None:
        """Prepare the answers to a path, one after the other; the last one stays."""
        self.prepared[method, path] = deque(answers)

    @property
    def asked(self) -> list[str]:
        """What Cloud Controller was asked with a token."""
        return [f"{each.method} {each.url.path}" for each in self.requests if each.url.path.startswith("/v3")]

    @property
    def token_requests(self) -> list[httpx.Request]:
        return [each for each in self.requests if each.url.path == "/oauth/token"]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if path == "/" and self.root_answers:
            return self.root_answers.popleft()
        if path == "/":
            links = {
                "self": {"href": API},
                "cloud_controller_v3": {"href": f"{API}/v3", "meta": {"version": "3.180.0"}},
                "uaa": {"href": self.uaa_url},
            }
            return httpx.Response(200, json={"links": links} if self.root is None else self.root)
        if path == "/oauth/token":
            return (
                self._answered(request, self.token_answers.popleft()) if self.token_answers else self._token()
            )
        answers = self.prepared.get((request.method, path))
        if answers is None:
            return refusal(404, 10000, "CF-NotFound", "Unknown request")
        return self._answered(request, answers.popleft() if len(answers) > 1 else answers[0])

    def _token(self) -> httpx.Response:
        token = jwt(self.scopes, len(self.tokens))
        self.tokens.append(token)
        document = {"access_token": token, "token_type": "bearer", "scope": " ".join(self.scopes)}
        return httpx.Response(200, json=document | {"expires_in": self.expires_in})

    @staticmethod
    def _answered(request: httpx.Request, answer: Answer) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return answer(request)


def client_over_transport(transport: httpx.MockTransport, secret_file: Path) -> CloudController:
    """Make a client whose requests go to a function, by clocks that stand."""
    return _client(transport, secret_file, time=Time(), observer=Seen(), tenure=Tenure())


def client_of(api: Api, secret_file: Path, *, time: Time, observer: Seen, tenure: Tenure) -> CloudController:
    """Make a client of the API in memory; its secret is in a file."""
    transport = httpx.MockTransport(api.handle)
    return _client(transport, secret_file, time=time, observer=observer, tenure=tenure)


def _client(
    transport: httpx.MockTransport, secret_file: Path, *, time: Time, observer: Seen, tenure: Tenure
) -> CloudController:
    secret_file.write_text(SECRET)
    secret = FileValue((secret_file,), lambda: Secret(secret_file.read_text()), clock=lambda: time.now)
    settings = CapiSettings(API, UaaClient(CLIENT_ID, secret), BudgetSettings(2000, 0.5))
    http = httpx.AsyncClient(transport=transport)
    return client_over(http, settings, clocks=time.clocks, observer=observer, check_active=tenure.check)
