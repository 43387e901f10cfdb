"""Jobs over a real store, a real engine and simulated registries, of which one is a tenant's who wants too much.

Alice's image lies in her registry. Mallory runs a registry, and knows the digests of all that Alice has.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

import httpx
import pytest

from controller.engines.copy_limits import CopyLimits
from controller.engines.registry_copy import RegistryCopy
from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.registries import Registries
from controller.store.opening import Store
from reconcile.lrps import AppGuid, Credentials, Secret
from reconcile.reasons import Reason
from reconcile.records import CacheJob, CacheRequest, JobState
from reconcile.references import CacheRepositories, parse_digest, parse_image_reference
from tests.controller.cacher.bench import Bench, open_bench
from tests.controller.cacher.bench import Registries as NoRegistries
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.images import Blob, Image
from tests.simulators.registry import Cut, Meanwhile, RegistrySimulator, Stall, WithHeaders
from tests.simulators.registry.store import StoredManifest

SECRET = images.image([images.layer(90_000, "secret"), images.layer(20_000, "base")])
OTHER = images.image([images.layer(50_000, "other")])
ALICE = Credentials("alice", Secret("marker-password"))
REPOSITORY = "team/app"


@dataclass
class Parties:
    """The registries, and an engine between them."""

    alice: RegistrySimulator
    mallory: RegistrySimulator
    private: RegistrySimulator
    engine: RegistryCopy

    @property
    def cache(self) -> CacheRepositories:
        return CacheRepositories(self.private.address)


@pytest.fixture
def simulators(servers: None) -> Iterator[tuple[RegistrySimulator, RegistrySimulator, RegistrySimulator]]:
    with registries.serve() as alice, registries.serve() as mallory, registries.serve() as private:
        yield alice, mallory, private


@pytest.fixture
async def parties(
    simulators: tuple[RegistrySimulator, RegistrySimulator, RegistrySimulator], store: Store
) -> AsyncIterator[Parties]:
    alice, mallory, private = simulators
    plain = RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),))
    client = Registries(
        {
            alice.address: plain,
            mallory.address: plain,
            private.address: replace(plain, any_address=True),
        },
        retries=Retries(attempts=2, first_wait=0.0, longest_wait=0.0, login_wait=0.0),
    )
    engine = RegistryCopy(
        client,
        CacheRepositories(private.address),
        store.records,
        limits=CopyLimits(buffer=65536, copy_referrers=True),
    )
    yield Parties(alice, mallory, private, engine)
    await engine.close()


@pytest.fixture
async def bench(parties: Parties, store: Store) -> AsyncIterator[Bench]:
    await store.records.use_registry(parties.private.address)
    store.content_proofs.use_platforms("linux/amd64")
    async with open_bench(store, NoRegistries(), cache=parties.cache, engine=parties.engine) as opened:
        yield opened


async def push(registry: RegistrySimulator, sample: Image, repository: str = REPOSITORY) -> None:
    def work() -> None:
        with httpx.Client(base_url=registry.url) as client:
            images.push_image(client, repository, "1", sample)

    await asyncio.to_thread(work)
    registry.forget_requests()


def claim(registry: RegistrySimulator, manifest: Blob, repository: str = REPOSITORY) -> None:
    """Let a registry serve a manifest without what it lists."""
    stored = StoredManifest(manifest.media_type, manifest.content)
    registry.store.add_manifest(repository, "1", stored)


async def staged(
    bench: Bench,
    registry: RegistrySimulator,
    repository: str = REPOSITORY,
    *,
    login: Credentials | None = None,
    reference: str = ":1",
) -> CacheJob:
    """Stage an app of its own, and wait until its job has ended or waits to be repeated."""
    staging = str(uuid.uuid4())
    request = CacheRequest(
        AppGuid(f"app-{staging}"),
        parse_image_reference(f"{registry.address}/{repository}{reference}").canonical(),
        f"task:{staging}",
        1,
        Reason.STAGING_TASK,
        credentials=login,
    )
    job = await bench.cacher.request(request)
    async with asyncio.timeout(60.0):
        while True:
            found = await bench.store.records.find_job(job.job_id)
            assert found is not None
            if not found.is_open or found.not_before is not None:
                return found
            await asyncio.sleep(0.01)


async def test_a_registry_that_names_anothers_digest_and_serves_nothing_gets_nothing(
    bench: Bench, parties: Parties
) -> None:
    await push(parties.alice, SECRET)
    await push(parties.mallory, OTHER)
    await staged(bench, parties.alice, login=ALICE)
    digest = SECRET.manifest.digest
    parties.mallory.fail("HEAD", "/manifests/", WithHeaders({"Docker-Content-Digest": digest}), times=None)

    job = await staged(bench, parties.mallory)

    assert (job.state, job.cache_guid) == (JobState.FAILED, None)


async def test_a_registry_that_serves_anothers_manifest_without_its_blobs_gets_nothing(
    bench: Bench, parties: Parties
) -> None:
    await push(parties.alice, SECRET)
    claim(parties.mallory, SECRET.manifest)
    await staged(bench, parties.alice, login=ALICE)

    for _ in range(2):
        job = await staged(bench, parties.mallory)
        assert (job.state, job.cache_guid) == (JobState.FAILED, None)


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_one_blob_that_is_not_served_is_one_too_many(
    bench: Bench, parties: Parties, missing: int
) -> None:
    await push(parties.alice, SECRET)
    claim(parties.mallory, SECRET.manifest)
    for number, blob in enumerate(SECRET.blobs):
        if number != missing:
            parties.mallory.store.add_blob(REPOSITORY, blob.content)
    await staged(bench, parties.alice)

    assert (await staged(bench, parties.mallory)).state is JobState.FAILED


async def test_whoever_has_the_same_content_shares_the_copy_and_nothing_is_stored_twice(
    bench: Bench, parties: Parties
) -> None:
    await push(parties.alice, SECRET)
    await push(parties.mallory, SECRET)
    first = await staged(bench, parties.alice, login=ALICE)
    parties.private.forget_requests()

    second = await staged(bench, parties.mallory)

    assert (second.state, second.cache_guid) == (JobState.CACHED, first.cache_guid)
    assert parties.mallory.count("GET", "/blobs/") == len(SECRET.blobs)
    assert parties.private.count("POST") == parties.private.count("PUT") == 0

    parties.mallory.forget_requests()
    third = await staged(bench, parties.mallory)

    assert third.cache_guid == first.cache_guid
    assert [each.method for each in parties.mallory.requests] == ["HEAD"]


async def test_an_image_that_lists_anothers_layer_is_not_given_it(bench: Bench, parties: Parties) -> None:
    await push(parties.alice, SECRET)
    await staged(bench, parties.alice, login=ALICE)
    stolen = images.image([SECRET.layers[0], images.layer(30_000, "own")])
    claim(parties.mallory, stolen.manifest)
    for blob in stolen.blobs:
        if blob.digest != SECRET.layers[0].digest:
            parties.mallory.store.add_blob(REPOSITORY, blob.content)
    parties.private.forget_requests()

    job = await staged(bench, parties.mallory)

    assert job.state is JobState.FAILED
    assert parties.private.count("POST", "mount=") == 0
    assert parties.mallory.count("GET", SECRET.layers[0].digest) > 0


async def test_a_layer_of_another_registry_is_read_and_sent_again(bench: Bench, parties: Parties) -> None:
    await push(parties.alice, SECRET)
    await staged(bench, parties.alice)
    same_base = images.image([SECRET.layers[1], images.layer(30_000, "own")])
    await push(parties.mallory, same_base)
    parties.private.forget_requests()

    job = await staged(bench, parties.mallory)

    assert job.state is JobState.CACHED
    assert parties.mallory.count("GET", SECRET.layers[1].digest) == 1
    assert parties.private.count("POST", "mount=") == 0


@pytest.mark.parametrize("holds_it", [True, False])
async def test_within_a_registry_another_login_is_asked_for_a_private_layer_alone(
    bench: Bench,
    parties: Parties,
    holds_it: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    await push(parties.alice, SECRET)
    await staged(bench, parties.alice, login=ALICE)
    using = images.image([SECRET.layers[0], images.layer(30_000, "own")])
    claim(parties.alice, using.manifest, "bob/app")
    for blob in using.blobs:
        if holds_it or blob.digest != SECRET.layers[0].digest:
            parties.alice.store.add_blob("bob/app", blob.content)
    parties.alice.forget_requests()

    job = await staged(bench, parties.alice, "bob/app", login=Credentials("bob", Secret("other")))

    assert job.state is (JobState.CACHED if holds_it else JobState.FAILED)
    assert parties.alice.count("HEAD", f"bob/app/blobs/{SECRET.layers[0].digest}") >= 1
    assert parties.private.count("POST", "mount=") == (1 if holds_it else 0)


async def test_a_public_layer_of_the_same_registry_is_mounted_without_a_question(
    bench: Bench, parties: Parties
) -> None:
    await push(parties.alice, SECRET)
    await staged(bench, parties.alice)
    using = images.image([*SECRET.layers, images.layer(30_000, "own")])
    await push(parties.alice, using, "bob/app")

    job = await staged(bench, parties.alice, "bob/app", login=Credentials("bob", Secret("other")))

    assert job.state is JobState.CACHED
    assert parties.private.count("POST", "mount=") == 2
    assert [each.method for each in parties.alice.requests].count("HEAD") == 1 + 3  # three tags of signatures


async def test_what_an_interrupted_copy_left_is_not_given_to_whoever_knows_the_manifest(
    bench: Bench, parties: Parties
) -> None:
    await push(parties.alice, SECRET)
    config = SECRET.config.digest
    parties.alice.fail("GET", f"/blobs/{config}", Cut(1), times=None)
    claim(parties.mallory, SECRET.manifest)
    parties.mallory.store.add_blob(REPOSITORY, SECRET.config.content)

    interrupted = await staged(bench, parties.alice, login=ALICE)
    guid = await bench.store.records.find_guid(parse_digest(SECRET.manifest.digest))
    assert interrupted.state is JobState.QUEUED
    assert guid is not None
    held = parties.private.store.repository(guid).blobs
    assert SECRET.layers[0].digest in held

    for _ in range(3):
        assert (await staged(bench, parties.mallory)).state is JobState.FAILED


async def test_an_upload_that_breaks_is_not_taken_for_done_because_somebody_else_has_sent_the_blob(
    bench: Bench, parties: Parties
) -> None:
    claim(parties.mallory, OTHER.manifest)
    layer = OTHER.layers[0]
    for blob in OTHER.blobs:
        parties.mallory.store.add_blob(REPOSITORY, blob.content)
    await staged(bench, parties.alice, "nothing/there")  # Mallory's is not the first GUID
    await bench.store.records.reserve_guid(parse_digest(OTHER.manifest.digest))
    guid = await bench.store.records.find_guid(parse_digest(OTHER.manifest.digest))
    assert guid is not None
    parties.mallory.fail("GET", f"/blobs/{layer.digest}", Cut(10), times=None)

    def send() -> None:
        parties.private.store.add_blob(guid, layer.content)

    parties.private.fail("POST", "uploads", Meanwhile(send), times=None)

    job = await staged(bench, parties.mallory)

    assert job.state is JobState.QUEUED, "it is tried again, and is not cached"
    assert job.failure_code == "cut"


class TestTransfersOfOthers:
    """A source that stalls is waited for by nobody but those who may use what comes of it."""

    LAYER = SECRET.layers[0]

    async def stalled(
        self, bench: Bench, registry: RegistrySimulator, repository: str = REPOSITORY
    ) -> CacheJob:
        """Begin a copy of an image whose layer stalls."""
        registry.fail("GET", f"{repository}/blobs/{self.LAYER.digest}", Stall(10), times=None)
        image = parse_image_reference(f"{registry.address}/{repository}:1").canonical()
        request = CacheRequest(AppGuid("slow"), image, f"task:{uuid.uuid4()}", 1, Reason.STAGING_TASK)
        job = await bench.cacher.request(request)
        await asyncio.to_thread(registry.wait_for_stall)
        return job

    async def test_a_layer_that_a_tenants_registry_stalls_is_sent_by_another(
        self, bench: Bench, parties: Parties
    ) -> None:
        await push(parties.mallory, SECRET)
        using = images.image([self.LAYER, images.layer(30_000, "own")])
        await push(parties.alice, using)
        slow = await self.stalled(bench, parties.mallory)

        job = await staged(bench, parties.alice)

        assert job.state is JobState.CACHED
        assert await bench.state(slow) is JobState.COPYING


class TestManifestsThatAreReadAgain:
    """Registries count reads of manifests as pulls."""

    @pytest.fixture
    async def multi(self, parties: Parties) -> str:
        sample = images.index([("linux/amd64", SECRET), ("linux/arm64", OTHER)])

        def work() -> None:
            with httpx.Client(base_url=parties.alice.url) as client:
                images.push_index(client, REPOSITORY, "1", sample)

        await asyncio.to_thread(work)
        parties.alice.forget_requests()
        return sample.index.digest

    async def test_a_second_staging_of_the_same_index_reads_no_manifest(
        self, bench: Bench, parties: Parties, multi: str
    ) -> None:
        first = await staged(bench, parties.alice)
        parties.alice.forget_requests()

        second = await staged(bench, parties.alice)

        assert second.cache_guid == first.cache_guid
        assert [(each.method, each.path) for each in parties.alice.requests] == [
            ("HEAD", f"/v2/{REPOSITORY}/manifests/1")
        ]

    @pytest.mark.parametrize("pins", ["index", "image"])
    async def test_what_is_pinned_and_proven_is_asked_for_by_nobody(
        self, bench: Bench, parties: Parties, multi: str, pins: str
    ) -> None:
        digest = multi if pins == "index" else SECRET.manifest.digest
        first = await staged(bench, parties.alice, login=ALICE)
        parties.alice.forget_requests()

        second = await staged(bench, parties.alice, login=ALICE, reference=f"@{digest}")

        assert second.cache_guid == first.cache_guid
        assert parties.alice.requests == []

    @pytest.mark.parametrize(("pins", "asked"), [("index", 2), ("image", 1)])
    async def test_what_is_pinned_and_was_read_with_another_login_costs_a_question(
        self, bench: Bench, parties: Parties, multi: str, pins: str, asked: int
    ) -> None:
        digest = multi if pins == "index" else SECRET.manifest.digest
        first = await staged(bench, parties.alice, login=ALICE)
        parties.alice.forget_requests()
        bob = Credentials("bob", Secret("other"))

        second = await staged(bench, parties.alice, login=bob, reference=f"@{digest}")

        assert second.cache_guid == first.cache_guid
        assert [each.method for each in parties.alice.requests] == ["HEAD"] * asked

        parties.alice.forget_requests()
        await staged(bench, parties.alice, login=bob, reference=f"@{digest}")

        assert parties.alice.requests == []


class TestSignaturesOfSeveralSources:
    """The first source of a copy may be one without its signatures."""

    async def sign(self, registry: RegistrySimulator, name: str) -> Blob:
        signature = images.image([images.layer(100, name)])
        tag = f"{SECRET.manifest.digest.replace(':', '-')}.sig"

        def work() -> None:
            with httpx.Client(base_url=registry.url) as client:
                images.push_image(client, REPOSITORY, tag, signature)

        await asyncio.to_thread(work)
        return signature.manifest

    async def signature_beside(self, bench: Bench, parties: Parties, job: CacheJob) -> Blob | None:
        assert job.cache_guid is not None
        tag, guid = f"{SECRET.manifest.digest.replace(':', '-')}.sig", job.cache_guid

        def work() -> Blob | None:
            with httpx.Client(base_url=parties.private.url) as client:
                return images.pull_manifest(client, guid, tag)

        return await asyncio.to_thread(work)

    async def test_a_later_source_adds_its_own(self, bench: Bench, parties: Parties) -> None:
        await push(parties.mallory, SECRET)
        await push(parties.alice, SECRET)
        signature = await self.sign(parties.alice, "alice")
        first = await staged(bench, parties.mallory)
        assert await self.signature_beside(bench, parties, first) is None

        second = await staged(bench, parties.alice)

        assert second.cache_guid == first.cache_guid
        assert await self.signature_beside(bench, parties, second) == signature
        sources = await bench.store.records.list_sources([parse_digest(SECRET.manifest.digest)])
        assert sources == {
            parse_digest(SECRET.manifest.digest): (
                f"{parties.mallory.address}/{REPOSITORY}",
                f"{parties.alice.address}/{REPOSITORY}",
            )
        }

    async def test_a_later_source_replaces_none(self, bench: Bench, parties: Parties) -> None:
        await push(parties.alice, SECRET)
        signature = await self.sign(parties.alice, "alice")
        await push(parties.mallory, SECRET)
        await self.sign(parties.mallory, "mallory")
        await staged(bench, parties.alice)

        second = await staged(bench, parties.mallory)

        assert second.state is JobState.CACHED
        assert await self.signature_beside(bench, parties, second) == signature

    async def test_a_later_source_adds_referrers_that_the_private_registry_does_not_list(
        self, bench: Bench, parties: Parties
    ) -> None:
        await push(parties.mallory, SECRET)
        await push(parties.alice, SECRET)
        parties.alice.referrers = True
        document = {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": parties.alice.store.add_blob(REPOSITORY, b"{}"),
                "size": 2,
            },
            "layers": [],
            "subject": SECRET.manifest.descriptor,
        }
        referrer = StoredManifest(images.OCI_MANIFEST, json.dumps(document).encode())
        digest = parties.alice.store.add_manifest(REPOSITORY, "sbom", referrer)
        first = await staged(bench, parties.mallory)
        assert first.cache_guid is not None

        await staged(bench, parties.alice)

        held = parties.private.store.find_manifest(first.cache_guid, digest)
        assert held is not None
        assert held[1].content == referrer.content
