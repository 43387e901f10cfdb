"""Refusals that have a way round, and those that pass by themselves, in whole copies."""

import asyncio
import hashlib
import itertools
from dataclasses import replace

import pytest

from controller.engines.copy_limits import CopyLimits
from controller.engines.open_uploads import SHORT, OpenUploads
from controller.engines.unreliable_sources import UnreliableSources
from controller.registry.http.urls import Url, parse_url
from controller.registry.oci.upload_parts import PartSizes
from reconcile.copying_ports import CheckDepth, OpenUpload, Signatures, TargetState
from reconcile.errors import Conflict, Denied, Invalid, NotFound, RateLimited, Unavailable
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.engines.registry_scene import GUID, HOLDER, SAMPLE, SMALL_BUFFER, Scene
from tests.simulators import images
from tests.simulators.registry import (
    Cut,
    CutUpload,
    Meanwhile,
    Moved,
    OtherBytes,
    Refuse,
    RegistrySimulator,
    Stall,
    WithHeaders,
)
from tests.simulators.registry.store import StoredManifest

LAYER = SAMPLE.layers[0]
LAYER_IN_URL = LAYER.digest.replace(":", "%3A")
WITH_REFERRERS = replace(SMALL_BUFFER, copy_referrers=True)
UNKNOWN_UPLOAD = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}'
UNKNOWN_MANIFEST = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
TAG_INVALID = (
    b'{"errors":[{"code":"TAG_INVALID","message":"The image tag already exists and cannot be overwritten because '
    b'the repository is immutable."}]}'
)


def sent(private: RegistrySimulator) -> list[int]:
    """List the lengths of the bodies that were sent for the large layer and not refused."""
    return [
        int(each.headers.get("content-length", 0))
        for each in private.requests
        if each.method in {"PUT", "PATCH"} and "/uploads/" in each.path and each.status < 300
    ]


# What was just written is not there yet


@pytest.mark.parametrize("times", [1, 3])
async def test_an_own_manifest_that_is_not_there_yet_is_looked_for_again(scene: Scene, times: int) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("GET", "/manifests/latest", Refuse(404, UNKNOWN_MANIFEST), times=times)

    await scene.copy()

    assert scene.private.count("GET", "/manifests/latest") == times + 1
    assert scene.private.count("PUT", "/manifests/") == 1
    assert await scene.copied() == SAMPLE.manifest


async def test_an_own_manifest_that_never_appears_is_a_case_for_another_attempt(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("GET", "/manifests/latest", Refuse(404, UNKNOWN_MANIFEST), times=None)

    with pytest.raises(Unavailable, match="not-verified"):
        await scene.copy()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("status", [404, 416, 400])
async def test_an_upload_that_the_registry_has_lost_is_started_again(
    scene: Scene, times: int, status: int
) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", LAYER_IN_URL, Refuse(status, UNKNOWN_UPLOAD), times=times)

    await scene.copy()

    assert await scene.copied() == SAMPLE.manifest


async def test_a_registry_that_loses_every_upload_is_a_case_for_another_attempt(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", LAYER_IN_URL, Refuse(404, UNKNOWN_UPLOAD), times=None)

    with pytest.raises(Unavailable, match="BLOB_UPLOAD_UNKNOWN"):
        await scene.copy()

    assert scene.private.count("PUT", LAYER_IN_URL) == 4


async def test_an_own_blob_that_is_not_there_yet_is_looked_for_again(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("HEAD", f"/blobs/{LAYER.digest}", Refuse(404), times=4, after=1)

    await scene.copy()

    assert len([each for each in sent(scene.private) if each == len(LAYER.content)]) == 1


async def test_a_child_that_is_not_there_yet_is_pushed_again_before_its_index(scene: Scene) -> None:
    index = images.index([("linux/amd64", SAMPLE), ("linux/arm64", images.image([images.layer(9, 9)]))])
    await scene.push(index)

    def lose() -> None:
        del scene.private.store.repository(GUID).manifests[SAMPLE.manifest.digest]

    scene.private.fail("PUT", "/manifests/latest", Meanwhile(lose))

    await scene.copy(scene.engine(platform=None))

    assert await scene.copied() == index.index
    assert await scene.copied(SAMPLE.manifest.digest) == SAMPLE.manifest


async def test_a_source_that_is_still_fetching_an_image_is_asked_again(scene: Scene) -> None:
    await scene.push(SAMPLE)
    body = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}'
    scene.source.fail("GET", "/manifests/", Refuse(404, body))

    await scene.copy()

    assert await scene.copied() == SAMPLE.manifest


# Immutable tags


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, TAG_INVALID), (412, b'{"errors":[{"code":"PRECONDITION"}]}'), (409, b""), (403, b"immutable")],
)
async def test_a_lost_blob_is_mended_under_an_immutable_tag(scene: Scene, status: int, body: bytes) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine()
    resolved = await engine.resolve(scene.image, None)
    await engine.copy(resolved, scene.target, None)
    scene.private.store.repository(GUID).blobs.discard(LAYER.digest)
    scene.private.fail("PUT", "/manifests/", Refuse(status, body), times=None)

    await engine.copy(resolved, scene.target, None, state=TargetState.DAMAGED)

    assert (
        await engine.find_missing(scene.target, parse_digest(SAMPLE.manifest.digest), CheckDepth.BYTES) == ""
    )


