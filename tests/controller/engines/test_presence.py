"""What of a copy is missing in the private registry: how it is found out, and how it is sent again."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.engines.registry_copy import RegistryCopy
from reconcile.copying_ports import CheckDepth, CopiedImage, ResolvedImage, TargetState
from reconcile.errors import Denied, Invalid, Unavailable
from reconcile.references import parse_digest
from tests.controller.engines.registry_scene import GUID, HOLDER, SAMPLE, Scene
from tests.simulators import images
from tests.simulators.registry import Cut, Refuse
from tests.simulators.registry.store import StoredManifest

LAYER = SAMPLE.layers[0]
DIGEST = parse_digest(SAMPLE.manifest.digest)


async def copied(scene: Scene) -> RegistryCopy:
    """Copy the sample, and forget the requests."""
    await scene.push(SAMPLE)
    engine = scene.engine()
    await scene.copy(engine)
    scene.private.forget_requests()
    scene.source.forget_requests()
    return engine


async def missing(scene: Scene, engine: RegistryCopy, depth: CheckDepth = CheckDepth.BYTES) -> str:
    return await engine.find_missing(scene.target, DIGEST, depth)


async def repaired(
    scene: Scene, engine: RegistryCopy, state: TargetState = TargetState.DAMAGED
) -> CopiedImage:
    return await engine.copy(ResolvedImage(scene.image, DIGEST, DIGEST), scene.target, None, state=state)


def lose_tag(scene: Scene) -> None:
    scene.private.store.repository(GUID).tags.clear()


def lose_manifest(scene: Scene) -> None:
    lose_tag(scene)
    scene.private.store.repository(GUID).manifests.clear()


def lose_layer(scene: Scene) -> None:
    """As a registry without a descriptor cache does: it knows that the blob is gone."""
    scene.private.store.repository(GUID).blobs.discard(LAYER.digest)


def lose_bytes(scene: Scene) -> None:
    """As a registry with a descriptor cache does: it answers from memory that it has the blob."""
    scene.private.fail("GET", LAYER.digest, Cut(0), times=2)


@pytest.mark.parametrize(
    ("depth", "requests"),
    [
        (CheckDepth.MANIFEST, {"HEAD": 1}),
        (CheckDepth.BLOBS, {"HEAD": 5, "GET": 1}),
        (CheckDepth.BYTES, {"HEAD": 1, "GET": 9}),
    ],
)
async def test_nothing_is_missing_of_a_whole_copy_and_asking_costs_little(
    scene: Scene, depth: CheckDepth, requests: dict[str, int]
) -> None:
    engine = await copied(scene)

    assert await missing(scene, engine, depth) == ""
    assert {method: scene.private.count(method) for method in requests} == requests
    assert len(scene.private.requests) == sum(requests.values())
    assert scene.source.requests == []


@pytest.mark.parametrize(
    ("lose", "found_by", "said"),
    [
        (lose_tag, CheckDepth.MANIFEST, "its manifest"),
        (lose_manifest, CheckDepth.MANIFEST, "its manifest"),
        (lose_layer, CheckDepth.BLOBS, f"1 of 4 blobs: {LAYER.digest} is not there"),
        (lose_bytes, CheckDepth.BYTES, f"1 of 4 blobs: {LAYER.digest} has no byte 0"),
    ],
)
async def test_what_is_missing_is_found_by_looking_deep_enough(
    scene: Scene, lose: Callable[[Scene], None], found_by: CheckDepth, said: str
) -> None:
    engine = await copied(scene)
    lose(scene)

    for depth in CheckDepth:
        found = await missing(scene, engine, depth)
        assert found.startswith(said) if depth >= found_by else found == ""
        if lose is lose_bytes:
            assert bool(found) is (depth is CheckDepth.BYTES)


async def test_a_tag_that_names_something_else_is_found(scene: Scene) -> None:
    engine = await copied(scene)
    other = images.image([images.layer(10, 7)])
    stored = StoredManifest(other.manifest.media_type, other.manifest.content)
    scene.private.store.add_manifest(GUID, "latest", stored)

    assert (
        await missing(scene, engine, CheckDepth.MANIFEST) == f"its tag, which names {other.manifest.digest}"
    )


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize(
    ("status", "error"), [(503, Unavailable), (500, Unavailable), (403, Denied), (401, Denied)]
)
async def test_a_registry_that_does_not_tell_has_lost_nothing(
    scene: Scene, path: str, status: int, error: type[Exception]
) -> None:
    engine = await copied(scene)
    for method in ("HEAD", "GET"):
        scene.private.fail(method, path, Refuse(status), times=None)

    for depth in (CheckDepth.BLOBS, CheckDepth.BYTES):
        with pytest.raises(error):
            await missing(scene, engine, depth)


async def test_a_connection_that_breaks_once_is_no_loss(scene: Scene) -> None:
    engine = await copied(scene)
    scene.private.fail("GET", LAYER.digest, Cut(0))

    assert await missing(scene, engine) == ""


# Sent again


@pytest.mark.parametrize("lose", [lose_tag, lose_manifest, lose_layer, lose_bytes])
async def test_what_is_missing_is_sent_again_and_nothing_else(
    scene: Scene, lose: Callable[[Scene], None]
) -> None:
    engine = await copied(scene)
    lose(scene)

    copy = await repaired(scene, engine)

    assert await missing(scene, engine) == ""
    assert await scene.copied() == SAMPLE.manifest
    assert copy.digest == DIGEST
    is_layer = lose in {lose_layer, lose_bytes}
    assert copy.transferred == (len(LAYER.content) if is_layer else 0)
    assert scene.source.count("GET", "/blobs/") == int(is_layer)
    assert scene.source.count("GET", "/manifests/") == int(lose is lose_manifest)


async def test_a_lost_tag_is_put_back_although_the_source_has_nothing_any_more(scene: Scene) -> None:
    engine = await copied(scene)
    lose_tag(scene)
    scene.source.store.repositories.clear()

    await repaired(scene, engine)

    assert await scene.copied() == SAMPLE.manifest
    assert scene.source.requests == []


async def test_bytes_that_are_wrong_are_sent_again_where_the_registry_takes_them(scene: Scene) -> None:
    engine = await copied(scene)
    held = scene.private.store.contents
    held[LAYER.digest] = held[LAYER.digest][:-100] + bytes(99) + b"x"

    await repaired(scene, engine, TargetState.CORRUPT)

    assert held[LAYER.digest] == LAYER.content
    await engine.read_back(scene.target, DIGEST)


async def test_a_registry_that_keeps_wrong_bytes_is_named(scene: Scene) -> None:
    """The CNCF registry takes a blob to be whole whose file is there, and ignores the bytes sent again."""
    engine = await copied(scene)
    scene.private.fail("GET", LAYER.digest, Cut(0), times=None)

    with pytest.raises(Invalid) as refused:
        await repaired(scene, engine)

    assert refused.value.code == "not-repaired"
    assert f"{LAYER.digest} was sent again" in refused.value.detail


async def test_a_copy_whose_source_has_lost_the_layer_is_not_called_repaired(scene: Scene) -> None:
    engine = await copied(scene)
    lose_layer(scene)
    scene.source.store.repositories.clear()

    with pytest.raises(Exception, match="BLOB_UNKNOWN"):
        await repaired(scene, engine)

    assert LAYER.digest in await missing(scene, engine)


# What a skip or a mount relies on


async def test_a_blob_that_the_registry_only_says_it_has_is_sent_before_anything_runs_from_it(
    scene: Scene,
) -> None:
    await copied(scene)
    lose_bytes(scene)

    again = await scene.copy(scene.engine())

    assert again.transferred == len(LAYER.content)
    assert scene.private.count("PUT", "/blobs/") == 1


async def test_a_mounted_blob_without_bytes_is_sent(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}
    for blob in SAMPLE.blobs:
        scene.private.store.add_blob(HOLDER, blob.content)
    lose_bytes(scene)

    copy = await scene.copy()

    assert copy.transferred == len(LAYER.content)


# What a copy consists of


def with_urls(media_type: str) -> images.Image:
    """Make an image whose first layer has URLs as well."""
    document = json.loads(SAMPLE.manifest.content)
    document["layers"][0] |= {"urls": ["http://127.0.0.1:1/layer"], "mediaType": media_type}
    manifest = images.Blob(images.OCI_MANIFEST, json.dumps(document).encode())
    return replace(SAMPLE, manifest=manifest)


ORDINARY = "application/vnd.oci.image.layer.v1.tar+gzip"
LEFT_OUT = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@pytest.mark.parametrize(("media_type", "is_copied"), [(ORDINARY, True), (LEFT_OUT, False)])
async def test_the_type_of_a_layer_with_urls_decides_whether_it_is_copied_and_looked_for(
    scene: Scene,
    media_type: str,
    is_copied: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    sample = with_urls(media_type)
    for blob in sample.blobs:
        scene.source.store.add_blob("team/app", blob.content)
    scene.source.store.add_manifest(
        "team/app", "1", StoredManifest(images.OCI_MANIFEST, sample.manifest.content)
    )
    scene.private.foreign = "kept"
    engine = scene.engine()

    copy = await scene.copy(engine)

    assert (parse_digest(LAYER.digest) in copy.blobs) is is_copied
    assert (scene.private.store.find_blob(GUID, LAYER.digest) == LAYER.content) is is_copied
    await engine.read_back(scene.target, copy.digest)
    lose_layer(scene)
    for depth in (CheckDepth.BLOBS, CheckDepth.BYTES):
        assert bool(await engine.find_missing(scene.target, copy.digest, depth)) is is_copied
    if is_copied:
        with pytest.raises(Invalid, match="not-verified"):
            await engine.read_back(scene.target, copy.digest)


async def test_a_layer_that_only_its_urls_have_keeps_a_copy_from_being_called_whole(scene: Scene) -> None:
    sample = with_urls(ORDINARY)
    for blob in sample.blobs[1:] if sample.blobs[0].digest == LAYER.digest else sample.blobs:
        if blob.digest != LAYER.digest:
            scene.source.store.add_blob("team/app", blob.content)
    scene.source.store.add_manifest(
        "team/app", "1", StoredManifest(images.OCI_MANIFEST, sample.manifest.content)
    )
    scene.private.foreign = "kept"

    with pytest.raises(Invalid) as refused:
        await scene.copy()

    assert refused.value.code == "foreign-layer"
    assert await scene.copied() is None
