"""Images of the odder kinds: foreign layers, sha512, nesting, Windows; and the proof by reading back."""

import json
from dataclasses import replace

import pytest

from controller.engines.copy_limits import CopyLimits, Verify
from controller.registry.oci.platforms import parse_platform
from reconcile.errors import Invalid
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.engines.registry_scene import GUID, MARKER, SAMPLE, SMALL_BUFFER, Scene
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.registry import BasicLogin, Cut, OtherBytes, Refuse
from tests.simulators.registry.store import StoredManifest, digest_of

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
BASE = images.layer(90_000, "base", FOREIGN)
FETCHING = replace(SMALL_BUFFER, copy_foreign_layers=True)


def with_foreign_layer(urls: list[str]) -> images.Image:
    """Make an image whose first layer lies elsewhere."""
    plain = images.image([BASE, images.layer(10, 1)], docker=True)
    document = json.loads(plain.manifest.content)
    document["layers"][0] |= {"urls": urls, "mediaType": FOREIGN}
    manifest = images.Blob(images.DOCKER_MANIFEST, json.dumps(document, indent=1).encode())
    return images.Image(manifest, plain.config, plain.layers)


def hold(scene: Scene, sample: images.Image, *, base: bool = False) -> None:
    for blob in sample.blobs:
        if base or blob.digest != BASE.digest:
            scene.source.store.add_blob("team/app", blob.content)
    manifest = StoredManifest(sample.manifest.media_type, sample.manifest.content)
    scene.source.store.add_manifest("team/app", "1", manifest)


async def test_a_foreign_layer_is_kept_as_a_descriptor(scene: Scene) -> None:
    sample = with_foreign_layer(["http://127.0.0.1:1/base"])
    hold(scene, sample)
    scene.private.foreign = "kept"

    copied = await scene.copy()

    assert sample.manifest == await scene.copied()
    assert parse_digest(BASE.digest) not in copied.blobs
    assert scene.source.count("GET", "/blobs/") == 2
    assert copied.size == sum(len(blob.content) for blob in sample.blobs) - 90_000 + len(
        sample.manifest.content
    )


@pytest.mark.parametrize("foreign", ["refused", "insisted"])
async def test_a_foreign_layer_is_not_fetched_unless_allowed(scene: Scene, foreign: str) -> None:
    hold(scene, with_foreign_layer(["http://127.0.0.1:1/base"]), base=True)
    scene.private.foreign = foreign

    with pytest.raises(Invalid) as refused:
        await scene.copy()

    assert refused.value.code == "foreign-layer"
    assert await scene.copied() is None
    assert scene.private.count("PUT", "/manifests/") == 1
    assert scene.source.count("GET", BASE.digest) == 0


@pytest.mark.parametrize("held", [False, True], ids=["elsewhere", "at-the-source"])
async def test_a_foreign_layer_is_fetched_where_the_registry_insists(scene: Scene, held: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    scene.private.foreign = "insisted"
    with registries.serve() as storage:
        scene.source_hosts = (storage.address,)
        sample = with_foreign_layer([f"{storage.url}/gone", f"{storage.url}/base?sig=1"])
        storage.fail("GET", "/base", OtherBytes(BASE.content))
        hold(scene, sample, base=held)
        scene.source.login = BasicLogin({"alice": "marker-password"})

        copied = await scene.copy(scene.engine(limits=FETCHING), MARKER)

        assert storage.count("GET", "/base") == (0 if held else 1)
        assert not [each for each in storage.requests if "authorization" in each.headers]
    assert sample.manifest == await scene.copied()
    assert parse_digest(BASE.digest) in copied.blobs
    assert scene.private.store.find_blob(GUID, BASE.digest) == BASE.content


async def test_a_foreign_layer_that_breaks_is_gone_on_with(scene: Scene) -> None:
    scene.private.foreign = "insisted"
    with registries.serve() as storage:
        scene.source_hosts = (storage.address,)
        storage.store.add_blob("team/app", BASE.content)
        hold(scene, with_foreign_layer([f"{storage.url}/v2/team/app/blobs/{BASE.digest}"]))
        storage.fail("GET", "/blobs/", Cut(after=70_000))

        await scene.copy(scene.engine(limits=FETCHING))

        assert storage.requests[1].headers["range"] == "bytes=70000-89999"


async def test_other_bytes_at_a_foreign_place_are_refused(scene: Scene) -> None:
    scene.private.foreign = "insisted"
    with registries.serve() as storage:
        scene.source_hosts = (storage.address,)
        hold(scene, with_foreign_layer([f"{storage.url}/base"]))
        storage.fail("GET", "/base", OtherBytes(bytes(90_000)), times=None)

        with pytest.raises(Invalid, match="digest-mismatch"):
            await scene.copy(scene.engine(limits=FETCHING))

    assert await scene.copied() is None


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/x",
        "file:///etc/passwd",
        "http://u:p@h/x",
        "x",
    ],
)
async def test_a_hostile_foreign_place_is_refused(scene: Scene, url: str) -> None:
    scene.private.foreign = "insisted"
    hold(scene, with_foreign_layer([url]))

    with pytest.raises(Invalid):
        await scene.copy(scene.engine(limits=FETCHING))

    assert await scene.copied() is None


async def test_foreign_layers_count_towards_the_size_of_an_image(scene: Scene) -> None:
    hold(scene, with_foreign_layer(["http://127.0.0.1:1/base"]))

    with pytest.raises(Invalid, match="image-too-large"):
        await scene.copy(scene.engine(limits=CopyLimits(max_image_bytes=50_000)))


