"""The API as a function of requests: who may ask, which call it is, and the headers that all answers have.

Source: cloud_controller_ng app/controllers/v3/application_controller.rb (the gates), config/routes.rb,
middleware/vcap_request_id.rb.
"""

import inspect
import re
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from tests.simulators.bbs.connections import Answer, Call
from tests.simulators.capi import reads, writes
from tests.simulators.capi.bodies import Bodies
from tests.simulators.capi.errors import (
    ApiError,
    bad_query,
    invalid_token,
    not_authenticated,
    not_authorized,
    rate_limited,
    runner_error,
    unknown_request,
)
from tests.simulators.capi.lists import PER_PAGE
from tests.simulators.capi.rate_limits import RateLimiter
from tests.simulators.capi.requests import Access, ApiRequest, ok
from tests.simulators.capi.uaa import InvalidToken, Token, Uaa, bearer_of
from tests.simulators.cloud_controller import BbsRefused, CloudController
from tests.simulators.recipes import InvalidDockerUri

Handler = Callable[[ApiRequest], Answer | Awaitable[Answer]]

_GUID = r"(?P<guid>[^/]+)"
_APP = r"/v3/apps/(?P<app>[^/]+)"
_HANDLERS: tuple[tuple[str, str, Handler], ...] = (
    ("GET", r"/v3/apps", reads.list_apps),
    ("GET", _APP, reads.show_app),
    ("GET", r"/v3/spaces", reads.list_spaces),
    ("GET", r"/v3/organizations", reads.list_organizations),
    ("GET", rf"{_APP}/builds", reads.list_builds),
    ("GET", rf"{_APP}/deployed_revisions", reads.list_deployed_revisions),
    ("GET", rf"{_APP}/droplets", reads.list_droplets),
    ("GET", rf"{_APP}/droplets/current", reads.show_current_droplet),
    ("GET", rf"{_APP}/packages", reads.list_packages),
    ("GET", rf"{_APP}/processes", reads.list_processes),
    ("GET", rf"{_APP}/relationships/current_droplet", reads.show_current_droplet_relationship),
    ("GET", rf"{_APP}/revisions", reads.list_revisions),
    ("GET", rf"{_APP}/revisions/deployed", reads.list_deployed_revisions),
    ("GET", rf"{_APP}/tasks", reads.list_tasks),
    ("GET", r"/v3/builds", reads.list_builds),
    ("GET", rf"/v3/builds/{_GUID}", reads.show_build),
    ("GET", r"/v3/deployments", reads.list_deployments),
    ("GET", rf"/v3/deployments/{_GUID}", reads.show_deployment),
    ("GET", r"/v3/droplets", reads.list_droplets),
    ("GET", rf"/v3/droplets/{_GUID}", reads.show_droplet),
    ("GET", r"/v3/packages", reads.list_packages),
    ("GET", rf"/v3/packages/{_GUID}", reads.show_package),
    ("GET", r"/v3/packages/(?P<package>[^/]+)/droplets", reads.list_droplets),
    ("GET", r"/v3/processes", reads.list_processes),
    ("GET", rf"/v3/processes/{_GUID}", reads.show_process),
    ("GET", rf"/v3/revisions/{_GUID}", reads.show_revision),
    ("GET", r"/v3/tasks", reads.list_tasks),
    ("GET", rf"/v3/tasks/{_GUID}", reads.show_task),
    ("PATCH", rf"/v3/droplets/{_GUID}", writes.update_droplet),
    ("DELETE", rf"/v3/droplets/{_GUID}", writes.delete_droplet),
    ("POST", r"/v3/droplets", writes.copy_droplet),
    ("PATCH", rf"{_APP}/relationships/current_droplet", writes.assign_droplet),
    ("POST", rf"{_APP}/actions/start", writes.start_app),
    ("POST", rf"{_APP}/actions/stop", writes.stop_app),
    ("POST", rf"{_APP}/actions/restart", writes.restart_app),
    ("POST", rf"{_APP}/tasks", writes.create_task),
    ("POST", r"/v3/deployments", writes.create_deployment),
)
_ROUTES = tuple((method, re.compile(pattern), handler) for method, pattern, handler in _HANDLERS)


class Api:
    """The API of a simulated Cloud Controller.

    Attributes:
        url: Where it is reached, which its links have.
        limiter: Its rate limiter, which is off at first.
        most_results: What page times items on a page may come to (`cc.renderer.max_total_results`); None for no
            bound.
    """

    def __init__(self, cloud: CloudController, uaa: Uaa) -> None:
        self.url = ""
        self.cloud = cloud
        self.uaa = uaa
        self.limiter = RateLimiter(uaa.now)
        self.most_results: int | None = None

    async def answer(self, call: Call) -> Answer:
        """Answer a request."""
        headers: list[tuple[str, str]] = [("X-VCAP-Request-ID", _request_id(call))]
        try:
            answer = await self._answer(call, headers)
        except ApiError as problem:
            answer = problem.answer()
        except (InvalidDockerUri, BbsRefused) as problem:
            answer = runner_error(str(problem)).answer()
        replaced = {name for name, _ in headers}
        kept = [header for header in answer.headers if header[0] not in replaced]
        return Answer(answer.status, answer.body, (*kept, *headers))

    def client_of(self, call: Call) -> str:
        """Name the client whose token a request has; empty where it has none that is valid."""
        try:
            return self.uaa.read(bearer_of(call.headers)).client_id
        except InvalidToken:
            return ""

    async def _answer(self, call: Call, headers: list[tuple[str, str]]) -> Answer:
        bodies = Bodies(self.url)
        if call.path == "/":
            return ok(bodies.root(self.uaa.url))
        if call.path.rstrip("/") == "/v3":
            return ok(bodies.v3())
        handler, parts = _handler_of(call)
        token = self._token_of(call)
        is_within, said = self.limiter.spend(token, call.path)
        headers += said
        if not is_within:
            raise rate_limited()
        self._check_page(call)
        access = Access(token)
        if not (access.reads if call.method == "GET" else access.writes):
            raise not_authorized()
        answer = handler(ApiRequest(self.cloud, access, call, parts, bodies, self.url))
        return await answer if inspect.isawaitable(answer) else answer

    def _check_page(self, call: Call) -> None:
        values = dict(parse_qsl(call.query))
        page, per_page = values.get("page", "1"), values.get("per_page", str(PER_PAGE))
        if self.most_results is None or not page.isdigit() or not per_page.isdigit():
            return
        if int(page) * int(per_page) > self.most_results:
            raise bad_query(f"Maximum result (page * per_page) must be less than {self.most_results}")

    def _token_of(self, call: Call) -> Token:
        if "authorization" not in call.headers:
            raise not_authenticated()
        try:
            return self.uaa.read(bearer_of(call.headers))
        except InvalidToken as problem:
            raise invalid_token() from problem


def _handler_of(call: Call) -> tuple[Handler, dict[str, str]]:
    for method, pattern, handler in _ROUTES:
        found = pattern.fullmatch(call.path) if method == call.method else None
        if found is not None:
            return handler, found.groupdict()
    raise unknown_request()


def _request_id(call: Call) -> str:
    """Write the request's own ID, without odd characters, before one of ours."""
    sent = call.headers.get("x-vcap-request-id") or call.headers.get("x-request-id") or ""
    kept = re.sub(r"[^A-Za-z0-9_-]", "", sent)[:255]
    return f"{kept}::{uuid.uuid4()}" if kept else str(uuid.uuid4())
