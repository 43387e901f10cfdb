# ruff: noqa: N802 - names carry the numbers of known bugs
"""Copying from registry to registry: what arrives, what is not moved twice, and what never becomes visible."""

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from controller.engines.copy_limits import CopyLimits
from controller.engines.registry_copy import RegistryCopy
from controller.registry.http.settings import RegistrySettings
from controller.registry.oci.platforms import LINUX_AMD64, Platform
from controller.registry.registries import Registries
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import (
    CacheRepositories,
    ImageReference,
    parse_digest,
    parse_image_reference,
)
from tests.contracts.distribution import ALICE, run_distribution
from tests.controller.engines.registry_scene import (
    GUID,
    HOLDER,
    MARKER,
    SAMPLE,
    SMALL_BUFFER,
    Holders,
    Scene,
    threads_ended,
)
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.registry import (
    BasicLogin,
    Cut,
    CutUpload,
    Meanwhile,
    Moved,
    NoHeaders,
    OtherBytes,
    Redirect,
    Refuse,
    Stall,
    TokenLogin,
    WithHeaders,
)
from tests.simulators.registry.store import StoredManifest

# What arrives


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
async def test_C16_an_image_arrives_byte_for_byte(scene: Scene, docker: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    sample = images.image(SAMPLE.layers, docker=docker)
    await scene.push(sample)

    copied = await scene.copy()

    assert sample.manifest == await scene.copied()
    assert sample.manifest.digest == str(copied.digest)
    assert {blob.digest for blob in sample.blobs} == {str(blob) for blob in copied.blobs}
    blob_bytes = sum(len(blob.content) for blob in sample.blobs)
    assert (blob_bytes + len(sample.manifest.content), blob_bytes) == (copied.size, copied.transferred)
    assert {str(blob): size for blob, size in copied.sizes.items()} == {
        blob.digest: len(blob.content) for blob in sample.blobs
    }
    for blob in sample.blobs:
        assert blob.content == scene.private.store.find_blob(GUID, blob.digest)


async def test_a_plain_image_costs_one_head_and_one_read_of_its_manifest(scene: Scene) -> None:
    await scene.push(SAMPLE)

    await scene.copy()

    assert scene.source.count("HEAD", "/manifests/") == 1
    assert scene.source.count("GET", "/manifests/") == 1
    assert scene.source.count("GET", "/blobs/") == 4
    assert scene.source.count("HEAD", "/blobs/") == 0


async def test_C13_C14_D9_odd_layers_are_copied_as_they_are(scene: Scene) -> None:
    layers = [
        images.layer(1000, 1, images.OCI_ZSTD_LAYER),
        images.layer(1000, 2, "application/x-foo"),
        images.layer(0),
        images.layer(1000, 1, images.OCI_ZSTD_LAYER),
        images.layer(0),
    ]
    sample = images.image(layers)
    await scene.push(sample)

    copied = await scene.copy()

    assert sample.manifest == await scene.copied()
    assert scene.private.count("PUT", "/blobs/") == 4
    assert copied.has_zstd_layers


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
async def test_the_wanted_platform_is_taken_out_of_an_index(scene: Scene, docker: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    arm = images.image([images.layer(10, 1)], architecture="arm64", docker=docker)
    sample = images.index(
        [("linux/arm64", arm), ("linux/amd64", images.image(SAMPLE.layers, docker=docker))],
        docker=docker,
        attested=True,
    )
    await scene.push(sample)
    engine = scene.engine()

    resolved = await engine.resolve(scene.image, None)
    await engine.copy(resolved, scene.target, None)

    assert sample.index.digest == str(resolved.root_digest)
    chosen = dict(sample.images)["linux/amd64"].manifest
    assert chosen.digest == str(resolved.platform_digest)
    assert chosen == await scene.copied()
    assert await scene.copied(arm.manifest.digest) is None


async def test_C1_C17_a_whole_index_arrives_byte_for_byte(scene: Scene) -> None:
    arm = images.image([images.layer(10, 1), SAMPLE.layers[0]], architecture="arm64")
    sample = images.index([("linux/arm64", arm), ("linux/amd64", SAMPLE)], attested=True)
    await scene.push(sample)

    copied = await scene.copy(scene.engine(platform=None))

    assert sample.index.digest == str(copied.digest)
    assert sample.index == await scene.copied()
    for _, each in sample.images:
        assert each.manifest == await scene.copied(each.manifest.digest)
    puts = [each.path for each in scene.private.requests if each.method == "PUT" and "manifests" in each.path]
    assert puts[-1].endswith("/latest")


async def test_a_nested_index_is_searched_and_copied(scene: Scene) -> None:
    inner = images.index([("linux/amd64", SAMPLE)])
    await scene.push(inner, "inner")
    entry = inner.index.descriptor
    document = {
        "schemaVersion": 2,
        "mediaType": images.OCI_INDEX,
        "manifests": [entry, SAMPLE.manifest.descriptor],
    }
    outer = images.Blob(images.OCI_INDEX, json.dumps(document).encode())
    await scene.push(images.MultiImage(outer, ()))

    one = await scene.engine().resolve(scene.image, None)
    await scene.copy(scene.engine(platform=None))

    assert SAMPLE.manifest.digest == str(one.platform_digest)
    assert outer == await scene.copied()


async def test_a_missing_platform_is_an_error_that_lists_the_others(scene: Scene) -> None:
    arm = images.image([], architecture="arm64")
    await scene.push(images.index([("linux/arm64/v8", arm), ("windows/amd64", arm)], attested=True))

    with pytest.raises(Invalid, match="has no linux/amd64 image, but: linux/arm64/v8, windows/amd64; cells"):
        await scene.copy()


@pytest.mark.parametrize(
    "architectures", [["x" * 3_900_000], [f"{number}\x1b[31m\u202e" for number in range(900)]]
)
async def test_an_index_of_any_platforms_gives_an_error_that_fits_on_a_screen(
    scene: Scene, architectures: list[str]
) -> None:
    await scene.push(SAMPLE, "image")
    entries = [
        SAMPLE.manifest.descriptor | {"platform": {"os": "linux", "architecture": each}}
        for each in architectures
    ]
    document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": entries}
    await scene.push(images.MultiImage(images.Blob(images.OCI_INDEX, json.dumps(document).encode()), ()))

    with pytest.raises(Invalid, match="has no linux/amd64 image") as refused:
        await scene.copy()

    assert len(str(refused.value)) < 1000
    assert refused.value.detail.isprintable()
    assert refused.value.detail.endswith("cells of this platform refuse it from its source as well")


async def test_a_reference_by_digest_is_copied_under_the_tag(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.image = parse_image_reference(f"{scene.source.address}/team/app:1@{SAMPLE.manifest.digest}")

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


@pytest.mark.parametrize(
    "action", [Refuse(405), Refuse(403), Refuse(404), NoHeaders(frozenset({"Docker-Content-Digest"}))]
)
async def test_E4_a_registry_without_a_usable_head_is_read(scene: Scene, action: Refuse | NoHeaders) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("HEAD", "manifests", action, times=None)

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


# What is not moved twice


async def test_a_second_copy_moves_nothing(scene: Scene) -> None:
    await scene.push(SAMPLE)
    first = await scene.copy()
    scene.source.forget_requests()
    scene.private.forget_requests()

    second = await scene.copy()

    assert replace(first, transferred=0, present=first.transferred) == second
    assert scene.source.count("GET", "/blobs/") == 0
    assert scene.private.count("PUT") == scene.private.count("POST") == 0


async def test_a_blob_of_another_cached_image_is_mounted(scene: Scene) -> None:
    await scene.push(SAMPLE)
    for layer in SAMPLE.layers:
        scene.private.store.add_blob(HOLDER, layer.content)
        scene.holders.of[parse_digest(layer.digest)] = HOLDER

    copied = await scene.copy()

    assert len(SAMPLE.config.content) == copied.transferred
    assert copied.mounted == sum(len(layer.content) for layer in SAMPLE.layers)
    assert copied.present == 0
    assert scene.source.count("GET", "/blobs/") == 1
    assert scene.private.count("POST", "mount=") == 3
    assert scene.private.count("POST") == 4
    assert SAMPLE.manifest == await scene.copied()


async def test_a_mount_that_is_not_granted_is_an_upload_without_another_request(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.mounts = False
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}

    await scene.copy()

    assert scene.private.count("POST") == 4
    assert SAMPLE.manifest == await scene.copied()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
async def test_D4_a_mount_that_is_refused_is_a_plain_upload(scene: Scene, status: int) -> None:
    await scene.push(SAMPLE)
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}
    scene.private.fail("POST", "mount=", Refuse(status), times=None)

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


async def test_D6_a_token_for_two_repositories_that_is_not_given_costs_the_mount_alone(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.login = TokenLogin({"alice": "marker-password"})
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}
    scene.private.fail("GET", "/token.*scope=.*scope=", Refuse(401), times=None)

    copied = await scene.copy(scene.engine(login=MARKER, limits=replace(SMALL_BUFFER, blobs_at_a_time=1)))

    assert SAMPLE.manifest.digest == str(copied.digest)
    assert scene.private.count("POST", "mount=") <= 1  # tried once more with the plain token
    assert scene.private.count("GET", "/token.*scope=.*scope=") == 2


async def test_connections_are_kept_during_a_copy(scene: Scene) -> None:
    await scene.push(images.image([images.layer(100_000, n) for n in range(20)]))
    before = scene.source.connections

    await scene.copy(scene.engine(limits=CopyLimits(blobs_at_a_time=2)))

    assert scene.source.connections - before <= 3
    assert scene.private.connections <= 3


async def test_a_copy_that_was_broken_off_is_finished_by_the_next(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("GET", SAMPLE.layers[0].digest, Stall(after=100_000))
    engine = scene.engine()
    resolved = await engine.resolve(scene.image, None)
    task = asyncio.ensure_future(engine.copy(resolved, scene.target, None))
    await asyncio.to_thread(scene.source.wait_for_stall)
    progress = engine.progress(scene.target)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(scene.source.wait_for_hangup)
    await engine.close()
    await threads_ended()

    assert progress is not None
    assert progress.total == sum(len(blob.content) for blob in SAMPLE.blobs)
    assert engine.progress(scene.target) is None
    assert await scene.copied() is None
    before = {blob.digest for blob in SAMPLE.blobs} & scene.private.store.repository(GUID).blobs
    scene.source.forget_requests()

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert scene.source.count("GET", "/blobs/") == 4 - len(before)


async def test_two_copies_to_one_target_move_it_once(scene: Scene) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine()
    resolved = await engine.resolve(scene.image, None)

    both = await asyncio.gather(*(engine.copy(resolved, scene.target, None) for _ in range(2)))

    assert scene.private.count("PUT", "/blobs/") == 4
    assert sum(each.transferred for each in both) == sum(len(blob.content) for blob in SAMPLE.blobs)


async def test_P11_another_manifest_under_the_tag_is_replaced(scene: Scene) -> None:
    await scene.push(SAMPLE)
    await scene.copy()
    changed = images.image([images.layer(77, 7)])
    await scene.push(changed)

    await scene.copy()

    assert changed.manifest == await scene.copied()


async def test_D13_blobs_that_vanish_before_the_manifest_are_uploaded_again(scene: Scene) -> None:
    """A collection of garbage ran between: blob HEAD said yes, the manifest is refused."""
    await scene.push(SAMPLE)
    for layer in SAMPLE.layers:
        scene.private.store.add_blob(GUID, layer.content)
    lost = SAMPLE.layers[0].digest
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": lost}]}).encode()
    scene.private.fail("PUT", "/manifests/", Refuse(400, body), times=2)

    await scene.copy()

    assert scene.private.count("PUT", "/manifests/") == 3
    assert scene.source.count("GET", lost) == 2
    assert SAMPLE.manifest == await scene.copied()


async def test_D13_a_manifest_that_is_refused_for_ever_is_given_up(scene: Scene) -> None:
    await scene.push(SAMPLE)
    body = json.dumps(
        {"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": SAMPLE.layers[0].digest}]}
    ).encode()
    scene.private.fail("PUT", "/manifests/", Refuse(400, body), times=None)

    with pytest.raises(Invalid, match="MANIFEST_BLOB_UNKNOWN"):
        await scene.copy()

    assert scene.private.count("PUT", "/manifests/") == 3


# Trouble that is mended


@pytest.mark.parametrize(
    ("side", "method", "pattern", "action"),
    [
        ("source", "GET", "/blobs/", Cut(after=1)),
        ("source", "GET", "/blobs/", OtherBytes(b"other")),
        ("source", "GET", "/blobs/", Refuse(503)),
        ("source", "GET", "/blobs/", OtherBytes(bytes(2_500_000))),
        ("private", "POST", "/uploads/", Refuse(502)),
        ("private", "PUT", "/uploads/", Refuse(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')),
        ("private", "PUT", "/uploads/", Refuse(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')),
        ("private", "HEAD", "/blobs/", Refuse(500)),
        ("private", "HEAD", "/manifests/", Refuse(405)),
    ],
)
async def test_one_failure_is_mended(
    scene: Scene, side: str, method: str, pattern: str, action: Cut | OtherBytes | Refuse
) -> None:
    await scene.push(SAMPLE)
    registry = scene.source if side == "source" else scene.private
    registry.fail(method, pattern, action)

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert sum(len(blob.content) for blob in SAMPLE.blobs) == copied.transferred


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("times", [1, 3])
async def test_writes_that_the_private_registry_redirects_are_sent_where_it_says(
    scene: Scene, status: int, times: int
) -> None:
    """The bytes of a blob are read from the source again, and counted once."""
    await scene.push(SAMPLE)
    for method in ("POST", "PUT"):
        scene.private.fail(method, r"/v2/[^?]*(\?(?!.*moved).*)?$", Moved(status), times=times)

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert sum(len(blob.content) for blob in SAMPLE.blobs) == copied.transferred
    assert scene.private.count("PUT", "moved=1") == times
    assert scene.private.count("POST", "moved=1") == times


async def test_an_upload_that_breaks_after_a_redirect_is_mended(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", "/uploads/", Moved())
    scene.private.fail("PUT", "moved=1", CutUpload(after=1000))

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert sum(len(blob.content) for blob in SAMPLE.blobs) == copied.transferred


async def test_a_token_that_runs_out_in_the_middle_is_renewed(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.login = scene.private.login = TokenLogin({"alice": "marker-password"})
    engine = scene.engine(login=MARKER)
    resolved = await engine.resolve(scene.image, MARKER)
    challenge = f'Bearer realm="{scene.private.url}/token",service="simulator"'
    scene.private.fail("PUT", "/uploads/", Refuse(401, headers={"WWW-Authenticate": challenge}, early=True))

    await engine.copy(resolved, scene.target, MARKER)

    assert scene.private.count("GET", "/token") >= 2


async def test_relative_locations_are_followed(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.relative_locations = True

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


async def test_B19_blobs_from_another_origin_come_without_authorization(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.login = BasicLogin({"alice": "marker-password"})
    with registries.serve() as storage:
        for blob in SAMPLE.blobs:
            scene.source.fail("GET", blob.digest, Redirect(f"{storage.url}/{blob.digest}?sig=1"), times=None)
            storage.fail("GET", blob.digest, OtherBytes(blob.content))

        await scene.copy(credentials=MARKER)

        assert storage.count("GET", "sig=1") == 4
        assert not [each for each in storage.requests if "authorization" in each.headers]


# What never becomes visible


BAD_SOURCES: list[tuple[str, str, object, type[DockerCacheError], str]] = [
    ("GET", "/blobs/", OtherBytes(bytes(2_500_000)), Invalid, "size-mismatch|digest-mismatch"),
    ("GET", SAMPLE.layers[0].digest, OtherBytes(bytes(2_500_000)), Invalid, "digest-mismatch"),
    ("GET", SAMPLE.layers[0].digest, OtherBytes(b"short"), Invalid, "size-mismatch"),
    ("GET", SAMPLE.layers[0].digest, Cut(after=0), Unavailable, "cut"),
    ("GET", SAMPLE.layers[0].digest, WithHeaders({"Content-Length": "2500001"}), Invalid, "size-mismatch"),
    ("GET", SAMPLE.layers[0].digest, Refuse(404), NotFound, "http-404"),
    ("GET", SAMPLE.layers[0].digest, Refuse(403), Denied, "http-403"),
    ("GET", SAMPLE.layers[0].digest, Refuse(500), Unavailable, "http-500"),
    (
        "GET",
        SAMPLE.layers[0].digest,
        Refuse(429, headers={"Retry-After": "30"}),
        RateLimited,
        "http-429|limited",
    ),
    ("GET", "/manifests/", OtherBytes(b"<html>"), Invalid, "digest-mismatch"),
    ("GET", "/manifests/", Refuse(404), NotFound, "http-404"),
]


@pytest.mark.parametrize(("method", "pattern", "action", "kind", "code"), BAD_SOURCES)
async def test_C20_a_bad_source_leaves_no_tag(
    scene: Scene,
    method: str,
    pattern: str,
    action: Cut | OtherBytes | Refuse | WithHeaders,
    kind: type[DockerCacheError],
    code: str,
) -> None:
    await scene.push(SAMPLE)
    scene.source.fail(method, pattern, action, times=None)

    with pytest.raises(kind, match=code):
        await scene.copy()

    assert await scene.copied() is None
    assert scene.private.store.find_blob(GUID, SAMPLE.layers[0].digest) is None


@pytest.mark.parametrize(
    ("pattern", "content", "least"),
    [(SAMPLE.layers[0].digest, bytes(2_500_000), 2_500_000), ("/manifests/", b"<html>", 0)],
)
async def test_an_error_says_how_many_bytes_were_transferred_before_it(
    scene: Scene, pattern: str, content: bytes, least: int
) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("GET", pattern, OtherBytes(content), times=None)

    with pytest.raises(Invalid) as caught:
        await scene.copy()

    assert caught.value.moved >= least
    assert bool(caught.value.moved) is bool(least)


@pytest.mark.parametrize(
    ("content", "media_type", "code"),
    [
        (b" " * (4 * 1024 * 1024 + 1), images.OCI_MANIFEST, "manifest-too-large"),
        (b"not json", images.OCI_MANIFEST, "manifest-malformed"),
        (
            b'{"schemaVersion":1,"fsLayers":[]}',
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema-1",
        ),
    ],
)
async def test_C8_an_unfit_manifest_is_refused_with_its_reason(
    scene: Scene, content: bytes, media_type: str, code: str
) -> None:
    scene.source.store.add_manifest("team/app", "1", StoredManifest(media_type, content))

    with pytest.raises(Invalid, match=code):
        await scene.copy()

    assert not scene.private.requests or await scene.copied() is None


async def test_limits_are_checked_before_a_byte_is_moved(scene: Scene) -> None:
    await scene.push(SAMPLE)

    with pytest.raises(Invalid, match="image-too-large"):
        await scene.copy(scene.engine(limits=CopyLimits(max_image_bytes=1_000_000)))
    with pytest.raises(Invalid, match="too-many-layers"):
        await scene.copy(scene.engine(limits=CopyLimits(max_layers=2)))

    assert scene.source.count("GET", "/blobs/") == 0
    assert not scene.private.requests


async def test_a_destination_that_stores_something_else_is_found_out(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("GET", "/manifests/", OtherBytes(b"{}"), times=None)

    with pytest.raises(Invalid, match="digest-mismatch"):
        await scene.copy()


async def test_a_blob_that_is_not_there_after_its_upload_is_found_out(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("HEAD", "/blobs/", Refuse(404), times=None)

    with pytest.raises(Unavailable, match="not-verified"):
        await scene.copy()


async def test_one_failing_blob_stops_the_others(scene: Scene) -> None:
    await scene.push(SAMPLE)
    stalling, refused = SAMPLE.layers[:2]

    def refuse_during_the_stall() -> None:
        scene.source.wait_for_stall()
        scene.source.login = BasicLogin({})

    scene.source.fail("GET", stalling.digest, Stall(after=1000))
    scene.source.fail("GET", refused.digest, Meanwhile(refuse_during_the_stall))

    with pytest.raises(Denied):
        await scene.copy()
    await asyncio.to_thread(scene.source.wait_for_hangup)

    assert scene.source.count("GET", stalling.digest) == 1


async def test_no_error_shows_a_password(scene: Scene) -> None:
    echo = b"you sent Basic YWxpY2U6bWFya2VyLXBhc3N3b3Jk, that is marker-password"
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    scene.source.fail("HEAD", "/manifests/", Refuse(401, headers=challenge), times=None)
    scene.source.fail("GET", "/manifests/", Refuse(401, echo, challenge), times=None)

    with pytest.raises(Denied) as denied:
        await scene.copy(credentials=MARKER)

    shown = f"{denied.value}{denied.value!r}{denied.value.__cause__!r}{MARKER!r}"
    assert "marker-password" not in shown
    assert "bWFya2VyLXBhc3N3b3Jk" not in shown


async def test_presence_is_that_of_the_digest(scene: Scene) -> None:
    await scene.push(SAMPLE)
    copied = await scene.copy()
    engine = scene.engine()

    assert await engine.is_present(scene.target, copied.digest)
    assert not await engine.is_present(scene.target, parse_digest(f"sha256:{'0' * 64}"))
    scene.private.fail("HEAD", "/manifests/", Refuse(405))
    assert await engine.is_present(scene.target, copied.digest)


# Between two real registries


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("platform", [LINUX_AMD64, None], ids=["one", "all"])
async def test_two_real_registries(tmp_path: Path, platform: Platform | None) -> None:
    arm = images.image([images.layer(10, 1), SAMPLE.layers[0]], architecture="arm64", docker=True)
    amd = images.image([*SAMPLE.layers, SAMPLE.layers[0], images.layer(0)], docker=True)
    sample = images.index([("linux/arm64", arm), ("linux/amd64", amd)], docker=True)
    for name in ("source", "private"):
        (tmp_path / name).mkdir()

    def start(stack: ExitStack) -> tuple[str, str]:
        source = stack.enter_context(run_distribution(tmp_path / "source", login=ALICE))
        private = stack.enter_context(run_distribution(tmp_path / "private"))
        auth = (ALICE.username, ALICE.password)
        with httpx.Client(base_url=source.url, auth=auth) as client:
            images.push_index(client, "team/app", "1", sample)
        return source.address, private.address

    def pulled(address: str) -> images.Blob | None:
        with httpx.Client(base_url=f"http://{address}") as client:
            for blob in amd.blobs:
                assert blob.content == images.pull_blob(client, GUID, blob.digest)
            return images.pull_manifest(client, GUID, "latest")

    with ExitStack() as stack:
        source, private = await asyncio.to_thread(start, stack)
        client = Registries(
            {
                source: RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.1/32"),)),
                private: RegistrySettings(plain_http=True, any_address=True),
            },
        )
        engine = RegistryCopy(client, CacheRepositories(private), Holders(), platform=platform)
        image: ImageReference = parse_image_reference(f"{source}/team/app:1")
        target = parse_image_reference(f"{private}/{GUID}:latest")
        login = Credentials(ALICE.username, Secret(ALICE.password))

        resolved = await engine.resolve(image, login)
        first = await engine.copy(resolved, target, login)
        second = await engine.copy(resolved, target, login)
        found = await asyncio.to_thread(pulled, private)
        is_present = await engine.is_present(target, first.digest)
        await engine.close()

    assert (sample.index if platform is None else amd.manifest) == found
    assert first.transferred > 2_500_000
    assert second.transferred == 0
    assert is_present
