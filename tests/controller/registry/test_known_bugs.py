# ruff: noqa: N802 - names carry the numbers of known bugs
"""Bugs that users of other tools have reported, as far as no other test here stands for them."""

import gzip
import json

import pytest

from controller.registry.oci.blobs import BlobReader
from controller.registry.oci.manifests import Index, Manifest, parse_document
from reconcile.errors import Denied, Invalid, Unavailable
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import OpenRepository
from tests.controller.registry.test_registries import BLOB, LAYER, SAMPLE, put, read_all
from tests.simulators import images
from tests.simulators.registry import Cut, NoHeaders, Raw, Refuse, RegistrySimulator, WithHeaders


@pytest.fixture(autouse=True)
def stored(registry: RegistrySimulator) -> None:
    put(registry)


# References


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        pytest.param(
            "registryELB-9.eu-west-1.elb.amazonaws.com:5000/a/b:latest",
            "registryelb-9.eu-west-1.elb.amazonaws.com:5000",
            "a/b",
            id="A2-load-balancer",
        ),
        pytest.param("SomeHostname:8080/wordpress", "somehostname:8080", "wordpress", id="A2-port"),
        pytest.param("opensuse/leap:15.3", "docker.io", "opensuse/leap", id="A5"),
        pytest.param("localhost/testimage:mytag", "localhost", "testimage", id="A6"),
        pytest.param(f"ghcr.io/a/b:master@sha256:{'0' * 64}", "ghcr.io", "a/b", id="A8"),
    ],
)
def test_a_reference_leads_to_its_registry(text: str, domain: str, path: str) -> None:
    image = parse_image_reference(text).canonical()

    assert (domain, path) == (image.domain, image.path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("registry.example.org/foo/screenApp", "screenApp", id="A3"),
        pytest.param("ghcr.io/a/b:2024.42.27+1234a5c05", "2024.42.27+1234a5c05", id="A9"),
    ],
)
def test_a_reference_that_is_refused_shows_why(text: str, shown: str) -> None:
    with pytest.raises(Invalid, match=r"capital|lower|tag") as refused:
        parse_image_reference(text)

    assert shown in str(refused.value)


# Logins


def test_B7_a_refusal_names_what_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    scopes = "repository:team/app:pull repository:new/app:pull,push"
    challenge = f'Bearer realm="{registry.url}/token",service="simulator",scope="{scopes}"'
    registry.fail("POST", "/uploads/", Refuse(401, headers={"WWW-Authenticate": challenge}))
    registry.fail("POST", "/uploads/", Refuse(403, b'{"errors":[{"code":"DENIED","message":"not yours"}]}'))

    with pytest.raises(Denied) as denied:
        open_repository("new/app:1").uploads.start(BLOB.digest)

    assert denied.value.code == "DENIED"
    assert "new/app" in denied.value.detail
    assert "not yours" in denied.value.detail


# Documents


