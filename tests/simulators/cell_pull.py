"""Pulls an image as a cell does: manifest and config always, and of its layers those that the cell lacks.

Where no registries are known nothing is pulled, but what goes wrong with a host goes wrong all the same.
Source: grootfs groot/creator.go, base_image_puller/base_image_puller.go,
fetcher/layer_fetcher/source/layer_source.go; docker schema 1 (libtrust) for signed manifests.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.simulators import cell_failures as failures
from tests.simulators.cell_network import ErrorResponse, Slow
from tests.simulators.cell_store import Layer, LayerStore, chain_id
from tests.simulators.layer_content import check_layer, gunzip
from tests.simulators.manifest_choice import INDEXES, NoneFits, choose_manifest
from tests.simulators.registry_login import Credentials
from tests.simulators.registry_refusals import Refusal, Untrusted, answered, shown_host, unreachable
from tests.simulators.registry_session import (
    ATTEMPTS,
    ATTEMPTS_AT_429,
    MANIFESTS,
    RegistryAccess,
    RegistrySession,
)
from tests.simulators.rootfs_reference import Reference, parse_rootfs

DEEPEST_INDEX = 5
MEBIBYTE = 1024 * 1024
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container needs.

    Attributes:
        disk_mb: What its image may take; 0 for any.
    """

    rootfs: str
    credentials: Credentials = Credentials()  # noqa: RUF009 - a frozen value
    disk_mb: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """What a manifest was found to describe."""

    manifest_digest: str
    layers: tuple[Layer, ...]


class Puller:
    """Pulls into one cell's store.

    Args:
        access: How registries are asked.
        store: The cell's layers.
        is_real: Whether registries are asked at all, or each pull succeeds without bytes.
    """

    def __init__(self, access: RegistryAccess, store: LayerStore, *, is_real: bool = True) -> None:
        self._access = access
        self._store = store
        self._is_real = is_real

    async def pull(self, wanted: Wanted, use: Callable[[Sequence[str]], None] = lambda _ids: None) -> str:
        """Pull what is missing of an image and give the digest of the manifest that is run.

        Args:
            wanted: The image and its limits.
            use: Told the chain IDs as soon as they are known, so that nobody cleans them away.

        Raises:
            PullFailed: Something is missing, wrong, or not for a cell.
        """
        reference = parse_rootfs(wanted.rootfs)
        try:
            if not self._is_real:
                await self._pretend(reference, use)
                return ""
            session = RegistrySession(self._access, reference.host, reference.repository, wanted.credentials)
            async with session.opened():
                image = await _ImageReader(session).read(reference.target)
                use([layer.chain_id for layer in image.layers])
                await self._pull_layers(session, image, wanted.disk_mb * MEBIBYTE)
                return image.manifest_digest
        except Untrusted as problem:
            raise failures.failed_create(failures.UNKNOWN_CA) from problem

    async def _pull_layers(self, session: RegistrySession, image: Image, limit: int) -> None:
        size = sum(layer.size or 0 for layer in image.layers)
        if limit and size > limit:
            raise failures.over_quota(size, limit)
        if not image.layers:
            raise failures.failed_create("making image: image has no layers")
        left = limit

        async def fetch(layer: Layer) -> None:
            nonlocal left
            try:
                async with session.blob(layer.digest, "layer", layer.urls) as body:
                    taken = await check_layer(layer, body.length, body.parts, left)
            except Refusal as problem:
                raise failures.failed_layer(layer.digest, str(problem)) from problem
            left = max(left - taken, 1) if left else 0

        await self._store.build(image.layers, fetch)

    async def _pretend(self, reference: Reference, use: Callable[[Sequence[str]], None]) -> None:
        network, host = self._access.network, reference.host
        network.count(host, "manifest")
        name = f"{host}/{reference.repository}"
        await network.pass_hanging(host, layer=False)
        condition = network.condition(host)
        problem = unreachable(condition, shown_host(host))
        if isinstance(condition, ErrorResponse):
            if condition.status == 429:
                pauses = self._access.first_pause * (2 ** (ATTEMPTS_AT_429 - 1) - 1)
                await asyncio.sleep(ATTEMPTS * pauses)
            problem = (
                f"reading manifest {reference.target} in {name}: {failures.refusal(*answered(condition))}"
            )
        if problem:
            raise failures.failed_source(problem)
        layer = Layer(name, "", f"{name}:{reference.target}", None, "")
        use([layer.chain_id])

        async def fetch(_layer: Layer) -> None:
            network.count(host, "layer")
            await network.pass_hanging(host, layer=True)
            if isinstance(slow := network.condition(host), Slow):
                await asyncio.sleep(slow.seconds)

        await self._store.build([layer], fetch)


