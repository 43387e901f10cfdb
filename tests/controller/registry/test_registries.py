# ruff: noqa: N802 - names carry the numbers of known bugs
"""Reading and writing repositories, above all when the registry misbehaves; good behaviour is in the contract."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from controller.registry.http.settings import RegistrySettings
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import MANIFEST_TYPES, MAX_MANIFEST, Descriptor, Manifest
from controller.registry.oci.results import BlobsMissing
from controller.registry.registries import Registries
from controller.threads import Cancellation, Stopped
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import AT_ONCE, MARKER, PATIENT, OpenRepository
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority
from tests.simulators.registry import (
    Cut,
    Meanwhile,
    NoHeaders,
    OtherBytes,
    Raw,
    Redirect,
    Refuse,
    RegistrySimulator,
    Stall,
    WithHeaders,
)
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([images.layer(300_000, 1)])
LAYER = SAMPLE.layers[0]
BLOB = Descriptor(LAYER.media_type, parse_digest(LAYER.digest), len(LAYER.content))


@pytest.fixture(autouse=True)
def stored(registry: RegistrySimulator) -> None:
    put(registry)


def put(registry: RegistrySimulator) -> None:
    for blob in SAMPLE.blobs:
        registry.store.add_blob("team/app", blob.content)
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)


def read_all(open_repository: OpenRepository, blob: Descriptor = BLOB) -> bytes:
    with read_blob(open_repository(), blob, memoryview(bytearray(65536))) as reader:
        return b"".join(bytes(piece) for piece in reader.pieces())


# Manifests


def test_C5_C19_P14_every_manifest_request_accepts_all_six_types_uncoded(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    open_repository().head_manifest("1")
    open_repository().fetch_manifest("1")

    for each in registry.requests:
        assert list(MANIFEST_TYPES) == each.headers["accept"].split(", ")
        assert each.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [400, 405])
def test_a_registry_that_refuses_head_says_nothing(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("HEAD", "manifests", Refuse(status))

    assert open_repository().head_manifest("1").digest is None


def test_a_head_without_a_digest_says_nothing(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("HEAD", "manifests", NoHeaders(frozenset({"Docker-Content-Digest"})))

    assert open_repository().head_manifest("1").digest is None


@pytest.mark.parametrize("tag_or_digest", ["1", SAMPLE.manifest.digest])
def test_other_bytes_than_the_digest_says_are_refused(
    registry: RegistrySimulator, open_repository: OpenRepository, tag_or_digest: str
) -> None:
    registry.fail("GET", "manifests", OtherBytes(SAMPLE.manifest.content + b" "))

    with pytest.raises(Invalid) as refused:
        open_repository().fetch_manifest(tag_or_digest)

    assert refused.value.code == "digest-mismatch"


def test_a_manifest_without_a_digest_header_is_hashed(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", NoHeaders(frozenset({"Docker-Content-Digest"})))

    assert SAMPLE.manifest.digest == str(open_repository().fetch_manifest("1").digest)


@pytest.mark.parametrize("names", [frozenset[str](), frozenset({"Content-Length"})])
def test_a_manifest_of_more_than_four_mib_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository, names: frozenset[str]
) -> None:
    big = StoredManifest(SAMPLE.manifest.media_type, b" " * (MAX_MANIFEST + 1))
    registry.store.add_manifest("team/app", "big", big)
    registry.fail("GET", "manifests", NoHeaders(names))

    with pytest.raises(Invalid) as refused:
        open_repository().fetch_manifest("big")

    assert refused.value.code == "manifest-too-large"


def test_a_manifest_that_is_cut_is_read_again(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Cut(after=10))

    assert SAMPLE.manifest.content == open_repository().fetch_manifest("1").raw
    assert registry.count("GET") == 2


def test_C11_a_cold_pull_through_cache_is_asked_again(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Refuse(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'), times=2)

    assert SAMPLE.manifest.content == open_repository().fetch_manifest("1").raw


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_is_unavailable_is_tried_a_few_times(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("GET", "manifests", Refuse(status), times=None)

    with pytest.raises(Unavailable):
        open_repository().fetch_manifest("1")

    assert AT_ONCE.attempts == len(registry.requests)


def test_E1_a_rate_limit_is_not_tried_again(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    answer = (
        b"HTTP/1.1 429 Too Many Requests\nRetry-After: 60\nContent-Type: text/plain\n\nToo Many (HAP429).\n"
    )
    registry.fail("GET", "manifests", Raw(answer))

    with pytest.raises(RateLimited, match=r"Too Many \(HAP429\)") as limited:
        open_repository().fetch_manifest("1")

    assert limited.value.retry_after == 60.0
    assert len(registry.requests) == 1


def test_P13_P17_a_long_retry_after_goes_up_at_once(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Refuse(503, headers={"Retry-After": "60"}), times=None)

    with pytest.raises(Unavailable) as unavailable:
        open_repository().fetch_manifest("1")

    assert unavailable.value.retry_after == 60.0
    assert len(registry.requests) == 1


def test_an_unknown_manifest_is_named(registry: RegistrySimulator, open_repository: OpenRepository) -> None:
    with pytest.raises(NotFound) as missing:
        open_repository().fetch_manifest("nope")

    assert str(missing.value).startswith(f"registry: MANIFEST_UNKNOWN: {registry.address}/team/app:nope")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_unavailable(
    registry: RegistrySimulator, open_repository: OpenRepository, answer: bytes
) -> None:
    registry.fail("GET", "manifests", Raw(answer), times=None)

    with pytest.raises((Unavailable, Invalid)):
        open_repository().fetch_manifest("1")


def test_missing_blobs_are_named_when_a_manifest_is_refused(open_repository: OpenRepository) -> None:
    document = open_repository().fetch_manifest("1")
    assert isinstance(document, Manifest)

    with pytest.raises(BlobsMissing) as refused:
        open_repository("new/app:1").push_manifest(document, "1")

    assert {blob.digest for blob in document.blobs()} == refused.value.digests


# Blobs


def test_a_registry_in_its_read_only_mode_does_not_delete(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("DELETE", "manifests", Refuse(405, b"Method not allowed\n", {"Content-Type": "text/plain"}))

    with pytest.raises(Invalid, match="Method not allowed") as refused:
        open_repository().delete_manifest(parse_digest(SAMPLE.manifest.digest))

    assert refused.value.code == "UNSUPPORTED"


def test_a_deletion_whose_answer_was_lost_finds_nothing_more(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    def delete() -> None:
        registry.store.repository("team/app").manifests.clear()
        registry.drop_connections()

    registry.fail("DELETE", "manifests", Meanwhile(delete))

    with pytest.raises(NotFound):
        open_repository().delete_manifest(parse_digest(SAMPLE.manifest.digest))

    while registry.count("DELETE", "manifests") < 2:
        time.sleep(0.01)  # the first is noted with its answer, which its connection does not wait for
    assert registry.count("DELETE", "manifests") == 2


def test_a_blob_is_read_in_pieces(open_repository: OpenRepository) -> None:
    assert LAYER.content == read_all(open_repository)


def test_D16_a_blob_that_is_cut_goes_on_where_it_stopped(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "blobs", Cut(after=100_000))

    assert LAYER.content == read_all(open_repository)
    assert registry.requests[1].headers["range"] == "bytes=100000-299999"


def test_a_blob_that_stalls_goes_on_after_the_time_limit(
    registry: RegistrySimulator, cancellation: Cancellation
) -> None:
    registry.fail("GET", "blobs", Stall(after=70_000))
    settings = RegistrySettings(plain_http=True, any_address=True)
    client = Registries({registry.address: settings}, timeouts=replace(PATIENT, idle=1.0), retries=AT_ONCE)
    image = parse_image_reference(f"{registry.address}/team/app:1")

    assert LAYER.content == read_all(lambda: client.repository(image, None, cancellation))

    client.close()


@pytest.mark.parametrize(
    "content_range",
    ["", "bytes 0-299999/300000", "bytes 100000-299999/300001", "bytes=100000-", "notbytes 1-2/3"],
)
def test_a_part_that_does_not_fit_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository, content_range: str
) -> None:
    registry.fail("GET", "blobs", Cut(after=100_000))
    registry.fail("GET", "blobs", WithHeaders({"Content-Range": content_range}), times=None)

    with pytest.raises(Unavailable) as refused:
        read_all(open_repository)

    assert refused.value.code == "cut"


def test_a_cut_at_the_same_byte_ends_the_blob(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "blobs", Cut(after=1000))
    registry.fail("GET", "blobs", Cut(after=0), times=None)

    with pytest.raises(Unavailable, match="ended after 1000 of 300000 bytes"):
        read_all(open_repository)


def test_the_last_piece_of_a_wrong_blob_is_held_back(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "blobs", OtherBytes(bytes(300_000)))
    seen: list[int] = []

    with (
        read_blob(open_repository(), BLOB, memoryview(bytearray(65536))) as reader,
        pytest.raises(Invalid, match="the bytes are those of sha256:"),
    ):
        seen.extend(len(piece) for piece in reader.pieces())

    assert sum(seen) == 300_000 // 65536 * 65536


@pytest.mark.parametrize("size", [299_999, 300_001])
def test_another_length_is_refused_before_a_byte_is_read(
    registry: RegistrySimulator, open_repository: OpenRepository, size: int
) -> None:
    registry.fail("GET", "blobs", OtherBytes(bytes(size)))

    with pytest.raises(Invalid, match=f"{size} bytes instead of 300000"):
        read_all(open_repository)


def test_P4_a_body_without_a_length_is_counted(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "blobs", NoHeaders(frozenset({"Content-Length"})))
    assert LAYER.content == read_all(open_repository)

    head = b"HTTP/1.1 200 OK\r\n\r\n"
    registry.fail("GET", "blobs", Raw(head + LAYER.content + b"x"))
    with pytest.raises(Invalid, match="longer than its 300000 bytes"):
        read_all(open_repository)


def test_the_empty_blob_needs_no_request(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    empty = Descriptor("x", parse_digest(images.Blob("x", b"").digest), 0)

    assert read_all(open_repository, empty) == b""
    assert not registry.requests


def test_D19_a_blob_whose_storage_refuses_head_is_there(
    registry: RegistrySimulator, other: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("HEAD", "blobs", Redirect(f"{other.url}/signed"))
    other.fail("HEAD", "signed", Refuse(403))

    head = open_repository().find_blob(BLOB.digest)

    assert head is not None
    assert head.size is None


# Redirects


def test_B19_authorization_stays_with_its_origin(
    registry: RegistrySimulator, other: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = registries.BasicLogin({"alice": "marker-password"})
    registry.fail("GET", "blobs", Redirect(f"{other.url}/store?X-Sig=a%2Fb&empty="), after=1)
    other.fail("GET", "store", OtherBytes(LAYER.content))
    other.fail("GET", "store", Refuse(400))

    with read_blob(open_repository(credentials=MARKER), BLOB, memoryview(bytearray(65536))) as reader:
        for _ in reader.pieces():
            pass

    assert other.requests[0].path == "/store?X-Sig=a%2Fb&empty="
    assert "authorization" not in other.requests[0].headers
    assert "authorization" in registry.requests[-1].headers


def test_a_redirect_within_the_origin_keeps_authorization(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = registries.BasicLogin({"alice": "marker-password"})
    registry.fail("GET", "manifests/1", Redirect(f"/v2/team/app/manifests/{SAMPLE.manifest.digest}"), after=1)

    assert SAMPLE.manifest.content == open_repository(credentials=MARKER).fetch_manifest("1").raw


def test_a_redirect_loop_ends(registry: RegistrySimulator, open_repository: OpenRepository) -> None:
    registry.fail("GET", "manifests", Redirect("/v2/team/app/manifests/1"), times=None)

    with pytest.raises(Invalid, match="redirects too often"):
        open_repository().fetch_manifest("1")

    assert len(registry.requests) == 11


def test_a_redirect_to_nowhere_is_an_error(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Refuse(307))

    with pytest.raises(Invalid, match="redirects to nowhere"):
        open_repository().fetch_manifest("1")


# Addresses


def test_a_private_address_is_refused_before_a_byte_is_sent(registry: RegistrySimulator) -> None:
    client = Registries({registry.address: RegistrySettings(plain_http=True)}, retries=AT_ONCE)
    image = parse_image_reference(f"{registry.address}/team/app:1")

    with pytest.raises(Invalid, match="which is not a public address") as refused:
        client.repository(image, None, Cancellation()).head_manifest("1")

    assert refused.value.code == "address-refused"
    assert not registry.requests
    client.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_to_a_private_address_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository, method: str
) -> None:
    registry.fail(method, "manifests", Redirect("http://169.254.169.254/latest/meta-data/"))

    with pytest.raises(Invalid, match=r"169\.254\.169\.254"):
        open_repository().fetch_manifest("1") if method == "GET" else open_repository().head_manifest("1")


def test_an_upload_location_at_a_private_address_is_refused(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("POST", "uploads", WithHeaders({"Location": "http://10.0.0.1/x"}))
    session = open_repository().uploads.start(BLOB.digest)

    with pytest.raises(Invalid, match=r"10\.0\.0\.1"):
        open_repository().uploads.upload(session, BLOB, [memoryview(LAYER.content)])


def test_a_port_that_cannot_be_dialled_is_refused(client: Registries, cancellation: Cancellation) -> None:
    image = parse_image_reference("r.example:70000/a:1")

    with pytest.raises(Invalid, match="illegal host or port"):
        client.repository(image, None, cancellation)


# Uploads


@pytest.mark.parametrize("status", [401, 413])
def test_an_early_refusal_is_read_while_the_body_is_being_sent(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("PUT", "uploads", Refuse(status, b"too much", early=True))
    piece = memoryview(bytes(1 << 20))
    blob = Descriptor("x", BLOB.digest, 64 << 20)

    with pytest.raises((Denied, Invalid), match="too much"):
        open_repository().uploads.upload(open_repository().uploads.start(blob.digest), blob, [piece] * 64)


def test_an_error_of_the_source_breaks_the_upload_off(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    def pieces() -> Iterator[memoryview]:
        yield memoryview(LAYER.content)[:1000]
        raise Invalid("registry", "digest-mismatch", "the source lies")

    repository = open_repository("new/app:1")
    with pytest.raises(Invalid, match="the source lies"):
        repository.uploads.upload(repository.uploads.start(BLOB.digest), BLOB, pieces())

    assert repository.find_blob(BLOB.digest) is None


# Connections


def test_connections_are_kept_whatever_comes_over_them(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = registries.TokenLogin({"alice": "marker-password"})
    repository, target = open_repository(credentials=MARKER), open_repository("new/app:1", credentials=MARKER)
    for _ in range(2):
        document = repository.fetch_manifest(str(repository.head_manifest("1").digest))
        with pytest.raises(NotFound):
            repository.head_manifest("nope")
        with pytest.raises(BlobsMissing):
            target.push_manifest(document, "1")
        assert target.find_blob(parse_digest(f"sha256:{'0' * 64}")) is None
        target.uploads.upload(target.uploads.start(BLOB.digest), BLOB, [memoryview(LAYER.content)])
        assert LAYER.content == read_all(lambda: repository)

    assert registry.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("HEAD", "manifests", WithHeaders({"Connection": "keep-alive"}))
    open_repository().head_manifest("1")
    registry.drop_connections()

    assert open_repository().head_manifest("1").digest is not None
    assert registry.connections == 2


def test_cancelling_wakes_a_thread_that_waits(
    registry: RegistrySimulator, open_repository: OpenRepository, cancellation: Cancellation
) -> None:
    registry.fail("GET", "blobs", Stall(after=1000))
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            read_all(open_repository)
        except Stopped as stopped:
            outcome.append(stopped)

    thread = threading.Thread(target=read)
    thread.start()
    registry.wait_for_stall()
    cancellation.cancel()
    thread.join(50.0)  # less than the time that a response may keep silent

    assert not thread.is_alive()
    assert len(outcome) == 1
    with pytest.raises(Stopped):
        open_repository().head_manifest("1")


# TLS


def test_cancelling_wakes_a_thread_that_waits_for_a_handshake(cancellation: Cancellation) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    image = parse_image_reference(f"127.0.0.1:{listener.getsockname()[1]}/team/web:1")
    client = Registries({image.domain: RegistrySettings(any_address=True)})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.repository(image, None, cancellation).head_manifest, "1")
        server, _ = listener.accept()
        assert server.recv(1)  # the client has said hello, and gets no answer
        cancellation.cancel()
        with pytest.raises(Stopped):
            waiting.result(5.0)

    for each in (server, listener):
        each.close()
    client.close()


def test_tls_is_verified_against_the_given_authority(tmp_path: Path) -> None:
    authority, foreign = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    pair = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with registries.serve(tls=context) as registry:
        put(registry)
        image = parse_image_reference(f"{registry.address}/team/app:1")

        def fetch(ca: Path | None) -> bytes:
            settings = RegistrySettings(ca_file=ca, any_address=True)
            client = Registries({registry.address: settings}, retries=AT_ONCE)
            try:
                repository = client.repository(image, None, Cancellation())
                read_all(lambda: repository)
                return repository.fetch_manifest("1").raw
            finally:
                client.close()

        assert SAMPLE.manifest.content == fetch(authority.certificate)
        for wrong in (foreign.certificate, None):
            with pytest.raises(Unavailable) as refused:
                fetch(wrong)
            assert refused.value.code == "certificate"


def test_a_server_without_tls_is_told_from_one_that_is_away(registry: RegistrySimulator) -> None:
    image = parse_image_reference(f"{registry.address}/team/app:1")
    client = Registries({registry.address: RegistrySettings(any_address=True)}, retries=AT_ONCE)

    with pytest.raises(Unavailable, match="does not speak TLS: set plain_http") as refused:
        client.repository(image, None, Cancellation()).head_manifest("1")

    assert refused.value.code == "no-tls"
    assert registry.connections == 1  # trying again would not help
    client.close()


def test_https_is_never_left_for_http(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with registries.serve(tls=context) as registry:
        settings = RegistrySettings(ca_file=authority.certificate, any_address=True)
        client = Registries({registry.address: settings}, retries=AT_ONCE)
        image = parse_image_reference(f"{registry.address}/team/app:1")
        repository = client.repository(image, MARKER, Cancellation())
        registry.fail("GET", "manifests", Redirect("http://127.0.0.1:1/x"))
        registry.fail(
            "GET",
            "manifests",
            Refuse(401, headers={"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/t"'}),
        )
        registry.fail("POST", "uploads", WithHeaders({"Location": "http://127.0.0.1:1/x"}))

        errors: list[DockerCacheError] = []
        for call in (
            lambda: repository.fetch_manifest("1"),
            lambda: repository.fetch_manifest("1"),
            lambda: repository.uploads.start(BLOB.digest),
        ):
            with pytest.raises(DockerCacheError) as refused:
                call()
            errors.append(refused.value)
        client.close()

    assert [each.code for each in errors] == ["redirect-refused", "realm-refused", "bad-location"]