@pytest.mark.parametrize("docker", [False, True], ids=["C7-oci", "C7-docker"])
def test_each_supported_type_is_read(docker: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    sample = images.index([("linux/amd64", images.image([], docker=docker))], docker=docker)
    child = sample.images[0][1].manifest

    assert isinstance(parse_document(child.content, child.media_type, "x"), Manifest)
    assert isinstance(parse_document(sample.index.content, sample.index.media_type, "x"), Index)


@pytest.mark.parametrize("signed", [False, True], ids=["C7-plain", "C8-signed"])
def test_schema_1_is_named_in_its_refusal(signed: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    document: dict[str, object] = {"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}
    if signed:
        document["signatures"] = [{"protected": "x"}]

    for content_type in (
        "",
        f"application/vnd.docker.distribution.manifest.v1+{'prettyjws' if signed else 'json'}",
    ):
        with pytest.raises(Invalid) as refused:
            parse_document(json.dumps(document).encode(), content_type, "x")
        assert refused.value.code == "schema-1"


@pytest.mark.parametrize("allowed", [False, True])
def test_C19_a_server_that_codes_when_allowed_is_never_allowed(
    registry: RegistrySimulator,
    open_repository: OpenRepository,
    allowed: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    read_all(open_repository)
    open_repository().find_blob(BLOB.digest)
    open_repository().fetch_manifest("1")

    assert {each.headers["accept-encoding"] for each in registry.requests} == {"identity"}


def test_P5_a_body_that_is_coded_all_the_same_is_refused_with_the_reason(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    coded = gzip.compress(LAYER.content)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(coded)}\r\n\r\n"
    registry.fail("GET", "/blobs/", Raw(head.encode() + coded))

    with pytest.raises(Invalid, match="content coding 'gzip'"):
        read_all(open_repository)


# Blobs


def test_D12_each_upload_says_how_long_it_is(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    repository = open_repository("new/app:1")
    half = len(LAYER.content) // 2
    pieces = [memoryview(LAYER.content)[:half], memoryview(LAYER.content)[half:]]

    repository.uploads.upload(repository.uploads.start(BLOB.digest), BLOB, pieces)

    writes = [each for each in registry.requests if each.method in {"POST", "PUT"}]
    assert [each.headers["content-length"] for each in writes] == ["0", str(len(LAYER.content))]
    assert not [each for each in writes if "transfer-encoding" in each.headers]


def test_D3_the_newest_location_is_the_one_that_counts(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """Asking for the state of an upload moves it, and the simulator takes the old location no more."""
    registry.resumable = True
    repository = open_repository("new/app:1")
    session = repository.uploads.start(BLOB.digest)
    registry.partial[session.target.partition("?")[0].rpartition("/")[2]] = LAYER.content[:1000]

    status = repository.uploads.find(session)

    assert status is not None
    assert status.offset == 1000
    with pytest.raises(Unavailable, match="BLOB_UPLOAD_UNKNOWN"):
        repository.uploads.upload(session, BLOB, [memoryview(LAYER.content)])
    repository.uploads.upload(status.session, BLOB, [memoryview(LAYER.content)[1000:]], offset=1000)
    assert registry.store.find_blob("new/app", LAYER.digest) == LAYER.content


def test_D18_a_source_is_never_asked_whether_it_has_a_blob(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("HEAD", "/blobs/", Refuse(404), times=None)

    assert read_all(open_repository) == LAYER.content


@pytest.mark.parametrize("length", [False, True])
def test_P4_a_body_that_ends_early_is_noticed(
    registry: RegistrySimulator,
    open_repository: OpenRepository,
    length: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    body = LAYER.content[:400]
    head = (
        b"HTTP/1.0 200 OK\r\n"
        + (f"Content-Length: {len(LAYER.content)}\r\n".encode() if length else b"")
        + b"\r\n"
    )
    registry.fail("GET", "/blobs/", Raw(head + body))
    registry.fail("GET", "/blobs/", Refuse(416), times=None)

    with pytest.raises(Unavailable) as cut:
        read_all(open_repository)

    assert cut.value.code == "cut"


def test_a_range_that_is_ignored_costs_the_whole_blob_once(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    whole = f"HTTP/1.1 200 OK\r\nContent-Length: {len(LAYER.content)}\r\n\r\n".encode() + LAYER.content
    registry.fail("GET", "/blobs/", Cut(after=100_000))
    registry.fail("GET", "/blobs/", Raw(whole))

    assert read_all(open_repository) == LAYER.content
    assert registry.count("GET") == 2


def test_a_range_that_is_ignored_twice_ends_the_try(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    whole = f"HTTP/1.1 200 OK\r\nContent-Length: {len(LAYER.content)}\r\n\r\n".encode()
    registry.fail("GET", "/blobs/", Cut(after=100_000))
    registry.fail("GET", "/blobs/", Raw(whole + LAYER.content[:200_000]), times=None)

    with pytest.raises(Unavailable, match="does not send the rest alone"):
        read_all(open_repository)


def test_going_back_reads_what_lies_behind_the_last_mark_alone(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """An upload goes on at byte 250,000; the hash of the first 196,608 is still known."""
    repository = open_repository()
    buffer = memoryview(bytearray(65536))
    with BlobReader(
        lambda at: repository.open_blob(BLOB, at), BLOB, buffer, checkpoint_every=65536
    ) as reader:
        assert sum(len(piece) for piece in reader.pieces()) == 300_000
        rest = b"".join(bytes(piece) for piece in reader.pieces(250_000))
        assert b"".join(bytes(piece) for piece in reader.pieces(300_000)) == b""

    assert rest == LAYER.content[250_000:]
    assert [each.headers.get("range") for each in registry.requests] == [None, "bytes=196608-299999"]


def test_a_blob_is_not_resumed_without_end_after_going_back(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """Going back counts as well, and so steps over the limit."""
    registry.fail("GET", "/blobs/", Cut(after=10_000), times=None)
    repository = open_repository()
    with BlobReader(lambda at: repository.open_blob(BLOB, at), BLOB, memoryview(bytearray(65536))) as reader:
        reader.resumes = 4
        with pytest.raises(Unavailable, match="ended after"):
            list(reader.pieces())

    assert registry.count("GET") <= 3


def test_going_back_does_not_trust_what_is_sent_the_second_time(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    repository = open_repository()
    buffer = memoryview(bytearray(65536))
    with BlobReader(
        lambda at: repository.open_blob(BLOB, at), BLOB, buffer, checkpoint_every=65536
    ) as reader:
        for _ in reader.pieces():
            pass
        wrong = b"HTTP/1.1 206 P\r\nContent-Range: bytes 196608-299999/300000\r\n\r\n" + bytes(
            300_000 - 196_608
        )
        registry.fail("GET", "/blobs/", Raw(wrong))

        with pytest.raises(Invalid, match="digest-mismatch"):
            list(reader.pieces(250_000))


@pytest.mark.parametrize("total", ["300000", "*"])
def test_a_part_of_a_whole_of_unknown_size_is_a_part(
    registry: RegistrySimulator, open_repository: OpenRepository, total: str
) -> None:
    registry.fail("GET", "/blobs/", Cut(after=100_000))
    registry.fail("GET", "/blobs/", WithHeaders({"Content-Range": f"bytes 100000-299999/{total}"}))

    assert read_all(open_repository) == LAYER.content


def test_the_digest_of_a_blob_is_none_of_the_headers_business(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "/blobs/", WithHeaders({"Docker-Content-Digest": f"sha256:{'0' * 64}"}))
    registry.fail("GET", "/manifests/", NoHeaders(frozenset({"Docker-Content-Digest", "Content-Type"})))

    assert read_all(open_repository) == LAYER.content
    assert open_repository().fetch_manifest("1").digest == parse_digest(SAMPLE.manifest.digest)


# Codings and types that nobody asked for


def coded(content: bytes, coding: str, digest: str, media_type: str) -> Raw:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Type: {media_type}\r\n"
        f"Docker-Content-Digest: {digest}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return Raw(head.encode() + content)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize("is_by_digest", [False, True])
def test_a_coded_manifest_is_decoded_if_its_digest_is_then_right(
    registry: RegistrySimulator,
    open_repository: OpenRepository,
    is_by_digest: bool,  # noqa: FBT001 - a parameter of pytest
    coding: str,
) -> None:
    manifest = SAMPLE.manifest
    sent = coded(gzip.compress(manifest.content), coding, manifest.digest, manifest.media_type)
    registry.fail("GET", "/manifests/", sent)

    document = open_repository().fetch_manifest(manifest.digest if is_by_digest else "1")

    assert (document.raw, str(document.digest)) == (manifest.content, manifest.digest)


def test_a_manifest_that_only_claims_to_be_coded_is_taken_as_it_is(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    manifest = SAMPLE.manifest
    registry.fail("GET", "/manifests/", coded(manifest.content, "gzip", manifest.digest, manifest.media_type))

    assert open_repository().fetch_manifest("1").raw == manifest.content


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"something else"),
        gzip.compress(b" " * (8 * 1024 * 1024)),
        gzip.compress(SAMPLE.manifest.content)[:-9],
        b"\x1f\x8b no gzip at all",
    ],
    ids=["other bytes", "too many bytes", "cut", "no gzip"],
)
def test_a_coded_manifest_with_another_digest_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository, content: bytes
) -> None:
    manifest = SAMPLE.manifest
    registry.fail("GET", "/manifests/", coded(content, "gzip", manifest.digest, manifest.media_type))

    with pytest.raises(Invalid, match=r"not those of .* content coding 'gzip'"):
        open_repository().fetch_manifest(manifest.digest)
