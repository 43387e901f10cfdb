"""The Cloud Controllers that the contract is held against, as the other half of its test class.

Against a real one: TEST_CAPI_URL, TEST_CAPI_CLIENT_ID and TEST_CAPI_CLIENT_SECRET, of a client with the authorities
cloud_controller.write, cloud_controller.update_build_state and cloud_controller.global_auditor; TEST_CAPI_CA is the CA
file where the system does not trust it. Nothing is changed there: the tests read, and write to made-up GUIDs alone.
"""

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.simulators.bbs import serve_bbs
from tests.simulators.capi.server import CapiSimulator, serve_capi
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import CloudController, InProcess
from tests.simulators.recipes import Image

REAL_CAPI_VARIABLES = ("TEST_CAPI_URL", "TEST_CAPI_CLIENT_ID", "TEST_CAPI_CLIENT_SECRET")

APPS = 3


@dataclass(frozen=True)
class CapiTarget:
    """One Cloud Controller, and a client of its UAA.

    Attributes:
        simulator: None where it is a real one.
    """

    url: str
    client_id: str
    secret: str = field(repr=False)
    simulator: CapiSimulator | None = None


class Scene:
    """A Cloud Controller with connections to it and to its UAA."""

    def __init__(self, target: CapiTarget, http: httpx.AsyncClient) -> None:
        self.target, self._http = target, http

    async def root(self) -> dict[str, Any]:
        answer = await self._http.get(f"{self.target.url}/")
        assert answer.status_code == httpx.codes.OK
        links: dict[str, Any] = answer.json()["links"]
        return links

    async def ask_token(self, form: Mapping[str, str], auth: tuple[str, str] | None) -> httpx.Response:
        uaa = (await self.root())["uaa"]["href"]
        headers = {"Accept": "application/json"}
        return await self._http.post(
            f"{uaa}/oauth/token", data=dict(form), headers=headers, auth=auth or httpx.USE_CLIENT_DEFAULT
        )

    async def token(self) -> str:
        login = (self.target.client_id, self.target.secret)
        answer = await self.ask_token({"grant_type": "client_credentials"}, login)
        assert answer.status_code == httpx.codes.OK, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def call(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        """Send a request with a good token, or with another text in its place; "" sends none."""
        text = await self.token() if token is None else token
        headers = {"Authorization": f"bearer {text}"} if text else {}
        headers |= more.pop("headers", {})
        url = path if path.startswith("http") else f"{self.target.url}{path}"
        return await self._http.request(method, url, headers=headers, **more)


class OnSomeCapi:
    """Gives each test a scene on the `target` of a subclass."""

    @pytest.fixture
    async def scene(self, target: CapiTarget) -> AsyncIterator[Scene]:
        context = ssl.create_default_context(cafile=os.environ.get("TEST_CAPI_CA"))
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30.0) as http:
            yield Scene(target, http)


class OnSimulator(OnSomeCapi):
    """The simulator, with some apps that were pushed."""

    @pytest.fixture(scope="class")
    @classmethod
    def certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
        return make_certificates(tmp_path_factory.mktemp("certificates"))

    @pytest.fixture
    async def target(self, certificates: Certificates) -> AsyncIterator[CapiTarget]:
        async with platform(certificates) as capi:
            client = next(iter(capi.tokens.clients.values()))
            yield CapiTarget(capi.url, client.client_id, client.secret, capi)


class OnRealCapi(OnSomeCapi):
    """The Cloud Controller that the environment names."""

    @pytest.fixture
    def target(self) -> CapiTarget:
        url, client_id, secret = (os.environ[name] for name in REAL_CAPI_VARIABLES)
        return CapiTarget(url.rstrip("/"), client_id, secret)


@asynccontextmanager
async def platform(certificates: Certificates) -> AsyncIterator[CapiSimulator]:
    settings = CellSettings(start_delay=0, stop_delay=0, task_delay=0)
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, settings),
        CloudController(InProcess(bbs)) as cloud,
        serve_capi(cloud) as capi,
    ):
        for number in range(APPS):
            await cloud.push(f"web-{number}", Image("registry.example.com/team/web:1", "robot", "secret"))
        yield capi