# sha512


async def test_blobs_and_manifests_by_sha512_are_copied(scene: Scene) -> None:
    plain = images.image([images.layer(70_000, 1)])
    document = json.loads(plain.manifest.content)
    document["layers"][0]["digest"] = digest_of(plain.layers[0].content, "sha512")
    manifest = images.Blob(images.OCI_MANIFEST, json.dumps(document).encode())
    hold(scene, images.Image(manifest, plain.config, plain.layers))
    by_sha512 = digest_of(manifest.content, "sha512")
    stored = StoredManifest(manifest.media_type, manifest.content)
    scene.source.store.repository("team/app").manifests[by_sha512] = stored
    scene.image = parse_image_reference(f"{scene.source.address}/team/app@{by_sha512}")

    copied = await scene.copy()

    assert manifest == await scene.copied()
    assert str(copied.digest) == manifest.digest
    assert str(copied.blobs[1]) == document["layers"][0]["digest"]


async def test_a_manifest_that_is_not_what_its_sha512_says_is_refused(scene: Scene) -> None:
    by_sha512 = digest_of(b"other", "sha512")
    stored = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    scene.source.store.repository("team/app").manifests[by_sha512] = stored
    scene.image = parse_image_reference(f"{scene.source.address}/team/app@{by_sha512}")

    with pytest.raises(Invalid, match="digest-mismatch"):
        await scene.copy()


# Indexes


async def test_an_index_that_is_nested_too_deeply_is_refused(scene: Scene) -> None:
    inner = images.index([("linux/amd64", SAMPLE)])
    await scene.push(inner)
    for _ in range(5):
        entry = inner.index.descriptor
        document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": [entry]}
        inner = images.MultiImage(images.Blob(images.OCI_INDEX, json.dumps(document).encode()), ())
        await scene.push(inner)

    with pytest.raises(Invalid, match="nested too deeply"):
        await scene.copy(scene.engine(platform=None))
    with pytest.raises(Invalid, match="no-platform"):
        await scene.copy()

    assert await scene.copied() is None


async def test_an_index_without_entries_is_copied_whole(scene: Scene) -> None:
    sample = images.index([])
    await scene.push(sample)

    await scene.copy(scene.engine(platform=None))

    assert sample.index == await scene.copied()


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("windows(10.0.17763.1)/amd64", "10.0.17763.5000"),
        ("windows(10.0.20348)/amd64", "10.0.20348.1"),
        ("windows/amd64", "10.0.17763.5000"),
    ],
)
async def test_the_build_of_windows_decides(scene: Scene, wanted: str, chosen: str) -> None:
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": images.OCI_INDEX}
    entries: list[dict[str, object]] = []
    samples = {}
    for version in ("10.0.17763.5000", "10.0.20348.1"):
        sample = samples[version] = images.image([images.layer(10, version)])
        await scene.push(sample, version)
        platform = {"os": "windows", "architecture": "amd64", "os.version": version}
        entries.append({**sample.manifest.descriptor, "platform": platform})
    document["manifests"] = entries
    index = images.Blob(images.OCI_INDEX, json.dumps(document).encode())
    await scene.push(images.MultiImage(index, ()))

    resolved = await scene.engine(platform=parse_platform(wanted)).resolve(scene.image, None)

    assert str(resolved.platform_digest) == samples[chosen].manifest.digest


async def test_another_build_of_windows_is_no_match(scene: Scene) -> None:
    entry = {
        **SAMPLE.manifest.descriptor,
        "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0.1.2"},
    }
    document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": [entry]}
    index = images.Blob(images.OCI_INDEX, json.dumps(document).encode())
    await scene.push(SAMPLE, "child")
    await scene.push(images.MultiImage(index, ()))

    with pytest.raises(Invalid, match=r"but: windows\(10\.0\.1\.2\)/amd64"):
        await scene.engine(platform=parse_platform("windows(10.0.2)/amd64")).resolve(scene.image, None)


# The proof


async def test_a_full_proof_reads_every_blob_back(scene: Scene) -> None:
    await scene.push(SAMPLE)

    await scene.copy(scene.engine(limits=replace(SMALL_BUFFER, verify=Verify.FULL)))

    assert scene.private.count("GET", "/blobs/") == 4
    assert SAMPLE.manifest == await scene.copied()


async def test_a_full_proof_finds_rotten_blobs_before_the_tag(scene: Scene) -> None:
    """A registry whose cache outlived a collection of garbage says yes and sends nothing."""
    await scene.push(SAMPLE)
    scene.private.fail("GET", SAMPLE.layers[0].digest, OtherBytes(bytes(2_500_000)), times=None)

    with pytest.raises(Invalid) as refused:
        await scene.copy(scene.engine(limits=replace(SMALL_BUFFER, verify=Verify.FULL)))

    assert refused.value.code == "not-verified"
    assert await scene.copied() is None


async def test_a_full_proof_holds_for_what_was_there_before(scene: Scene) -> None:
    await scene.push(SAMPLE)
    await scene.copy()
    scene.private.fail("GET", SAMPLE.layers[0].digest, Refuse(404), times=None, after=2)  # its ends are there

    with pytest.raises(Invalid, match="not-verified"):
        await scene.copy(scene.engine(limits=replace(SMALL_BUFFER, verify=Verify.FULL)))
