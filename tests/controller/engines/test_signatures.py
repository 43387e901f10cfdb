# ruff: noqa: N802 - names carry the numbers of known bugs
"""Signatures and other referrers travel with an image where that is wanted."""

import asyncio
import json
from dataclasses import replace

import pytest

from controller.registry.oci.manifests import Document, parse_document
from controller.registry.oci.referrers import add_referrers, fallback_tag, list_referrers
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation
from reconcile.copying_ports import ResolvedImage, Signatures, TargetState
from reconcile.errors import Invalid, Unavailable
from reconcile.notes import ARTIFACT_TYPE
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.engines.registry_scene import GUID, SAMPLE, SMALL_BUFFER, Scene
from tests.simulators import images
from tests.simulators.registry import Meanwhile, OtherBytes, Refuse, WithHeaders
from tests.simulators.registry.store import StoredManifest

WITH_REFERRERS = replace(SMALL_BUFFER, copy_referrers=True)
SUBJECT = parse_digest(SAMPLE.manifest.digest)
TAG = SAMPLE.manifest.digest.replace(":", "-")
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"


def artifact(name: str, *, kind: str = COSIGN) -> images.Image:
    """Make something that refers to the sample."""
    plain = images.image([images.Blob("application/octet-stream", name.encode())])
    document = json.loads(plain.manifest.content)
    document |= {"artifactType": kind, "subject": SAMPLE.manifest.descriptor, "annotations": {"name": name}}
    return images.Image(
        images.Blob(images.OCI_MANIFEST, json.dumps(document).encode()), plain.config, plain.layers
    )


def fallback(*artifacts: images.Image, kind: str = COSIGN) -> images.Blob:
    """Write the list under the fallback tag."""
    entries = [{**each.manifest.descriptor, "artifactType": kind} for each in artifacts]
    document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": entries}
    return images.Blob(images.OCI_INDEX, json.dumps(document).encode())


async def sign(
    scene: Scene, *, at_fallback_tag: bool, kind: str = COSIGN
) -> tuple[images.Image, images.Image]:
    """Put the sample with a referrer and a signature tag into the source."""
    await scene.push(SAMPLE)
    referrer, signature = artifact("referrer"), images.image([images.layer(5, "sig")])
    await scene.push(referrer, referrer.manifest.digest)
    await scene.push(signature, f"{TAG}.sig")
    if at_fallback_tag:
        await scene.push(images.MultiImage(fallback(referrer, kind=kind), ()), TAG)
    return referrer, signature


async def test_nothing_is_asked_about_signatures_unless_wanted(scene: Scene) -> None:
    await sign(scene, at_fallback_tag=True)

    copied = await scene.copy()

    assert copied.signatures is Signatures.SKIPPED
    assert await scene.copied(f"{TAG}.sig") is None
    assert scene.source.count("GET", "referrers") == 0


async def test_a_note_of_this_program_stays_beside_the_copy_that_it_is_about(scene: Scene) -> None:
    """As when a copy is copied from one private registry to the next."""
    await scene.push(SAMPLE)
    note, signature = artifact("note", kind=ARTIFACT_TYPE), artifact("signature")
    for each in (note, signature):
        await scene.push(each, each.manifest.digest)
    scene.source.referrers = scene.private.referrers = True

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.COPIED
    assert await scene.copied(signature.manifest.digest) is not None
    assert await scene.copied(note.manifest.digest) is None


@pytest.mark.parametrize("api", [False, True], ids=["source-tag", "source-api"])
@pytest.mark.parametrize("listing", [False, True], ids=["target-tag", "target-api"])
async def test_J1_referrers_and_signature_tags_are_copied(scene: Scene, api: bool, listing: bool) -> None:  # noqa: FBT001 - parameters of pytest
    scene.source.referrers, scene.private.referrers = api, listing
    referrer, signature = await sign(scene, at_fallback_tag=not api)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.COPIED
    assert copied.digest == SUBJECT
    assert signature.manifest == await scene.copied(f"{TAG}.sig")
    assert referrer.manifest == await scene.copied(referrer.manifest.digest)
    listed = await scene.copied(TAG)
    assert (listed is None) == listing
    if listed is not None:
        entry = json.loads(listed.content)["manifests"][0]
        assert entry == {
            **referrer.manifest.descriptor,
            "artifactType": COSIGN,
            "annotations": {"name": "referrer"},
        }


async def test_a_signature_that_is_lost_at_its_source_does_not_keep_a_copy_from_being_mended(
    scene: Scene,
) -> None:
    scene.source.referrers = scene.private.referrers = True
    referrer, _ = await sign(scene, at_fallback_tag=False)
    await scene.copy()
    scene.private.store.repository(GUID).blobs.discard(SAMPLE.layers[0].digest)
    scene.source.fail("GET", referrer.layers[0].digest, Refuse(404), times=None)
    resolved = ResolvedImage(scene.image, SUBJECT, SUBJECT)

    copied = await scene.engine(limits=WITH_REFERRERS).copy(
        resolved, scene.target, None, state=TargetState.DAMAGED
    )

    assert copied.signatures is Signatures.SKIPPED
    assert SAMPLE.layers[0].digest in scene.private.store.repository(GUID).blobs