class _ImageReader:
    """Reads manifest and config of an image."""

    def __init__(self, session: RegistrySession) -> None:
        self._session = session

    async def read(self, target: str) -> Image:
        """Read them.

        Raises:
            PullFailed: They cannot be had, or say nothing that a cell can run.
        """
        body, kind = await self._first_manifest(target)
        try:
            digest, manifest = _checked(body, target)
            for _ in range(DEEPEST_INDEX):
                if kind not in INDEXES:
                    break
                chosen: str = _chosen(manifest, kind)["digest"]
                body, kind = await self._manifest(chosen)
                digest, manifest = _checked(body, chosen)
        except ValueError as problem:
            raise failures.failed_image(_json_text(body, problem)) from problem
        if kind not in MANIFESTS:
            return await self._schema_1(digest, manifest)
        return Image(digest, _layers(manifest["layers"], await self._diff_ids(manifest["config"])))

    async def _first_manifest(self, target: str) -> tuple[bytes, str]:
        problem = ""
        for _ in range(ATTEMPTS):
            try:
                await self._session.ping()
                return await self._session.manifest(target)
            except Refusal as refusal:
                problem = str(refusal)
        raise failures.failed_source(problem)

    async def _manifest(self, digest: str) -> tuple[bytes, str]:
        problem = ""
        for _ in range(ATTEMPTS):
            try:
                return await self._session.manifest(digest)
            except Refusal as refusal:
                problem = str(refusal)
        raise failures.failed_image(problem)

    async def _diff_ids(self, descriptor: Json) -> list[str]:
        digest: str = descriptor["digest"]
        content = await self._blob(digest)
        actual = _digest(content)
        if actual != digest:
            problem = f"Download config.json digest {actual} does not match expected {digest}"
            raise failures.failed_config(problem)
        try:
            config: Json = json.loads(content)
        except ValueError as problem:
            raise failures.failed_create(_json_text(content, problem)) from problem
        return list((config.get("rootfs") or {}).get("diff_ids") or ())

    async def _blob(self, digest: str) -> bytes:
        try:
            async with self._session.blob(digest, "config") as body:
                return b"".join([part async for part in body.parts])
        except Refusal as problem:
            raise failures.failed_config(str(problem)) from problem

    async def _schema_1(self, digest: str, manifest: Json) -> Image:
        """Take a schema 1 manifest, whose layers must be read to be known."""
        if not manifest.get("fsLayers"):
            raise failures.failed_image("no FSLayers in manifest")
        layers, diff_ids = [], []
        for layer in reversed(manifest["fsLayers"]):
            blob: str = layer["blobSum"]
            async with self._session.blob(blob, "layer") as body:
                content = b"".join([part async for part in body.parts])
            try:
                diff_ids.append(_digest(gunzip(content)))
            except ValueError as problem:
                detail = f"converting V1 schema failed: reading V1 layer blob: {problem}"
                raise failures.failed_create(detail) from problem
            layers.append({"digest": blob, "mediaType": DOCKER_LAYER})
        return Image(digest, _layers(layers, diff_ids))


def _layers(descriptors: Sequence[Json], diff_ids: Sequence[str]) -> tuple[Layer, ...]:
    layers, parent = list[Layer](), ""
    for index, each in enumerate(descriptors):
        if index >= len(diff_ids):
            raise failures.too_few_diff_ids(index, len(diff_ids))
        parent = chain_id(parent, diff_ids[index])
        layer = Layer(each["digest"], diff_ids[index], parent, each.get("size"), each.get("mediaType", ""))
        layers.append(replace(layer, urls=tuple(each.get("urls") or ())))
    return tuple(layers)


def _chosen(index: Json, kind: str) -> Json:
    try:
        return choose_manifest(index, kind)
    except NoneFits as problem:
        raise failures.failed_image(f"choosing image instance: {problem}") from problem


def _checked(body: bytes, target: str) -> tuple[str, Json]:
    manifest: Json = json.loads(body)
    digest = _digest(_signed_payload(body, manifest))
    if target.startswith("sha256:") and target != digest:
        raise failures.failed_image(f"Manifest does not match provided manifest digest {target}")
    return digest, manifest


def _json_text(body: bytes, problem: ValueError) -> str:
    """Word what Go says of a text that is no JSON."""
    start = body.lstrip()[:1].decode(errors="replace")
    if not start:
        return "unexpected end of JSON input"
    return (
        f"invalid character '{start}' looking for beginning of value" if start not in '{["' else str(problem)
    )


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
