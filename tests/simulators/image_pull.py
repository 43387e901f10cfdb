"""Pulls an image as a cell does: rootfs URI to reference, manifest, then every blob with digest and size.

Only registries on loopback are reached: those of `registry_map`, and hosts that are loopback themselves.
Source: guardian imageplugin/default_command_creator.go (the first `#` becomes `:`), grootfs
fetcher/layer_fetcher/source; OCI distribution specification; docker schema 1 (libtrust) for signed manifests.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

DOCKER_HUB = "docker.io"
HUB_NAMES = frozenset({"", DOCKER_HUB, "index.docker.io"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
PLATFORM = ("linux", "amd64")
MAX_MANIFEST = 4 * 1024 * 1024

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *SCHEMA_1))

_ROOTFS = re.compile(r"docker://(?P<host>[^/?#]*)/(?P<path>[^?#]*)(?:#(?P<fragment>.*))?")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Json = dict[str, Any]


class PullFailed(Exception):
    """The image cannot be had; the text is what garden would say."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Which image a rootfs names: `target` is a tag or a digest."""

    host: str
    repository: str
    target: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, both empty for none."""

    username: str = ""
    password: str = field(default="", repr=False)


def parse_rootfs(rootfs: str) -> Reference:
    """Read a rootfs URI as garden does; credentials in it are dropped.

    Raises:
        PullFailed: It is no docker URI, or has both a tag and a digest.
    """
    found = _ROOTFS.fullmatch(rootfs)
    if found is None or not found["path"]:
        raise PullFailed(f"parsing image reference: {rootfs}")
    name = found["path"] + (f":{found['fragment']}" if found["fragment"] else "")
    host = found["host"].rpartition("@")[2]
    repository, _, digest = name.partition("@")
    slash = repository.rfind("/")
    last, colon, tag = repository[slash + 1 :].partition(":")
    repository = repository[: slash + 1] + last
    if digest and colon:
        message = "Docker references with both a tag and digest are currently not supported"
        raise PullFailed(f"parsing image reference: {message}")
    if host in HUB_NAMES:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(host, repository, digest or tag or "latest")


class Puller:
    """Pulls from registries on loopback.

    Args:
        registry_map: Host as in a rootfs (`docker.io` for Docker Hub) to the base URL to ask instead.
    """

    def __init__(self, registry_map: Mapping[str, str]) -> None:
        self._registry_map = dict(registry_map)

    async def pull(self, rootfs: str, credentials: Credentials) -> str:
        """Pull all of an image and return the digest of the manifest that is run.

        Raises:
            PullFailed: Manifest or blob is missing, wrong, or not for us.
        """
        reference = parse_rootfs(rootfs)
        base = f"{self._base_url(reference.host)}/v2/{reference.repository}"
        try:
            async with httpx.AsyncClient(follow_redirects=True, timeout=30, trust_env=False) as client:
                return await _Pull(client, base, credentials).run(reference.target)
        except httpx.HTTPError as problem:
            raise PullFailed(f"pulling from {reference.host}: {problem}") from problem

    def _base_url(self, host: str) -> str:
        mapped = self._registry_map.get(host)
        if mapped is not None:
            return mapped.rstrip("/")
        if host.rpartition(":")[0] in LOOPBACK or host in LOOPBACK:
            return f"http://{host}"
        raise PullFailed(f"pinging container registry {host}: no such host")


class _Pull:
    def __init__(self, client: httpx.AsyncClient, base: str, credentials: Credentials) -> None:
        self._client = client
        self._base = base
        self._credentials = credentials
        self._authorization = ""

    async def run(self, target: str) -> str:
        digest, kind, manifest = await self._manifest(target, None)
        if kind in INDEXES:
            descriptor = _for_platform(manifest)
            digest, kind, manifest = await self._manifest(descriptor["digest"], descriptor.get("size"))
        if kind in SCHEMA_1:
            blobs: list[Json] = [{"digest": layer["blobSum"]} for layer in manifest["fsLayers"]]
        elif kind in MANIFESTS:
            blobs = [manifest["config"], *manifest["layers"]]
        else:
            raise PullFailed(f"unsupported manifest media type {kind!r}")
        for blob in {blob["digest"]: blob for blob in blobs}.values():
            await self._check_blob(blob)
        return digest

    async def _manifest(self, target: str, size: int | None) -> tuple[str, str, Json]:
        response = await self._get(f"{self._base}/manifests/{target}", f"reading manifest {target}")
        body = response.content
        if len(body) > MAX_MANIFEST or (size is not None and size != len(body)):
            raise PullFailed(f"reading manifest {target}: wrong size {len(body)}")
        try:
            manifest: Json = json.loads(body)
            digest = _digest(_signed_payload(body, manifest))
        except ValueError as problem:
            raise PullFailed(f"reading manifest {target}: {problem}") from problem
        if target.startswith("sha256:") and target != digest:
            raise PullFailed(f"reading manifest {target}: digest is {digest}")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return digest, kind, manifest

    async def _check_blob(self, descriptor: Json) -> None:
        digest: str = descriptor["digest"]
        what = f"fetching blob {digest}"
        request = self._request(f"{self._base}/blobs/{digest}")
        response = await self._client.send(request, stream=True)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            await response.aclose()
            await self._authorise(response, what)
            response = await self._client.send(self._request(str(request.url)), stream=True)
        hashed, size = hashlib.sha256(), 0
        try:
            _check_status(response, what)
            async for part in response.aiter_raw():
                hashed.update(part)
                size += len(part)
        finally:
            await response.aclose()
        if f"sha256:{hashed.hexdigest()}" != digest or descriptor.get("size", size) != size:
            raise PullFailed(f"{what}: layer is corrupted: digest or size does not match")

    async def _get(self, url: str, what: str) -> httpx.Response:
        response = await self._client.send(self._request(url))
        if response.status_code == httpx.codes.UNAUTHORIZED:
            await self._authorise(response, what)
            response = await self._client.send(self._request(url))
        _check_status(response, what)
        return response

    def _request(self, url: str) -> httpx.Request:
        headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        return self._client.build_request("GET", url, headers=headers)

    async def _authorise(self, response: httpx.Response, what: str) -> None:
        """Answer a challenge: credentials are never sent without one."""
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "bearer" and "realm" in parameters:
            self._authorization = f"Bearer {await self._token(parameters, what)}"
        elif scheme.lower() == "basic" and self._credentials.username:
            self._authorization = self._basic()
        else:
            raise PullFailed(f"{what}: unauthorized: authentication required")

    async def _token(self, parameters: Mapping[str, str], what: str) -> str:
        query = {name: parameters[name] for name in ("service", "scope") if name in parameters}
        headers = {"Authorization": self._basic()} if self._credentials.username else {}
        response = await self._client.get(parameters["realm"], params=query, headers=headers)
        _check_status(response, what)
        answer: Json = response.json()
        return str(answer.get("token") or answer.get("access_token"))

    def _basic(self) -> str:
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _check_status(response: httpx.Response, what: str) -> None:
    reasons = {401: "unauthorized: authentication required", 403: "denied", 404: "unknown to registry"}
    if response.status_code != httpx.codes.OK:
        raise PullFailed(f"{what}: {reasons.get(response.status_code, f'status {response.status_code}')}")


def _for_platform(index: Json) -> Json:
    for descriptor in index["manifests"]:
        platform = descriptor.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == PLATFORM:
            found: Json = descriptor
            return found
    raise PullFailed("choosing image instance: no image found in manifest list for linux/amd64")


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _signed_payload(body: bytes, manifest: Json) -> bytes:
    """Take the part of a signed schema 1 manifest that its digest covers."""
    signatures = manifest.get("signatures")
    if not signatures:
        return body
    protected: Json = json.loads(_base64url(signatures[0]["protected"]))
    return body[: protected["formatLength"]] + _base64url(protected["formatTail"])


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
