# ruff: noqa: N802 - names carry the numbers of known bugs
"""Uploads that break, and blobs that several copies want at once."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from controller.engines.single_flight import BlobUpload, SingleFlight
from controller.threads import Cancellation, Stopped
from reconcile.copying_ports import TargetState
from reconcile.errors import Denied, NotFound, RateLimited, Unavailable
from reconcile.references import CacheGuid, Digest, parse_digest
from tests.controller.engines.registry_scene import GUID, HOLDER, MARKER, SAMPLE, Scene
from tests.simulators import images
from tests.simulators.registry import Cut, CutUpload, Meanwhile, OtherBytes, Refuse, Stall, TokenLogin

LAYER = SAMPLE.layers[0]
OTHER_GUID = "7d1f4a4e-5d0c-4c3e-9a52-2f0c8f6c2b22"
SIZE = sum(len(blob.content) for blob in SAMPLE.blobs)


def uploads(scene: Scene) -> list[tuple[str, str]]:
    """List what was sent for the large layer: its length and its range."""
    return [
        (each.headers.get("content-length", ""), each.headers.get("content-range", ""))
        for each in scene.private.requests
        if each.method == "PUT" and LAYER.digest.replace(":", "%3A") in each.path
    ]


async def test_a_broken_upload_goes_on_where_it_stopped(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(1_000_000))

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert uploads(scene) == [("2500000", ""), ("1500000", "1000000-2499999")]
    assert copied.transferred == SIZE
    assert scene.private.count("POST") == 4


async def test_a_broken_upload_begins_anew_where_the_registry_lost_it(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(1_000_000))

    copied = await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert uploads(scene) == [("2500000", ""), ("2500000", "")]
    assert copied.transferred == SIZE
    assert scene.private.count("POST") == 5
    assert scene.source.count("GET", "/manifests/") == 1  # the image is not begun anew


async def test_an_upload_that_broke_before_a_byte_arrived_begins_anew(scene: Scene) -> None:
    """Its range is "0-0", which can mean a byte as well."""
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(0))

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


async def test_an_upload_whose_answer_was_lost_is_not_repeated(scene: Scene) -> None:
    await scene.push(SAMPLE)

    def keep() -> None:
        scene.private.store.add_blob(GUID, LAYER.content)

    scene.private.fail("GET", "/blobs/uploads/", Meanwhile(keep), times=None)
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(2_500_000))

    await scene.copy()

    assert len(uploads(scene)) == 1


async def test_what_a_resumed_upload_finds_there_was_moved_once(scene: Scene) -> None:
    """Its organization pays for what failed copies transfer."""
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(len(LAYER.content)))
    scene.private.fail("PUT", "/manifests/", Refuse(403), times=None)

    with pytest.raises(Denied) as caught:
        await scene.copy()

    assert [length for length, _ in uploads(scene)] == [str(len(LAYER.content)), "0"]
    assert caught.value.moved == SIZE


async def test_B1_a_token_that_ran_out_during_the_upload_costs_the_commit_alone(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.private.login = TokenLogin({"alice": "marker-password"})
    challenge = f'Bearer realm="{scene.private.url}/token",service="simulator",error="invalid_token"'
    scene.private.fail(
        "PUT",
        LAYER.digest.replace(":", "%3A"),
        Refuse(401, headers={"WWW-Authenticate": challenge}, keeps=True),
    )

    await scene.copy(scene.engine(login=MARKER))

    assert [length for length, _ in uploads(scene)] == ["2500000", "0"]
    assert scene.source.count("GET", LAYER.digest) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_upload_that_a_proxy_refuses_is_tried_once_more(scene: Scene, status: int) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), Refuse(status, b"<html>"))

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()


async def test_a_destination_that_asks_for_time_gets_it(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.fail("PUT", "/uploads/", Refuse(503, headers={"Retry-After": "120"}), times=None)

    with pytest.raises(Unavailable) as unavailable:
        await scene.copy()

    assert not isinstance(unavailable.value, RateLimited)
    assert unavailable.value.retry_after == pytest.approx(120.0, abs=5.0)
    assert scene.private.count("PUT") <= 4


async def test_a_download_breaks_while_an_upload_goes_on(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.source.fail("GET", LAYER.digest, Cut(after=1_700_000))
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(400_000))

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert [length for length, _ in uploads(scene)] == ["2500000", "2100000"]


async def test_a_wrong_blob_is_not_completed_by_going_on(scene: Scene) -> None:
    """All of it is hashed again before the rest is sent."""
    await scene.push(SAMPLE)
    scene.private.resumable = True
    scene.private.fail("PUT", LAYER.digest.replace(":", "%3A"), CutUpload(1_000_000))
    scene.source.fail("GET", LAYER.digest, OtherBytes(bytes(2_500_000)), times=None)

    with pytest.raises(Exception, match="digest-mismatch"):
        await scene.copy()

    assert scene.private.store.find_blob(GUID, LAYER.digest) is None
    assert await scene.copied() is None


# Single flight


async def test_D7_two_copies_of_different_images_move_their_common_layer_once(scene: Scene) -> None:
    one, two = images.image([LAYER, images.layer(10, 1)]), images.image([LAYER, images.layer(10, 2)])
    await scene.push(one, "one")
    await scene.push(two, "two")
    engine = scene.engine()
    first = await engine.resolve(replace(scene.image, tag="one"), None)
    second = await engine.resolve(replace(scene.image, tag="two"), None)

    both = await asyncio.gather(
        engine.copy(first, scene.target, None),
        engine.copy(second, replace(scene.target, path=OTHER_GUID), None),
    )

    assert len(uploads(scene)) == 1
    assert scene.source.count("GET", LAYER.digest) == 1
    assert scene.private.count("POST", "mount=") >= 1
    moved = sum(each.transferred for each in both)
    assert moved == len(LAYER.content) + 20 + len(one.config.content) + len(two.config.content)
    assert one.manifest == await scene.copied()
    assert two.manifest == await scene.copied(guid=OTHER_GUID)


async def test_D7_the_copy_that_waits_takes_over_when_the_other_fails(scene: Scene) -> None:
    await scene.push(images.image([LAYER]), "one")
    await scene.push(images.image([LAYER, images.layer(10, 2)]), "two")
    engine = scene.engine()
    first = await engine.resolve(replace(scene.image, tag="one"), None)
    second = await engine.resolve(replace(scene.image, tag="two"), None)
    scene.source.fail("GET", LAYER.digest, Stall(after=1000))
    leading = asyncio.ensure_future(engine.copy(first, scene.target, None))
    await asyncio.to_thread(scene.source.wait_for_stall)
    following = asyncio.ensure_future(engine.copy(second, replace(scene.target, path=OTHER_GUID), None))

    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    copied = await following

    assert copied.transferred > len(LAYER.content)


async def test_a_blob_that_was_lost_since_it_was_sent_is_sent_again_before_the_manifest(scene: Scene) -> None:
    """What this process has once sent to the target may be gone, wherever the records say that it lies."""
    await scene.push(images.image([LAYER]))
    engine = scene.engine()
    await scene.copy(engine)
    await scene.copy_to(OTHER_GUID, engine)
    for guid in (GUID, OTHER_GUID):
        scene.private.store.repository(guid).blobs.discard(LAYER.digest)
    scene.holders.of[parse_digest(LAYER.digest)] = CacheGuid(OTHER_GUID)
    scene.private.forget_requests()

    resolved = await engine.resolve(scene.image, None)
    await engine.copy(resolved, scene.target, None, state=TargetState.DAMAGED)

    assert len(uploads(scene)) == 1
    assert scene.private.count("PUT", "/manifests/") == 1


KEY = ("r.example", "registry docker.io", parse_digest(LAYER.digest), 3)


def test_a_waiting_copy_can_be_cancelled() -> None:
    single_flight, cancellation = SingleFlight(), Cancellation()
    assert single_flight.join(KEY, BlobUpload(), Cancellation()) is None
    cancellation.cancel()

    with pytest.raises(Stopped):
        single_flight.join(KEY, BlobUpload(), cancellation)


@pytest.mark.parametrize(
    "other",
    [
        ("r.example", "domain\nalice", parse_digest(LAYER.digest), 40 << 30),
        ("r.example", "domain\nbob", parse_digest(LAYER.digest), 1),
        ("r.example", "other\nalice", parse_digest(LAYER.digest), 1),
        ("s.example", "domain\nalice", parse_digest(LAYER.digest), 1),
    ],
    ids=["size", "login", "domain", "target"],
)
def test_nobody_waits_for_an_upload_that_differs(other: tuple[str, str, Digest, int]) -> None:
    single_flight, theirs = SingleFlight(patience=600.0), BlobUpload()
    assert single_flight.join(other, theirs, Cancellation()) is None
    key = ("r.example", "domain\nalice", parse_digest(LAYER.digest), 1)

    assert single_flight.join(key, BlobUpload(), Cancellation()) is None
    single_flight.finish(other, theirs, "elsewhere")
    assert single_flight.find(key) is None


def test_what_was_uploaded_is_known_and_what_failed_starts_again() -> None:
    single_flight, failing, following = SingleFlight(), BlobUpload(), BlobUpload()
    single_flight.join(KEY, failing, Cancellation())
    single_flight.finish(KEY, failing, None)
    assert single_flight.find(KEY) is None

    assert single_flight.join(KEY, following, Cancellation()) is None
    single_flight.finish(KEY, following, "team/app")
    assert single_flight.find(KEY) == "team/app"
    assert single_flight.join(KEY, BlobUpload(), Cancellation()) == "team/app"
    assert single_flight.join(KEY, BlobUpload(), Cancellation(), tried="team/app") is None


@pytest.mark.parametrize(
    ("scope", "size"),
    [("registry r.example", 3), ("registry docker.io:5000", 3), (KEY[1], 4)],
    ids=["another source", "another port", "another size"],
)
def test_no_copy_waits_for_the_upload_of_a_foreign_source_or_of_another_size(scope: str, size: int) -> None:
    """A tenant may name any digest and any size, and then send nothing."""
    single_flight, theirs, mine = SingleFlight(patience=600.0), BlobUpload(), BlobUpload()
    my_key = (KEY[0], scope, KEY[2], size)
    single_flight.join(KEY, theirs, Cancellation())

    assert single_flight.join(my_key, mine, Cancellation()) is None

    single_flight.finish(my_key, mine, "mine")
    single_flight.finish(KEY, theirs, "theirs")
    assert (single_flight.find(my_key), single_flight.find(KEY)) == ("mine", "theirs")


def test_a_copy_waits_no_longer_for_an_upload_that_comes_to_a_halt() -> None:
    single_flight = SingleFlight(1000.0, patience=0.01)
    single_flight.join(KEY, BlobUpload(moved=10**6), Cancellation())

    assert single_flight.join(KEY, BlobUpload(), Cancellation()) is None


class BusyUpload(BlobUpload):
    """Moves on whenever somebody looks."""

    looks = 0

    @property
    def moved(self) -> int:
        BusyUpload.looks += 1
        return BusyUpload.looks * 1000

    @moved.setter
    def moved(self, value: int) -> None:
        """Do not begin anew."""


def test_a_copy_waits_for_an_upload_that_keeps_its_rate() -> None:
    single_flight, busy, mine = SingleFlight(1000.0, patience=0.01), BusyUpload(), BlobUpload()
    single_flight.join(KEY, busy, Cancellation())
    found = list[str | None]()
    waiting = threading.Thread(
        target=lambda: found.append(single_flight.join(KEY, mine, Cancellation())), daemon=True
    )
    waiting.start()
    while BusyUpload.looks < 6:
        waiting.join(0.01)

    single_flight.finish(KEY, busy, "theirs")
    waiting.join(60.0)

    assert found == ["theirs"]


# What is asked


def asked(scene: Scene) -> tuple[Counter[str], Counter[str]]:
    """Count what both registries were asked, by kind."""

    def kinds(requests: object) -> Counter[str]:
        return Counter(
            f"{each.method} {each.path.split('/')[4 if '/team/app/' in each.path else 3].partition('?')[0]}"
            for each in requests  # type: ignore[attr-defined]
        )

    return kinds(scene.source.requests), kinds(scene.private.requests)


async def test_the_second_copy_of_the_same_content_asks_for_no_blob_and_sends_none(scene: Scene) -> None:
    """Another app, another reference, the same content: the blobs are mounted, one request each."""
    await scene.push(SAMPLE)
    engine = scene.engine()
    await scene.copy(engine)
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}
    for blob in SAMPLE.blobs:
        scene.private.store.add_blob(HOLDER, blob.content)
    scene.source.forget_requests()
    scene.private.forget_requests()

    copied = await scene.copy_to(OTHER_GUID, engine)

    source, private = asked(scene)
    assert source == {"HEAD manifests": 1, "GET manifests": 1}
    assert private["POST blobs"] == 4
    assert scene.private.count("PUT", "/blobs/") == 0
    assert private["HEAD blobs"] == 4  # the proof
    assert copied.transferred == 0


async def test_a_mounted_blob_costs_one_request_before_the_proof_and_is_read_once(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}
    for blob in SAMPLE.blobs:
        scene.private.store.add_blob(HOLDER, blob.content)

    await scene.copy()

    methods = Counter(each.method for each in scene.private.requests if "/blobs/" in each.path)
    assert methods == {"POST": 4, "GET": 2 * 4, "HEAD": 4}

    scene.private.forget_requests()
    await scene.copy_to(OTHER_GUID, scene.engines[0])

    methods = Counter(each.method for each in scene.private.requests if "/blobs/" in each.path)
    assert methods == {"POST": 4, "HEAD": 4}


async def test_an_image_out_of_an_index_costs_three_requests_for_manifests(scene: Scene) -> None:
    arm = images.image([images.layer(10, 1)], architecture="arm64")
    await scene.push(images.index([("linux/arm64", arm), ("linux/amd64", SAMPLE)]))

    await scene.copy()

    paths = [(each.method, each.path) for each in scene.source.requests if "/manifests/" in each.path]
    assert [method for method, _ in paths] == ["HEAD", "GET", "GET"]
    assert all(one != two for one, two in pairwise(paths))


async def test_I6_a_second_run_puts_nothing(scene: Scene, tmp_path: Path) -> None:
    await scene.push(SAMPLE)
    await scene.copy()
    scene.private.forget_requests()

    await scene.copy(scene.engine())

    assert scene.private.count("PUT") == scene.private.count("POST") == 0


async def test_a_blob_known_to_be_elsewhere_but_gone_is_uploaded(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.holders.of = {parse_digest(blob.digest): HOLDER for blob in SAMPLE.blobs}

    await scene.copy()

    assert SAMPLE.manifest == await scene.copied()
    assert scene.private.count("POST") == 4  # the session of the mount that failed is used


async def test_a_layer_that_is_gone_at_the_source_is_not_found(scene: Scene) -> None:
    await scene.push(SAMPLE)
    scene.source.store.repository("team/app").blobs.discard(LAYER.digest)

    with pytest.raises(NotFound, match="BLOB_UNKNOWN"):
        await scene.copy()


async def test_D10_the_empty_blob_is_put_with_its_length(scene: Scene) -> None:
    await scene.push(images.image([images.layer(0)]))

    await scene.copy()

    empty = [each for each in scene.private.requests if each.method == "PUT" and "e3b0c442" in each.path]
    assert [each.headers["content-length"] for each in empty] == ["0"]
    with httpx.Client(base_url=scene.private.url) as client:
        found = await asyncio.to_thread(images.pull_blob, client, GUID, images.layer(0).digest)
    assert found == b""
