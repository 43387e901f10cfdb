"""One pull's way of asking a registry, as the image library of a cell does: ping, challenge, login, bodies.

Only registries on loopback are reached: those of a map, and hosts that are loopback themselves.
Source: containers/image docker/docker_client.go and docker/body_reader.go.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.simulators import cell_failures as failures
from tests.simulators.cell_network import (
    CellNetwork,
    ErrorResponse,
    Slow,
)
from tests.simulators.manifest_choice import INDEXES
from tests.simulators.registry_login import Credentials, RegistryLogin
from tests.simulators.registry_refusals import Refusal, Untrusted, answered, shown_host, unreachable

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *SCHEMA_1))
MAX_MANIFEST = 4 * 1024 * 1024
ATTEMPTS = 3
"""How often an image source is made, and a blob asked for."""
ATTEMPTS_AT_429 = 5
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """How registries are asked.

    Attributes:
        network: What a test lets go wrong.
        registry_map: Host as in a rootfs to base URL.
        authorities: PEM file of the authorities whose certificates are trusted; empty for nobody's.
        first_pause: Seconds before the first of the four further requests after a 429.
        reconnect_pause: Seconds before the rest of a body that was cut is asked for.
    """

    network: CellNetwork
    registry_map: Mapping[str, str]
    authorities: str = ""
    first_pause: float = 2.0
    reconnect_pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Body:
    """A body that comes: what the registry says of its length (None for nothing), and its bytes."""

    length: int | None
    parts: AsyncIterator[bytes]


class RegistrySession:
    """Asks one registry for one repository."""

    def __init__(self, access: RegistryAccess, host: str, repository: str, credentials: Credentials) -> None:
        self.name = f"{host}/{repository}"
        self._access = access
        self._network = access.network
        self._host = host
        self._shown = shown_host(host)
        self._repository = repository
        self._login = RegistryLogin(repository, credentials)
        self._base = base_url(access.registry_map, host)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold connections for the length of a block."""
        verify: ssl.SSLContext | bool = False  # plain HTTP needs no authorities, which take long to load
        if self._base.startswith("https:"):
            verify = ssl.create_default_context(cafile=self._access.authorities or None)
        # A cell waits without an end for an answer.
        timeout = httpx.Timeout(None, connect=30.0)
        async with httpx.AsyncClient(
            follow_redirects=True, timeout=timeout, trust_env=False, verify=verify
        ) as self._client:
            yield

    async def ping(self) -> None:
        """Make the first request, which shows how to log in."""
        self._network.count(self._host, "ping")
        problem = unreachable(self._network.condition(self._host), self._shown)
        if problem:
            raise Refusal(problem)
        await self._network.pass_hanging(self._host, layer=False)
        if not self._base:
            raise Refusal(failures.ping(self._shown, "https", failures.no_such_host(self._shown)))
        try:
            response = await self._client.get(f"{self._base}/v2/")
        except httpx.TransportError as error:
            if _is_untrusted(error):
                raise Untrusted from error
            raise Refusal(failures.ping(self._shown, "https", self._transport_text(error))) from error
        if response.status_code not in {httpx.codes.OK, httpx.codes.UNAUTHORIZED}:
            raise Refusal(f"pinging container registry {self._shown}: {await self._refusal(response)}")
        self._login.challenge(response.headers.get("WWW-Authenticate", ""))

    async def manifest(self, target: str) -> tuple[bytes, str]:
        """Fetch a manifest with its content type, both as they came."""
        response = await self._get(f"manifests/{target}", "manifest")
        if response.status_code != httpx.codes.OK:
            raise Refusal(f"reading manifest {target} in {self.name}: {await self._refusal(response)}")
        body = await self._read(response, "manifest")
        if len(body) > MAX_MANIFEST:
            raise Refusal(f"exceeded maximum allowed size of {MAX_MANIFEST} bytes")
        return body, response.headers.get("Content-Type", "").partition(";")[0].strip()

    @asynccontextmanager
    async def blob(self, digest: str, what: str, urls: tuple[str, ...] = ()) -> AsyncIterator[Body]:
        """Ask for a blob, up to three times until the registry begins to give it.

        A body that is cut is gone on with once, or for as long as no byte comes at all.
        """
        path = f"blobs/{digest}"
        response, is_foreign = await self._foreign(urls), True
        if response is None:
            response, is_foreign = await self._begun(path, what), False
        try:
            length = None if is_foreign else response.headers.get("Content-Length")
            parts = self._paced(self._parts(response, path, what), what)
            yield Body(None if length is None else int(length), parts)
        finally:
            await response.aclose()

    async def _foreign(self, urls: tuple[str, ...]) -> httpx.Response | None:
        for url in urls:
            response = await self._client.send(self._client.build_request("GET", url), stream=True)
            if response.status_code == httpx.codes.OK:
                return response
            await response.aclose()
        return None

    async def _begun(self, path: str, what: str) -> httpx.Response:
        problem = ""
        for _ in range(ATTEMPTS):
            try:
                response = await self._get(path, what)
            except Refusal as refusal:
                problem = str(refusal)
                continue
            if response.status_code == httpx.codes.OK:
                return response
            problem = await self._refusal(response)
        raise Refusal(f"fetching blob: {problem}")

    async def _parts(self, response: httpx.Response, path: str, what: str) -> AsyncIterator[bytes]:
        offset, has_reconnected = 0, False
        whole = int(response.headers.get("Content-Length", "-1"))
        async for part in _until_cut(response):
            offset += len(part)
            yield part
        while offset < whole and not has_reconnected:
            await asyncio.sleep(self._access.reconnect_pause)
            rest = await self._get(path, what, first=offset)
            try:
                if rest.status_code != httpx.codes.PARTIAL_CONTENT:
                    return
                async for part in _until_cut(rest):
                    has_reconnected = True
                    offset += len(part)
                    yield part
            finally:
                await rest.aclose()

    async def _paced(self, parts: AsyncIterator[bytes], what: str) -> AsyncIterator[bytes]:
        async for part in parts:
            self._network.count(self._host, what, len(part))
            yield part
            condition = self._network.condition(self._host)
            if what == "layer" and isinstance(condition, Slow) and condition.bytes_per_second:
                await asyncio.sleep(len(part) / condition.bytes_per_second)

    async def _get(self, path: str, what: str, *, first: int | None = None) -> httpx.Response:
        """Ask, again and again while there are too many requests, and give the answer before its body."""
        url, pause = f"{self._base}/v2/{self._repository}/{path}", self._access.first_pause
        for _ in range(ATTEMPTS_AT_429 - 1):
            response = await self._asked(url, what, first)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return response
            await response.aclose()
            pause = min(_retry_after(response, pause), LONGEST_PAUSE)
            await asyncio.sleep(pause)
            pause *= 2
        return await self._asked(url, what, first)

    async def _asked(self, url: str, what: str, first: int | None) -> httpx.Response:
        if not self._login.is_ready:
            await self._fetch_token()
        self._network.count(self._host, what)
        await self._network.pass_hanging(self._host, layer=what == "layer")
        condition = self._network.condition(self._host)
        if isinstance(condition, ErrorResponse):
            status, body = answered(condition)
            return httpx.Response(status, content=body, request=httpx.Request("GET", url))
        if isinstance(condition, Slow) and what == "layer":
            await asyncio.sleep(condition.seconds)
        return await self._sent(url, first)

    async def _read(self, response: httpx.Response, what: str) -> bytes:
        try:
            body = await response.aread()
        except httpx.TransportError as problem:
            raise Refusal("unexpected EOF") from problem
        finally:
            await response.aclose()
        self._network.count(self._host, what, len(body))
        return body

    async def _refusal(self, response: httpx.Response) -> str:
        body = await self._read(response, "refusal")
        return failures.refusal(response.status_code, body, response.headers.get("WWW-Authenticate", ""))

    async def _sent(self, url: str, first: int | None) -> httpx.Response:
        headers = {"Accept": ACCEPT, "Accept-Encoding": "identity", "User-Agent": "containers/5"}
        if first is not None:
            headers["Range"] = f"bytes={first}-"
        if self._login.header:
            headers["Authorization"] = self._login.header
        request = self._client.build_request("GET", url, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as problem:
            shown = url.replace(self._base, f"{self._base.partition(':')[0]}://{self._shown}")
            raise Refusal(f'Get "{shown}": {self._transport_text(problem)}') from problem

    async def _fetch_token(self) -> None:
        self._network.count(self._host, "token")
        response = await self._client.send(self._login.token_request)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            problem = f"invalid username/password: {await self._refusal(response)}"
            raise Refusal(f"unable to retrieve auth token: {problem}")
        if response.status_code != httpx.codes.OK:
            problem = failures.unexpected_status(response.status_code)
            raise Refusal(f"Requesting bearer token: {problem}")
        self._login.take_token(response.json())

    def _transport_text(self, problem: httpx.TransportError) -> str:
        return failures.refused(self._shown) if isinstance(problem, httpx.ConnectError) else "EOF"


def base_url(registry_map: Mapping[str, str], host: str) -> str:
    """Find where a host of a rootfs is asked; empty if nowhere."""
    mapped = registry_map.get(host)
    if mapped is not None:
        return mapped.rstrip("/")
    return f"http://{host}" if host.partition(":")[0] in {"127.0.0.1", "localhost"} else ""


async def _until_cut(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in response.aiter_raw():
            yield part
    except httpx.TransportError:
        return


def _retry_after(response: httpx.Response, pause: float) -> float:
    named = response.headers.get("Retry-After", "")
    return float(named) if named.isdecimal() else pause


def _is_untrusted(problem: httpx.TransportError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(problem)