async def test_J1_an_image_without_signatures_says_so(scene: Scene) -> None:
    await scene.push(SAMPLE)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.NONE
    assert SAMPLE.manifest == await scene.copied()


INDEX = images.index([("linux/amd64", SAMPLE), ("linux/arm64", images.image([images.layer(7)]))])
INDEX_TAG = INDEX.index.digest.replace(":", "-")


async def sign_index(scene: Scene, way: str) -> None:
    """Put the index into the source, and something that refers to it."""
    await scene.push(INDEX)
    if way in {"sig", "att", "sbom"}:
        await scene.push(images.image([images.layer(5, "sig")]), f"{INDEX_TAG}.{way}")
        return
    plain = artifact("of the index")
    content = json.loads(plain.manifest.content) | {"subject": INDEX.index.descriptor}
    manifest = images.Blob(images.OCI_MANIFEST, json.dumps(content).encode())
    referrer = images.Image(manifest, plain.config, plain.layers)
    await scene.push(referrer, manifest.digest)
    scene.source.referrers = way == "api"
    if way == "list":
        await scene.push(images.MultiImage(fallback(referrer), ()), INDEX_TAG)


@pytest.mark.parametrize("way", ["api", "list", "sig", "att", "sbom"])
async def test_signatures_of_the_index_are_reported_where_one_platform_is_copied(
    scene: Scene, way: str
) -> None:
    """Most signers sign the index; a copy of one of its manifests has no place for them."""
    await sign_index(scene, way)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.OF_INDEX
    assert copied.digest == SUBJECT
    assert list(scene.private.store.repository(GUID).tags) == ["latest"]


