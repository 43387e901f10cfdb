"""What any registry must do for us: the simulator always, the real CNCF distribution where it is installed."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.registry.http.settings import RegistrySettings
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import Descriptor, Document, Index, Manifest, digest_of, parse_document
from controller.registry.oci.referrers import add_referrers, list_referrers
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import BlobsMissing
from controller.registry.registries import Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, Invalid, NotFound
from reconcile.lrps import Credentials, Secret
from reconcile.references import Digest, parse_digest, parse_image_reference
from tests.contracts.distribution import ALICE, TlsFiles, run_distribution
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority
from tests.simulators.registry import BasicLogin, TokenLogin

SAMPLE = images.image([images.layer(200_000, 1), images.layer(0), images.layer(200_000, 1)])
DOCKER_SAMPLE = images.image([images.layer(1000, 2)], docker=True)
LOGIN = Credentials(ALICE.username, Secret(ALICE.password))
UNKNOWN = parse_digest(f"sha256:{'0' * 64}")


class Scene:
    """One registry and a client of it."""

    def __init__(self, address: str, settings: RegistrySettings) -> None:
        self._client = Registries({address: settings})
        self._address = address

    def repository(self, name: str = "team/app", credentials: Credentials | None = None) -> Repository:
        image = parse_image_reference(f"{self._address}/{name}")
        return self._client.repository(image, credentials, Cancellation())

    def close(self) -> None:
        self._client.close()


@contextmanager
def scene_of(address: str, settings: RegistrySettings) -> Iterator[Scene]:
    scene = Scene(address, settings)
    try:
        yield scene
    finally:
        scene.close()


def descriptor_of(blob: images.Blob) -> Descriptor:
    return Descriptor(blob.media_type, parse_digest(blob.digest), len(blob.content))


def document_of(blob: images.Blob) -> Document:
    return parse_document(blob.content, blob.media_type, "sample")


def upload(repository: Repository, blob: images.Blob) -> Digest:
    descriptor = descriptor_of(blob)
    pieces = [memoryview(blob.content)] if blob.content else []
    repository.uploads.upload(repository.uploads.start(descriptor.digest), descriptor, pieces)
    return descriptor.digest


def upload_image(repository: Repository, sample: images.Image) -> None:
    for blob in sample.blobs:
        upload(repository, blob)


def download(repository: Repository, blob: Descriptor) -> bytes:
    with read_blob(repository, blob, memoryview(bytearray(65536))) as reader:
        return b"".join(bytes(piece) for piece in reader.pieces())


class RegistryContract:
    """What any registry must do for us. Subclasses provide the `scene` fixture."""

    @pytest.mark.parametrize("sample", [SAMPLE, DOCKER_SAMPLE], ids=["oci", "docker"])
    def test_an_image_comes_back_as_it_was_pushed(self, scene: Scene, sample: images.Image) -> None:
        repository = scene.repository()
        upload_image(repository, sample)
        document = document_of(sample.manifest)
        repository.push_manifest(document, "1")

        for tag_or_digest in ("1", sample.manifest.digest):
            head = repository.head_manifest(tag_or_digest)
            assert sample.manifest.digest == str(head.digest)
            assert sample.manifest.media_type == head.media_type
            assert document == repository.fetch_manifest(tag_or_digest)
        for blob in sample.blobs:
            assert blob.content == download(repository, descriptor_of(blob))

    def test_an_index_needs_its_children_and_comes_back_as_it_was_pushed(self, scene: Scene) -> None:
        child = images.image([images.layer(10, 3)])
        sample = images.index([("linux/amd64", child)])
        repository = scene.repository("team/index")
        index = document_of(sample.index)
        upload_image(repository, child)

        with pytest.raises(BlobsMissing):
            repository.push_manifest(index, "1")
        repository.push_manifest(document_of(child.manifest), child.manifest.digest)
        repository.push_manifest(index, "1")

        assert isinstance(repository.fetch_manifest("1"), Index)
        assert index == repository.fetch_manifest("1")

    def test_a_tag_moves(self, scene: Scene) -> None:
        repository = scene.repository("team/moves")
        for sample in (SAMPLE, DOCKER_SAMPLE):
            upload_image(repository, sample)
            repository.push_manifest(document_of(sample.manifest), "latest")

        assert DOCKER_SAMPLE.manifest.digest == str(repository.head_manifest("latest").digest)
        assert SAMPLE.manifest.content == repository.fetch_manifest(SAMPLE.manifest.digest).raw

    def test_a_manifest_is_refused_with_the_names_of_missing_blobs(self, scene: Scene) -> None:
        document = document_of(SAMPLE.manifest)
        assert isinstance(document, Manifest)

        with pytest.raises(BlobsMissing) as refused:
            scene.repository("team/empty").push_manifest(document, "1")

        assert {blob.digest for blob in document.blobs()} == refused.value.digests

    @pytest.mark.parametrize("tag_or_digest", ["nope", str(UNKNOWN)])
    def test_an_unknown_manifest_is_not_found(self, scene: Scene, tag_or_digest: str) -> None:
        with pytest.raises(NotFound):
            scene.repository().head_manifest(tag_or_digest)
        with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
            scene.repository().fetch_manifest(tag_or_digest)

    def test_a_blob_is_there_in_its_repository_alone(self, scene: Scene) -> None:
        digest = upload(scene.repository("team/one"), SAMPLE.layers[0])

        head = scene.repository("team/one").find_blob(digest)

        assert head is not None
        assert head.size == 200_000
        assert scene.repository("team/two").find_blob(digest) is None
        with pytest.raises(NotFound):
            download(scene.repository("team/two"), descriptor_of(SAMPLE.layers[0]))

    def test_a_blob_is_read_from_an_offset(self, scene: Scene) -> None:
        repository = scene.repository("team/ranges")
        upload(repository, SAMPLE.layers[0])

        with repository.open_blob(descriptor_of(SAMPLE.layers[0]), 150_000) as answer:
            assert SAMPLE.layers[0].content[150_000:] == answer.read(100_000)

    def test_a_blob_is_mounted_from_where_it_is(self, scene: Scene) -> None:
        digest = upload(scene.repository("team/from"), SAMPLE.layers[0])

        assert scene.repository("team/into").uploads.mount(digest, "team/from") is None
        assert scene.repository("team/into").find_blob(digest) is not None

    def test_a_mount_that_fails_is_an_upload_begun(self, scene: Scene) -> None:
        repository, blob = scene.repository("team/late"), SAMPLE.layers[0]
        descriptor = descriptor_of(blob)

        session = repository.uploads.mount(descriptor.digest, "team/nobody")

        assert session is not None
        repository.uploads.upload(session, descriptor, [memoryview(blob.content)])
        assert repository.find_blob(descriptor.digest) is not None

    def test_wrong_bytes_are_refused(self, scene: Scene) -> None:
        repository, descriptor = scene.repository("team/wrong"), descriptor_of(SAMPLE.layers[0])

        with pytest.raises(Invalid, match="DIGEST_INVALID"):
            repository.uploads.upload(
                repository.uploads.start(descriptor.digest), descriptor, [memoryview(bytes(200_000))]
            )

        assert repository.find_blob(descriptor.digest) is None

    def test_an_upload_that_is_broken_off_leaves_nothing(self, scene: Scene) -> None:
        repository, descriptor = scene.repository("team/broken"), descriptor_of(SAMPLE.layers[0])

        def pieces() -> Iterator[memoryview]:
            yield memoryview(SAMPLE.layers[0].content)[:100_000]
            raise Invalid("registry", "digest-mismatch", "the source lies")

        with pytest.raises(Invalid, match="the source lies"):
            repository.uploads.upload(repository.uploads.start(descriptor.digest), descriptor, pieces())

        assert repository.find_blob(descriptor.digest) is None
        upload(repository, SAMPLE.layers[0])

    def test_what_is_there_may_be_uploaded_again(self, scene: Scene) -> None:
        repository = scene.repository("team/twice")

        assert upload(repository, SAMPLE.layers[0]) == upload(repository, SAMPLE.layers[0])

    def test_a_blob_is_stored_under_its_sha512_digest(self, scene: Scene) -> None:
        repository, content = scene.repository("team/sha512"), SAMPLE.layers[0].content
        blob = Descriptor(images.OCI_LAYER, digest_of(content, "sha512"), len(content))

        repository.uploads.upload(repository.uploads.start(blob.digest), blob, [memoryview(content)])

        assert content == download(repository, blob)

    def test_an_upload_that_was_begun_holds_nothing(self, scene: Scene) -> None:
        """Its range is "0-0", as if it held one byte."""
        repository = scene.repository("team/begun")

        assert repository.uploads.find(repository.uploads.start(UNKNOWN)) is None

    def test_an_upload_that_broke_is_lost(self, scene: Scene) -> None:
        repository, descriptor = scene.repository("team/lost"), descriptor_of(SAMPLE.layers[0])
        session = repository.uploads.start(descriptor.digest)

        def pieces() -> Iterator[memoryview]:
            yield memoryview(SAMPLE.layers[0].content)[:100_000]
            raise Invalid("registry", "digest-mismatch", "the source lies")

        with pytest.raises(Invalid, match="the source lies"):
            repository.uploads.upload(session, descriptor, pieces())

        assert repository.uploads.find(session) is None

    def test_an_upload_that_was_begun_is_cancelled(self, scene: Scene) -> None:
        repository = scene.repository("team/cancelled")
        session = repository.uploads.start(UNKNOWN)

        assert repository.uploads.cancel(session) is True
        assert repository.uploads.cancel(session) is False

    def test_a_blob_is_uploaded_in_parts(self, scene: Scene) -> None:
        repository, blob = scene.repository("team/parts"), SAMPLE.layers[0]
        descriptor, content = descriptor_of(blob), memoryview(blob.content)
        session = repository.uploads.start(descriptor.digest)

        session = repository.uploads.append(
            session, descriptor, [content[:150_000]], offset=0, length=150_000
        )
        repository.uploads.upload(session, descriptor, [content[150_000:]], offset=150_000)

        assert download(repository, descriptor) == blob.content

    def test_an_upload_whose_parts_arrived_is_cancelled_also_when_the_next_part_never_comes(
        self, scene: Scene
    ) -> None:
        repository, blob = scene.repository("team/cancelled-parts"), SAMPLE.layers[0]
        descriptor, content = descriptor_of(blob), memoryview(blob.content)

        def nothing() -> Iterator[memoryview]:
            if content:
                raise Invalid("registry", "digest-mismatch", "the source lies")
            yield content

        session = repository.uploads.start(descriptor.digest)
        session = repository.uploads.append(
            session, descriptor, [content[:150_000]], offset=0, length=150_000
        )
        with pytest.raises(Invalid, match="the source lies"):
            repository.uploads.upload(session, descriptor, nothing(), offset=150_000)

        assert repository.uploads.cancel(session) is True

    def test_a_foreign_layer_is_refused_with_its_name(self, scene: Scene) -> None:
        repository = scene.repository("team/foreign")
        upload_image(repository, SAMPLE)
        document = json.loads(SAMPLE.manifest.content)
        document["layers"][0]["urls"] = ["https://storage.example/base"]
        manifest = images.Blob(images.OCI_MANIFEST, json.dumps(document).encode())

        with pytest.raises(BlobsMissing) as refused:
            repository.push_manifest(document_of(manifest), "1")

        assert parse_digest(SAMPLE.layers[0].digest) in refused.value.digests

    def test_what_refers_to_a_manifest_is_listed_under_a_tag(self, scene: Scene) -> None:
        repository = scene.repository("team/signed")
        upload_image(repository, SAMPLE)
        document = json.loads(SAMPLE.manifest.content) | {"subject": DOCKER_SAMPLE.manifest.descriptor}
        proof = document_of(images.Blob(images.OCI_MANIFEST, json.dumps(document).encode()))
        subject = parse_digest(DOCKER_SAMPLE.manifest.digest)

        assert list_referrers(repository, subject) == ()
        assert not repository.push_manifest(proof, str(proof.digest))
        add_referrers(repository, subject, [proof])

        assert [proof.digest] == [entry.digest for entry in list_referrers(repository, subject)]

    def test_a_deleted_manifest_is_gone_with_every_tag_of_it(self, scene: Scene) -> None:
        repository, digest = scene.repository("team/deleted"), parse_digest(SAMPLE.manifest.digest)
        for sample, tags in ((SAMPLE, ("1", "latest")), (DOCKER_SAMPLE, ("2",))):
            upload_image(repository, sample)
            for tag in tags:
                repository.push_manifest(document_of(sample.manifest), tag)

        repository.delete_manifest(digest)

        for tag_or_digest in ("1", "latest", str(digest)):
            with pytest.raises(NotFound):
                repository.fetch_manifest(tag_or_digest)
        assert DOCKER_SAMPLE.manifest.content == repository.fetch_manifest("2").raw
        assert repository.find_blob(parse_digest(SAMPLE.layers[0].digest)) is not None
        with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
            repository.delete_manifest(digest)

    def test_an_image_is_pushed_again_after_its_deletion(self, scene: Scene) -> None:
        repository, document = scene.repository("team/again"), document_of(SAMPLE.manifest)
        upload_image(repository, SAMPLE)
        repository.push_manifest(document, "1")
        repository.delete_manifest(document.digest)

        repository.push_manifest(document, "1")

        assert document == repository.fetch_manifest("1")


class NoDeletionContract:
    """What a registry answers that deletes nothing. Subclasses provide the `scene` fixture."""

    def test_it_says_so_and_keeps_what_it_has(self, scene: Scene) -> None:
        repository, document = scene.repository(), document_of(SAMPLE.manifest)
        upload_image(repository, SAMPLE)
        repository.push_manifest(document, "1")

        for digest in (document.digest, UNKNOWN):
            with pytest.raises(Invalid) as refused:
                repository.delete_manifest(digest)
            assert refused.value.code == "UNSUPPORTED"

        assert document == repository.fetch_manifest("1")


class LoginContract(RegistryContract):
    """What a registry with a login must do beside that; subclasses log in as `LOGIN`."""

    def test_wrong_credentials_are_denied(self, scene: Scene) -> None:
        wrong = Credentials(ALICE.username, Secret("marker-password"))

        with pytest.raises(Denied) as denied:
            scene.repository(credentials=wrong).head_manifest("1")

        assert "marker-password" not in str(denied.value)


class TestSimulator(RegistryContract):
    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True)
        with registries.serve() as registry, scene_of(registry.address, settings) as scene:
            yield scene


class TestSimulatorWithoutDeletion(NoDeletionContract):
    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True)
        with registries.serve() as registry, scene_of(registry.address, settings) as scene:
            registry.deletes = False
            yield scene


class TestSimulatorWithBasic(LoginContract):
    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True, credentials=LOGIN)
        with registries.serve() as registry, scene_of(registry.address, settings) as scene:
            registry.login = BasicLogin({ALICE.username: ALICE.password})
            yield scene


class TestSimulatorWithTokens(LoginContract):
    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True, credentials=LOGIN)
        with registries.serve() as registry, scene_of(registry.address, settings) as scene:
            registry.login = TokenLogin({ALICE.username: ALICE.password})
            yield scene


class TestDistribution(RegistryContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True)
        with run_distribution(tmp_path) as registry, scene_of(registry.address, settings) as scene:
            yield scene


class TestDistributionWithoutDeletion(NoDeletionContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True)
        with (
            run_distribution(tmp_path, deletes=False) as registry,
            scene_of(registry.address, settings) as scene,
        ):
            yield scene


class TestDistributionWithRelativeLocations(RegistryContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True)
        with (
            run_distribution(tmp_path, relative_locations=True) as registry,
            scene_of(registry.address, settings) as scene,
        ):
            yield scene


class TestDistributionWithLogin(LoginContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        settings = RegistrySettings(plain_http=True, any_address=True, credentials=LOGIN)
        with (
            run_distribution(tmp_path, login=ALICE) as registry,
            scene_of(registry.address, settings) as scene,
        ):
            yield scene


class TestDistributionWithTls(LoginContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        authority = Authority(tmp_path / "certificates")
        pair = authority.server("127.0.0.1")
        tls = TlsFiles(pair.certificate, pair.key)
        settings = RegistrySettings(ca_file=authority.certificate, any_address=True, credentials=LOGIN)
        with (
            run_distribution(tmp_path, login=ALICE, tls=tls) as registry,
            scene_of(registry.address, settings) as scene,
        ):
            yield scene


class TestSimulatorWithTls(RegistryContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        authority = Authority(tmp_path)
        pair = authority.server("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        settings = RegistrySettings(ca_file=authority.certificate, any_address=True)
        with registries.serve(tls=context) as registry, scene_of(registry.address, settings) as scene:
            yield scene