@pytest.mark.parametrize(("status", "error"), [(400, Invalid), (412, Conflict), (403, Denied)])
async def test_an_immutable_tag_of_something_else_is_no_copy(
    scene: Scene, status: int, error: type[Exception]
) -> None:
    await scene.push(SAMPLE)
    other = images.image([images.layer(8, 8)])
    scene.private.store.add_manifest(
        GUID, "latest", StoredManifest(other.manifest.media_type, other.manifest.content)
    )
    scene.private.fail("PUT", "/manifests/", Refuse(status, TAG_INVALID), times=None)

    with pytest.raises(error):
        await scene.copy()


# Mounts


async def hold(scene: Scene) -> None:
    """Let another copy hold the large layer."""
    holder = str(HOLDER)
    scene.private.store.add_blob(holder, LAYER.content)
    scene.holders.of[parse_digest(LAYER.digest)] = HOLDER


@pytest.mark.parametrize("is_proven", [False, True])
async def test_a_mount_that_did_nothing_is_followed_by_an_upload(scene: Scene, is_proven: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    await scene.push(SAMPLE)
    await hold(scene)
    scene.private.lenient = True
    scene.private.fail("POST", "mount=", Refuse(201, headers={"Location": "/v2/x"}), times=None)
    engine = scene.engine()
    if is_proven:  # as after another copy with the same layer
        engine._resources.proven.add((scene.private.address, parse_digest(LAYER.digest)))
    resolved = await engine.resolve(scene.image, None)

    await engine.copy(resolved, scene.target, None)

    assert scene.private.store.find_blob(GUID, LAYER.digest) == LAYER.content
    assert scene.private.count("POST", "mount=") == 1


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_an_upload_that_a_mount_has_started_and_takes_no_bytes_is_started_without_a_mount(
    scene: Scene, status: int
) -> None:
    await scene.push(SAMPLE)
    await hold(scene)
    location = f"{scene.private.url}/v2/{GUID}/blobs/uploads/of-a-mount"
    scene.private.fail("POST", "mount=", Refuse(202, headers={"Location": location}))
    scene.private.fail("PUT", "/of-a-mount", Refuse(status), times=None)

    await scene.copy()

    assert await scene.copied() == SAMPLE.manifest
    assert scene.private.count("PUT", "/of-a-mount") == 1


async def test_a_read_only_registry_is_read_only_also_after_a_mount(scene: Scene) -> None:
    await scene.push(SAMPLE)
    await hold(scene)
    scene.private.mounts = False
    scene.private.fail("PUT", "/uploads/", Refuse(405), times=None)

    with pytest.raises(Unavailable, match="read-only"):
        await scene.copy()


# HEAD requests that fail or lie


@pytest.mark.parametrize("status", [400, 405, 500, 501, 502])
async def test_a_source_that_answers_only_reads_is_read(scene: Scene, status: int) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("HEAD", "", Refuse(status), times=None)

    engine = scene.engine()

    resolved = await engine.resolve(scene.image, None)

    assert scene.source.count("HEAD", "/manifests/") == 1
    assert scene.source.count("GET", "/manifests/") == 1
    await engine.copy(resolved, scene.target, None)
    assert await scene.copied() == SAMPLE.manifest


@pytest.mark.parametrize("status", [401, 405, 500, 501])
async def test_a_private_registry_that_answers_only_reads_is_read(scene: Scene, status: int) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("HEAD", "", Refuse(status), times=None)
    engine = scene.engine()

    await scene.copy(engine)

    digest = parse_digest(SAMPLE.manifest.digest)
    assert await engine.is_present(scene.target, digest)
    for depth in CheckDepth:
        assert await engine.find_missing(scene.target, digest, depth) == ""


async def test_a_presence_check_that_is_denied_says_why(scene: Scene) -> None:
    scene.private.fail("HEAD", "", Refuse(401), times=None)
    body = b'{"errors":[{"code":"UNAUTHORIZED","message":"the account is locked"}]}'
    scene.private.fail("GET", "", Refuse(401, body), times=None)

    with pytest.raises(Denied, match="the account is locked"):
        await scene.engine().is_present(scene.target, parse_digest(SAMPLE.manifest.digest))


async def test_a_proxy_that_states_no_length_costs_no_blob(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("HEAD", "", WithHeaders({"Content-Length": "0"}), times=None)
    engine = scene.engine()
    resolved = await engine.resolve(scene.image, None)

    first = await engine.copy(resolved, scene.target, None)
    second = await engine.copy(resolved, scene.target, None)

    assert first.transferred == sum(len(blob.content) for blob in SAMPLE.blobs)
    assert (second.transferred, second.mounted) == (0, 0)
    assert second.present == first.transferred
    assert await engine.find_missing(scene.target, resolved.platform_digest, CheckDepth.BLOBS) == ""


# Refusals for a time


@pytest.mark.parametrize("side", ["source", "private"])
async def test_a_refusal_that_names_a_time_puts_the_copy_off(scene: Scene, side: str) -> None:
    await scene.push(SAMPLE)
    registry = scene.source if side == "source" else scene.private
    method = "GET" if side == "source" else "POST"
    registry.fail(method, "/blobs/", Refuse(403, b"<html>", {"Retry-After": "60"}), times=None)

    with pytest.raises(Unavailable) as refused:
        await scene.copy()

    assert not isinstance(refused.value, RateLimited)
    assert refused.value.retry_after == 60.0


# Signatures


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("where", ["manifests/sha256-[0-9a-f]+.sig$", "manifests/sha256-[0-9a-f]+$"])
async def test_signatures_that_are_denied_keep_no_image_from_being_copied(
    scene: Scene, status: int, where: str
) -> None:
    await scene.push(SAMPLE)
    for method in ("HEAD", "GET"):
        scene.source.fail(method, where, Refuse(status, b"denied"), times=None)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.DENIED
    assert str(copied.signatures) == "unknown: denied"
    assert await scene.copied() == SAMPLE.manifest


async def test_what_is_not_denied_of_signatures_is_copied(scene: Scene) -> None:
    await scene.push(SAMPLE)
    tag = SAMPLE.manifest.digest.replace(":", "-")
    attestation = images.image([images.layer(5, "att")])
    await scene.push(attestation, f"{tag}.att")
    for method in ("HEAD", "GET"):
        scene.source.fail(method, f"{tag}.sig", Refuse(403), times=None)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.DENIED
    assert await scene.copied(f"{tag}.att") == attestation.manifest


# Uploads in parts

MIB = 1024 * 1024


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_blob_that_is_too_long_for_a_proxy_is_sent_in_parts(scene: Scene, resumable: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    await scene.push(SAMPLE)
    scene.private.longest_body, scene.private.resumable = MIB, resumable
    engine = scene.engine()

    copied = await scene.copy(engine)

    assert await scene.copied() == SAMPLE.manifest
    assert copied.transferred == sum(len(blob.content) for blob in SAMPLE.blobs)
    assert sorted(sent(scene.private))[-3:] == [len(LAYER.content) - 2 * MIB, MIB, MIB]
    refused = [each for each in scene.private.requests if each.status == 413]
    assert len(refused) == 1
    await scene.copy_to("7d1f4a4e-5d0c-4c3e-9a52-2f0c8f6c2b22", engine)
    assert len([each for each in scene.private.requests if each.status == 413]) == 1, "it is remembered"


async def test_many_blobs_that_are_too_long_at_once_become_shorter_together(scene: Scene) -> None:
    """Each refusal is about the length that was sent, and not about what others have found out meanwhile."""
    layers = [images.layer(1_500_000, seed) for seed in range(8)]
    await scene.push(images.image(layers))
    scene.private.longest_body = MIB

    await scene.copy()

    assert all(scene.private.store.find_blob(GUID, layer.digest) == layer.content for layer in layers)
    parts = [each for each in scene.private.requests if each.method == "PATCH"]
    assert {each.headers["content-length"] for each in parts} == {str(MIB)}


async def test_a_blob_that_no_part_of_is_short_enough_says_so(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.longest_body = 100_000

    with pytest.raises(Invalid, match="client_max_body_size") as refused:
        await scene.copy()

    assert "1,048,576 bytes" in refused.value.detail


async def test_a_part_that_breaks_is_sent_again_from_where_it_arrived(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.longest_body, scene.private.resumable = MIB, True
    scene.private.fail("PATCH", "/uploads/", CutUpload(300_000), after=1)

    copied = await scene.copy()

    assert await scene.copied() == SAMPLE.manifest
    assert copied.transferred == sum(len(blob.content) for blob in SAMPLE.blobs)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_part_that_is_redirected_is_read_again(scene: Scene, method: str, after: int) -> None:
    await scene.push(images.image([LAYER]))
    scene.private.longest_body = MIB
    scene.private.fail(method, f"/{GUID}/blobs/uploads/", Moved(), after=after)

    copied = await scene.copy()

    assert scene.private.store.find_blob(GUID, LAYER.digest) == LAYER.content
    assert copied.transferred > len(LAYER.content)


async def test_a_wrong_blob_is_not_completed_in_parts_either(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.longest_body = MIB
    scene.source.fail("GET", LAYER.digest, OtherBytes(bytes(2_500_000)), times=None)

    with pytest.raises(Invalid, match="digest-mismatch"):
        await scene.copy()

    assert scene.private.store.find_blob(GUID, LAYER.digest) is None
    assert scene.private.partial == {}


async def test_a_registry_that_states_the_shortest_part_gets_parts_that_are_no_shorter(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.longest_body, scene.private.least_chunk = 2 * MIB, 1_200_000

    await scene.copy()

    assert await scene.copied() == SAMPLE.manifest
    assert sorted(sent(scene.private))[-3:] == [100_000, 1_200_000, 1_200_000]


def test_parts_become_shorter_until_the_shortest() -> None:
    sizes = PartSizes()
    assert sizes.most("r.example", 0) is None
    assert sizes.most("r.example", 5) == 64 * MIB

    lengths = [200 * MIB]
    while sizes.lower("r.example", lengths[-1], 0):
        lengths.append(sizes.most("r.example", 0) or 0)

    assert lengths == [200 * MIB, 64 * MIB, 16 * MIB, 4 * MIB, MIB]
    assert sizes.lower("r.example", 300 * MIB, 0), "another upload has found out that shorter ones do"
    assert sizes.most("s.example", 0) is None
    assert not sizes.lower("s.example", 4 * MIB, 5 * MIB), "it takes no shorter parts"
    assert not sizes.lower("s.example", MIB, 0)


# Uploads that fail are cancelled


async def test_uploads_of_a_blob_with_a_wrong_digest_leave_nothing_behind(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    wrong = hashlib.sha256(b"x").digest() * (2_500_000 // 32)
    scene.source.fail("GET", LAYER.digest, OtherBytes(wrong), times=None)
    engine = scene.engine()

    for _ in range(3):
        with pytest.raises(Invalid, match=r"digest-mismatch|size-mismatch"):
            await scene.copy(engine)

    assert (scene.private.uploads, scene.private.partial) == ({}, {})
    assert scene.private.cancelled >= 3


async def test_a_source_that_breaks_uploads_off_is_read_before_each_request(scene: Scene) -> None:
    """The registry that cannot drop what broke off within a request keeps the bytes of the first time alone."""
    await scene.push(SAMPLE)
    wrong = hashlib.sha256(b"x").digest() * (2_500_000 // 32)
    scene.source.fail("GET", LAYER.digest, OtherBytes(wrong), times=None)
    engine = scene.engine()
    with pytest.raises(Invalid, match=r"digest-mismatch|size-mismatch"):
        await scene.copy(engine)
    scene.private.forget_requests()
    cancelled = scene.private.cancelled

    with pytest.raises(Invalid, match=r"digest-mismatch|size-mismatch"):
        await scene.copy(engine)

    assert scene.private.count("PATCH", "/uploads/") >= 2_500_000 // SMALL_BUFFER.buffer
    assert scene.private.cancelled > cancelled
    assert (scene.private.uploads, scene.private.partial) == ({}, {})


async def test_a_source_that_has_recovered_is_copied_from(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.fail("GET", LAYER.digest, OtherBytes(bytes(2_500_000)))

    copied = await scene.copy()

    assert await scene.copied() == SAMPLE.manifest
    assert copied.transferred == sum(len(blob.content) for blob in SAMPLE.blobs)
    assert scene.private.count("PATCH", "/uploads/") == 2_500_000 // SMALL_BUFFER.buffer


def test_a_registry_is_unreliable_for_an_hour_and_a_repository_for_its_own_faults() -> None:
    now = 0.0
    sources = UnreliableSources(lambda: now)
    lying, other = parse_image_reference("evil.example/a/b:1"), parse_image_reference("evil.example/c/d:1")
    hub, neighbour = parse_image_reference("docker.io/a/b:1"), parse_image_reference("docker.io/c/d:1")

    sources.add(lying, Invalid("registry", "digest-mismatch", "x"))
    sources.add(hub, Invalid("registry", "cannot-run-on-cells", "x"))

    assert [each in sources for each in (lying, other, hub, neighbour)] == [True, True, True, False]
    now = 3601.0
    assert not any(each in sources for each in (lying, other, hub, neighbour))


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_uploads_that_the_registry_refuses_leave_nothing_behind(scene: Scene, status: int) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", "/uploads/", Refuse(status), times=None)

    with pytest.raises((Invalid, Unavailable)):
        await scene.copy(scene.engine(limits=CopyLimits(buffer=65536, blobs_at_a_time=1)))

    assert scene.private.uploads == {}


@pytest.mark.parametrize("error", [Refuse(404), Refuse(403), Cut(after=10)])
async def test_uploads_whose_blob_the_source_does_not_give_leave_nothing_behind(
    scene: Scene, error: Refuse | Cut
) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.source.fail("GET", "/blobs/", error, times=None)

    with pytest.raises((NotFound, Denied, Unavailable)):
        await scene.copy(scene.engine(limits=CopyLimits(buffer=65536, blobs_at_a_time=1)))

    assert scene.private.uploads == {}


async def test_an_upload_that_a_crash_has_left_is_cancelled_by_the_next_process(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.source.fail("GET", LAYER.digest, Stall(after=1_000_000))
    engine = scene.engine()
    engine._resources.open_uploads = OpenUploads(itertools.count(0.0, SHORT).__next__)
    copying = asyncio.ensure_future(scene.copy(engine))
    await asyncio.to_thread(scene.source.wait_for_stall)
    others = [blob for blob in SAMPLE.blobs if blob != LAYER]

    def is_alone() -> bool:
        are_done = all(scene.private.store.find_blob(GUID, blob.digest) is not None for blob in others)
        return are_done and len(engine.list_long_uploads()) == 1

    async with asyncio.timeout(60.0):
        while not is_alone():  # noqa: ASYNC110 - the end of an upload sets no event
            await asyncio.sleep(0.01)

    (upload,) = engine.list_long_uploads()

    assert upload.target == scene.target
    assert await scene.engine().cancel_upload(upload)
    assert scene.private.cancelled == 1
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert engine.list_long_uploads() == ()


def test_an_upload_is_known_where_it_continues_once_it_has_lasted() -> None:
    now, sessions = 0.0, list[Url]()
    uploads, target = OpenUploads(lambda: now), parse_image_reference("cache.example/a:1")

    with uploads.watching(target, sessions):
        now = SHORT
        assert uploads.list_long() == (), "it has no session yet"
        sessions.append(parse_url("https://cache.example/v2/1"))
        sessions.append(parse_url("https://cache.example/v2/2?_state=x"))
        assert uploads.list_long() == (OpenUpload(target, "https://cache.example/v2/2?_state=x"),)
        with uploads.watching(target, sessions[:1]):
            assert len(uploads.list_long()) == 1, "the other one is short"

    assert uploads.list_long() == ()


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://[", "http://user:p@x/"])
async def test_a_record_that_is_no_upload_is_left_alone(scene: Scene, url: str) -> None:
    assert await scene.engine().cancel_upload(OpenUpload(scene.target, url)) is False