@pytest.mark.parametrize("way", ["api", "list", "sig"])
async def test_signatures_of_the_index_are_copied_with_the_whole_index(scene: Scene, way: str) -> None:
    await sign_index(scene, way)

    copied = await scene.copy(scene.engine(platform=None, limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.COPIED
    assert (await scene.copied(f"{INDEX_TAG}.sig") is not None) == (way == "sig")


async def test_signatures_of_the_manifest_are_copied_whether_its_index_has_some_or_not(scene: Scene) -> None:
    await sign_index(scene, "sig")
    await scene.push(images.image([images.layer(6, "sig")]), f"{TAG}.sig")

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.COPIED
    assert await scene.copied(f"{TAG}.sig") is not None
    assert scene.source.count("HEAD", INDEX_TAG) == 0


async def test_an_index_without_signatures_has_none(scene: Scene) -> None:
    await scene.push(INDEX)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.NONE


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_whether_an_index_is_signed_may_be_unknown(scene: Scene, status: int) -> None:
    await sign_index(scene, "sig")
    for method in ("GET", "HEAD"):
        scene.source.fail(method, INDEX_TAG, Refuse(status), times=None)

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.UNKNOWN
    assert SAMPLE.manifest == await scene.copied()


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_J2_the_fallback_tag_is_read_whatever_its_types_say(scene: Scene, status: int) -> None:
    referrer, _ = await sign(scene, at_fallback_tag=True, kind="application/wrong")
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
    scene.source.fail("GET", "/referrers/", Refuse(status, body), times=None)

    await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert referrer.manifest == await scene.copied(referrer.manifest.digest)


async def test_J4_a_second_copy_changes_no_list(scene: Scene) -> None:
    await sign(scene, at_fallback_tag=True)
    await scene.copy(scene.engine(limits=WITH_REFERRERS))
    before = await scene.copied(TAG)
    scene.private.forget_requests()

    copied = await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert copied.signatures is Signatures.COPIED
    assert before == await scene.copied(TAG)
    assert scene.private.count("PUT") == 0


def repository_of(scene: Scene) -> Repository:
    engine = scene.engine()
    return engine._registries.repository(
        parse_image_reference(f"{scene.private.address}/{GUID}"), None, Cancellation()
    )


def put(scene: Scene, *artifacts: images.Image) -> list[Document]:
    documents = []
    for each in artifacts:
        for blob in each.blobs:
            scene.private.store.add_blob(GUID, blob.content)
        stored = StoredManifest(each.manifest.media_type, each.manifest.content)
        scene.private.store.add_manifest(GUID, each.manifest.digest, stored)
        documents.append(parse_document(each.manifest.content, images.OCI_MANIFEST, "sample"))
    return documents


def listed(scene: Scene) -> set[str]:
    found = scene.private.store.find_manifest(GUID, TAG)
    assert found is not None
    return {entry["digest"] for entry in json.loads(found[1].content)["manifests"]}


async def test_J5_a_list_that_others_overwrite_is_written_again(scene: Scene) -> None:
    ours, theirs = artifact("ours"), artifact("theirs")
    documents = put(scene, ours, theirs)

    def overwrite() -> None:
        other = fallback(theirs)
        scene.private.store.add_manifest(GUID, TAG, StoredManifest(other.media_type, other.content))

    scene.private.fail("GET", TAG, Meanwhile(overwrite), after=1)  # between our writing and our reading back

    await asyncio.to_thread(add_referrers, repository_of(scene), SUBJECT, documents[:1])

    assert listed(scene) == {ours.manifest.digest, theirs.manifest.digest}


async def test_J5_a_list_that_is_overwritten_for_ever_is_given_up(scene: Scene) -> None:
    ours, theirs = artifact("ours"), artifact("theirs")
    documents = put(scene, ours, theirs)

    def overwrite() -> None:
        other = fallback(theirs)
        scene.private.store.add_manifest(GUID, TAG, StoredManifest(other.media_type, other.content))

    scene.private.fail("GET", TAG, Meanwhile(overwrite), times=None)

    with pytest.raises(Unavailable, match="others keep overwriting it"):
        await asyncio.to_thread(add_referrers, repository_of(scene), SUBJECT, documents[:1])


async def test_J5_copies_at_the_same_time_lose_no_signature(scene: Scene) -> None:
    await scene.push(SAMPLE)
    referrers = [artifact(str(n)) for n in range(4)]
    for each in referrers:
        await scene.push(each, each.manifest.digest)
    engines = []
    for count in range(1, 5):  # each copy sees one more
        await scene.push(images.MultiImage(fallback(*referrers[:count]), ()), TAG)
        engine = scene.engine(limits=WITH_REFERRERS)
        engines.append((engine, await engine.resolve(scene.image, None)))

    await asyncio.gather(*(engine.copy(resolved, scene.target, None) for engine, resolved in engines))

    assert listed(scene) == {each.manifest.digest for each in referrers}


async def test_a_paged_list_is_read_to_its_end(scene: Scene) -> None:
    scene.private.referrers = True
    put(scene, artifact("one"))
    link = f'</v2/{GUID}/referrers/{SUBJECT}?page=2>; rel="next"'
    scene.private.fail("GET", "/referrers/", WithHeaders({"Link": link}))

    found = await asyncio.to_thread(list_referrers, repository_of(scene), SUBJECT)

    assert len(found) == 1
    assert scene.private.count("GET", "page=2") == 1


@pytest.mark.parametrize("link", ['<?page={n}>; rel="next"', '<http://127.0.0.9/x>; rel="next"'])
async def test_a_list_without_end_or_on_another_host_is_refused(scene: Scene, link: str) -> None:
    scene.private.referrers = True
    for n in range(50):
        header = {"Link": link.format(n=n)}
        scene.private.fail("GET", "/referrers/", WithHeaders(header))

    with pytest.raises(Invalid):
        await asyncio.to_thread(list_referrers, repository_of(scene), SUBJECT)

    assert scene.private.count("GET", "/referrers/") <= 20


async def test_what_is_no_list_of_referrers_leaves_it_to_the_tag(scene: Scene) -> None:
    scene.private.referrers = True
    scene.private.fail("GET", "/referrers/", WithHeaders({"Content-Type": "text/html"}))

    assert await asyncio.to_thread(list_referrers, repository_of(scene), SUBJECT) == ()


async def test_a_signature_that_lies_is_not_copied_and_neither_is_the_image(scene: Scene) -> None:
    _, signature = await sign(scene, at_fallback_tag=False)
    scene.source.fail("GET", signature.layers[0].digest, OtherBytes(b"wrong"), times=None)

    with pytest.raises(Invalid, match="digest-mismatch"):
        await scene.copy(scene.engine(limits=WITH_REFERRERS))

    assert await scene.copied() is None


async def test_more_than_a_hundred_referrers_are_refused(scene: Scene) -> None:
    await scene.push(SAMPLE)
    one = artifact("one")
    entries = [{**one.manifest.descriptor, "digest": f"sha256:{n:064}"} for n in range(101)]
    document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": entries}
    many = StoredManifest(images.OCI_INDEX, json.dumps(document).encode())
    scene.source.store.add_manifest("team/app", TAG, many)

    with pytest.raises(Invalid, match="101 referrers are more than 100"):
        await scene.copy(scene.engine(limits=WITH_REFERRERS))


async def test_referrers_may_be_no_larger_in_all_than_an_image(scene: Scene) -> None:
    """Each one alone is small enough."""
    scene.source.referrers = True
    small = images.image([images.layer(10)])
    await scene.push(small)
    for n in range(3):
        plain = images.image([images.layer(10_000, n)])
        content = json.loads(plain.manifest.content) | {"subject": small.manifest.descriptor}
        manifest = images.Blob(images.OCI_MANIFEST, json.dumps(content).encode())
        await scene.push(images.Image(manifest, plain.config, plain.layers), manifest.digest)

    with pytest.raises(Invalid, match="larger than an image may be"):
        await scene.copy(scene.engine(limits=replace(WITH_REFERRERS, max_image_bytes=25_000)))


def test_the_fallback_tag_is_cut_as_the_specification_says() -> None:
    assert fallback_tag(SUBJECT) == TAG
    assert fallback_tag(parse_digest(f"sha512:{'a' * 128}")) == f"sha512-{'a' * 64}"
