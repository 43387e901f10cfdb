# ruff: noqa: N802 - names carry the numbers of known bugs
"""Bugs that users of other copiers have reported, as far as no other test here stands for them."""

import json

import pytest

from reconcile.errors import Invalid, NotFound, RateLimited
from reconcile.references import parse_image_reference
from tests.controller.engines.registry_scene import GUID, SAMPLE, Scene
from tests.simulators import images
from tests.simulators.registry import Refuse, WithHeaders

ARM = images.image([images.layer(10, 1)], architecture="arm64")
INDEX = images.index([("linux/arm64", ARM), ("linux/amd64", SAMPLE)], attested=True)


@pytest.mark.parametrize("tag", ["", ":1"], ids=["C2-digest", "A8-tag-and-digest"])
async def test_a_pinned_index_keeps_its_digest_in_what_is_told(scene: Scene, tag: str) -> None:
    """What is copied is the platform's manifest, unchanged; which index it came of is not forgotten."""
    await scene.push(INDEX)
    scene.image = parse_image_reference(f"{scene.source.address}/team/app{tag}@{INDEX.index.digest}")
    engine = scene.engine()

    resolved = await engine.resolve(scene.image, None)
    copied = await engine.copy(resolved, scene.target, None)

    assert str(resolved.root_digest) == INDEX.index.digest
    assert str(resolved.platform_digest) == str(copied.digest) == SAMPLE.manifest.digest
    assert SAMPLE.manifest == await scene.copied()
    assert await scene.copied(INDEX.index.digest) is None  # never an index whose children are missing


async def test_A11_a_target_by_digest_is_pushed_without_a_tag(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.target = parse_image_reference(f"{scene.private.address}/{GUID}@{SAMPLE.manifest.digest}")

    await scene.copy()

    assert scene.private.store.repository(GUID).tags == {}
    assert SAMPLE.manifest == await scene.copied(SAMPLE.manifest.digest)


async def test_C4_a_destination_that_refuses_an_attestation_is_told_with_the_child(scene: Scene) -> None:
    await scene.push(INDEX)
    proof = INDEX.images[0][1].manifest.digest
    body = b'{"errors":[{"code":"MANIFEST_INVALID","message":"unsupported config"}]}'
    scene.private.fail("PUT", proof, Refuse(400, body), times=None)

    with pytest.raises(Invalid, match="unsupported config") as refused:
        await scene.copy(scene.engine(platform=None))

    assert proof in refused.value.detail
    assert await scene.copied() is None


async def test_C22_a_tag_whose_digest_is_gone_is_not_copied(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("GET", "/manifests/sha256:", Refuse(404), times=None)

    with pytest.raises(NotFound):
        await scene.copy()

    assert await scene.copied() is None


async def test_C16_a_registry_that_stores_another_digest_is_found_out(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", "/manifests/", WithHeaders({"Docker-Content-Digest": f"sha256:{'0' * 64}"}))

    with pytest.raises(Invalid, match="stored as"):
        await scene.copy()


async def test_D13_a_head_that_lies_is_corrected_by_the_manifest(scene: Scene) -> None:
    """A stale cache: the blob is said to be there, its ends are read, and the manifest is refused for it."""
    await scene.push(SAMPLE)
    layer = SAMPLE.layers[0]
    scene.private.fail("HEAD", layer.digest, Refuse(200, layer.content))
    scene.private.fail("GET", layer.digest, Refuse(200, layer.content), times=2)

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert copied.transferred == sum(len(blob.content) for blob in SAMPLE.blobs)
    assert scene.private.count("PUT", "/manifests/") == 2


async def test_P13_a_limit_of_six_hours_goes_up_after_one_request(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("GET", "/manifests/", Refuse(429, headers={"Retry-After": "21600"}), times=None)

    for _ in range(3):
        with pytest.raises(RateLimited) as limited:
            await scene.copy(scene.engines[0] if scene.engines else None)
        assert limited.value.retry_after == pytest.approx(21600.0, abs=5.0)

    assert scene.source.count("GET", "/manifests/") == 1
    assert scene.source.count("HEAD", "/manifests/") == 1


async def test_C13_an_unknown_config_is_copied_as_it_is_with_its_index(scene: Scene) -> None:
    plain = images.image([])
    config = images.Blob("application/vnd.oci.empty.v1+json", b"{}")
    document = json.loads(plain.manifest.content) | {"config": config.descriptor}
    sample = images.Image(images.Blob(images.OCI_MANIFEST, json.dumps(document).encode()), config, ())
    await scene.push(images.index([("linux/amd64", sample)]))

    await scene.copy(scene.engine(platform=None))

    assert sample.manifest == await scene.copied(sample.manifest.digest)
