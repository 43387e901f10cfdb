# ruff: noqa: N802 - names carry the numbers of known bugs
"""What a hostile registry, token server or manifest can make us do: nothing that they should not."""

import json
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from controller.registry.http.settings import RegistrySettings
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import MAX_ENTRIES, Descriptor, parse_document
from controller.registry.oci.repository import Repository
from controller.registry.registries import Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import AT_ONCE, MARKER, PATIENT, OpenRepository
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority
from tests.simulators.registry import (
    BasicLogin,
    OtherBytes,
    Redirect,
    Refuse,
    RegistrySimulator,
    TokenLogin,
    WithHeaders,
)
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([images.layer(1000, 1)])
LAYER = SAMPLE.layers[0]
BLOB = Descriptor(LAYER.media_type, parse_digest(LAYER.digest), len(LAYER.content))
INTERNAL = [
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "10.0.0.1",
    "127.0.0.2",
    "[::1]",
    "0.0.0.0",
    "2852039166",
    "0x7f.2",
]


@pytest.fixture
def strict(registry: RegistrySimulator) -> Iterator[Callable[..., Repository]]:
    """Open repositories with nothing allowed but the registry's own address."""
    for blob in SAMPLE.blobs:
        registry.store.add_blob("team/app", blob.content)
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)
    client = Registries(
        {registry.address: RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.1/32"),))},
        timeouts=PATIENT,
        retries=AT_ONCE,
    )
    image = parse_image_reference(f"{registry.address}/team/app:1")
    yield lambda credentials=None: client.repository(image, credentials, Cancellation())
    client.close()


def read(repository: Repository) -> bytes:
    with read_blob(repository, BLOB, memoryview(bytearray(65536))) as reader:
        return b"".join(bytes(piece) for piece in reader.pieces())


# Addresses


@pytest.mark.parametrize("host", INTERNAL)
@pytest.mark.parametrize("way", ["redirect", "second-redirect", "realm", "location"])
def test_no_way_leads_to_an_internal_address(
    registry: RegistrySimulator, strict: Callable[..., Repository], host: str, way: str
) -> None:
    """The address that a name leads to counts, in whatever spelling."""
    url = f"http://{host}:9/latest/meta-data"
    match way:
        case "redirect":
            registry.fail("GET", "/blobs/", Redirect(url))
        case "second-redirect":
            registry.fail("GET", "/blobs/", Redirect("/v2/team/app/blobs/x"))
            registry.fail("GET", "/blobs/x", Redirect(url))
        case "realm":
            challenge = {"WWW-Authenticate": f'Bearer realm="{url}",service="s"'}
            registry.fail("GET", "/blobs/", Refuse(401, headers=challenge))
        case _:
            registry.fail("POST", "/uploads/", WithHeaders({"Location": url}))
    session = strict().uploads.start(BLOB.digest)

    def attempt() -> None:
        if way == "location":
            strict().uploads.upload(session, BLOB, [memoryview(LAYER.content)])
        else:
            read(strict())

    with pytest.raises(DockerCacheError) as refused:
        attempt()

    # A spelling that no resolver knows leads nowhere either.
    assert refused.value.code in {"address-refused", "unknown-host", "bad-url"}


@pytest.mark.parametrize("url", ["//[", "http://[x/", "https://[::1::2]/", "http://[v1.x/"])
@pytest.mark.parametrize("way", ["redirect", "realm", "location"])
def test_a_host_that_is_none_is_refused(
    registry: RegistrySimulator, strict: Callable[..., Repository], url: str, way: str
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{url}",service="s"'}
    action = Redirect(url) if way == "redirect" else Refuse(401, headers=challenge)
    registry.fail("GET", "/blobs/", action, times=None)
    registry.fail("POST", "/uploads/", WithHeaders({"Location": url}))

    with pytest.raises(DockerCacheError) as refused:
        strict().uploads.start(BLOB.digest) if way == "location" else read(strict())

    assert refused.value.code in {"bad-url", "bad-location", "address-refused", "redirect-refused"}


def test_localhost_reaches_no_further_than_what_is_allowed(
    registry: RegistrySimulator, strict: Callable[..., Repository]
) -> None:
    registry.fail("GET", "/blobs/", Redirect(f"http://127.0.0.3:{registry.address.partition(':')[2]}/x"))

    with pytest.raises(Invalid) as refused:
        read(strict())

    assert refused.value.code == "address-refused"


# Credentials


@pytest.mark.parametrize("way", ["redirect", "location"])
def test_B19_authorization_goes_to_no_other_origin(  # another port is another origin
    registry: RegistrySimulator, other: RegistrySimulator, strict: Callable[..., Repository], way: str
) -> None:
    registry.login = BasicLogin({"alice": "marker-password"})
    repository = strict(MARKER)
    repository.fetch_manifest("1")
    registry.fail("GET", "/blobs/", Redirect(f"{other.url}/store?X-Amz-Signature=1"))
    registry.fail("POST", "/uploads/", WithHeaders({"Location": f"{other.url}/store?sig=1"}))
    other.fail("GET", "/store", OtherBytes(LAYER.content))
    other.fail("PUT", "/store", Refuse(201))

    if way == "location":
        repository.uploads.upload(repository.uploads.start(BLOB.digest), BLOB, [memoryview(LAYER.content)])
    else:
        assert read(repository) == LAYER.content

    assert len(other.requests) == 1
    assert "authorization" not in other.requests[0].headers
    assert f"digest={LAYER.digest.replace(':', '%3A')}" in other.requests[0].path or way == "redirect"


def test_a_401_of_another_origin_is_not_answered(
    registry: RegistrySimulator, other: RegistrySimulator, strict: Callable[..., Repository]
) -> None:
    registry.fail("GET", "/blobs/", Redirect(f"{other.url}/store"))
    challenge = {"WWW-Authenticate": f'Bearer realm="{other.url}/token"'}
    other.fail("GET", "/store", Refuse(401, headers=challenge), times=None)

    with pytest.raises(Denied):
        read(strict(MARKER))

    assert [each.path for each in other.requests] == ["/store"]


def test_a_token_server_may_not_pass_credentials_on(
    registry: RegistrySimulator, other: RegistrySimulator, strict: Callable[..., Repository]
) -> None:
    registry.login = TokenLogin({"alice": "marker-password"})
    registry.fail("GET", "/token", Redirect(f"{other.url}/token"), times=None)
    other.fail("GET", "/token", OtherBytes(b'{"token":"T"}'), times=None)

    with pytest.raises(Denied):
        strict(MARKER).fetch_manifest("1")

    assert "authorization" not in other.requests[0].headers


def test_an_identity_token_follows_no_redirect(
    registry: RegistrySimulator, other: RegistrySimulator, strict: Callable[..., Repository]
) -> None:
    """A POST that is redirected would carry the token along in its body."""
    registry.login = TokenLogin(anonymous=False, identity_token="marker-password")
    registry.fail("POST", "/token", Redirect(f"{other.url}/token"))

    with pytest.raises(DockerCacheError):
        strict(type(MARKER)("<token>", MARKER.password)).fetch_manifest("1")

    assert not other.requests


@pytest.mark.parametrize(
    "token",
    ["a\r\nX-Injected: 1", "a\nb", "a b", "", "ü", "a\x00b"],
    ids=["crlf", "lf", "space", "empty", "wide", "nul"],
)
def test_a_token_that_does_not_fit_a_header_is_refused(
    registry: RegistrySimulator, strict: Callable[..., Repository], token: str
) -> None:
    registry.login = TokenLogin()
    registry.fail("GET", "/token", OtherBytes(json.dumps({"token": token}).encode()))

    with pytest.raises(Invalid) as refused:
        strict().fetch_manifest("1")

    assert refused.value.code == "bad-token-response"
    assert not [each for each in registry.requests if "authorization" in each.headers]


def test_credentials_with_line_ends_inject_nothing(
    registry: RegistrySimulator, strict: Callable[..., Repository]
) -> None:
    odd = type(MARKER)("al\r\nX: 1", type(MARKER.password)("p\r\nY: 2"))
    registry.login = BasicLogin({"al\r\nX: 1": "p\r\nY: 2"})

    strict(odd).fetch_manifest("1")

    assert not [each for each in registry.requests if "x" in each.headers or "y" in each.headers]


# Names that reach a path


@pytest.mark.parametrize(
    "digest",
    [
        "../../x",
        "sha256:../../../etc/passwd",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_a_digest_is_checked_before_it_reaches_a_path(digest: str) -> None:
    document = json.loads(SAMPLE.manifest.content)
    document["layers"][0]["digest"] = digest

    with pytest.raises(Invalid):
        parse_document(json.dumps(document).encode(), images.OCI_MANIFEST, "sample")


@pytest.mark.parametrize("media_type", ["text/html", "application/json\r\nX: 1", "application/vnd.example"])
def test_a_manifest_of_another_type_is_not_passed_on(media_type: str) -> None:
    document = json.loads(SAMPLE.manifest.content) | {"mediaType": media_type}

    with pytest.raises(Invalid):
        parse_document(json.dumps(document).encode(), "", "sample")


# Sizes and bombs

BOMBS = {
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "a huge number": b'{"schemaVersion":2,"config":' + b"9" * 100_000 + b"}",
    "a huge size": json.dumps(
        {"schemaVersion": 2, "config": {"digest": LAYER.digest, "size": 1 << 70}}
    ).encode(),
    "a size that is true": json.dumps(
        {"schemaVersion": 2, "config": {"digest": LAYER.digest, "size": True}}
    ).encode(),
    "infinity": b'{"schemaVersion":Infinity}',
    "a key twice": b'{"schemaVersion":2,"schemaVersion":2}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "no UTF-8": b'{"schemaVersion":"\xff"}',
    "many entries": json.dumps(
        {"schemaVersion": 2, "manifests": [SAMPLE.manifest.descriptor] * (MAX_ENTRIES + 1)}
    ).encode(),
    "many layers": json.dumps(
        {"schemaVersion": 2, "config": LAYER.descriptor, "layers": [LAYER.descriptor] * (MAX_ENTRIES + 1)}
    ).encode(),
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS.keys())
def test_a_manifest_that_is_a_bomb_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_document(raw, "", "sample")


@pytest.mark.parametrize("raw", [*BOMBS.values(), b" " * ((1 << 20) + 1)], ids=[*BOMBS, "more than 1 MiB"])
def test_a_token_answer_that_is_a_bomb_is_refused(
    registry: RegistrySimulator, strict: Callable[..., Repository], raw: bytes
) -> None:
    registry.login = TokenLogin()
    registry.fail("GET", "/token", OtherBytes(raw))

    with pytest.raises(Invalid) as refused:
        strict().fetch_manifest("1")

    assert refused.value.code == "bad-token-response"
    assert len(refused.value.detail) < 600


@pytest.mark.parametrize("raw", [*BOMBS.values(), b"x" * (8 << 20)], ids=[*BOMBS, "8 MiB"])
def test_an_error_that_is_a_bomb_is_an_ordinary_error(
    registry: RegistrySimulator, strict: Callable[..., Repository], raw: bytes
) -> None:
    registry.fail("GET", "/manifests/", Refuse(404, raw))

    with pytest.raises(NotFound) as missing:
        strict().fetch_manifest("1")

    assert len(missing.value.detail) < 600


# TLS


@pytest.mark.usefixtures("servers")
def test_nothing_of_https_leads_to_http_and_no_password_shows(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with registries.serve(tls=context) as secure, registries.serve() as plain:
        settings = RegistrySettings(ca_file=authority.certificate, any_address=True)
        client = Registries({secure.address: settings}, retries=AT_ONCE)
        repository = client.repository(
            parse_image_reference(f"{secure.address}/team/app:1"), MARKER, Cancellation()
        )
        secure.fail("GET", "/blobs/", Redirect(f"{plain.url}/x"), times=None)
        challenge = {"WWW-Authenticate": f'Bearer realm="{plain.url}/token"'}
        secure.fail("GET", "/manifests/", Refuse(401, headers=challenge), times=None)

        shown = ""
        for call in (lambda: read(repository), lambda: repository.fetch_manifest("1")):
            with pytest.raises((Invalid, Denied, Unavailable)) as refused:
                call()
            shown += f"{refused.value}{refused.value!r}{refused.value.__cause__!r}"
        client.close()

    assert not plain.requests
    assert "marker-password" not in shown


def test_no_representation_of_what_holds_credentials_shows_them(
    strict: Callable[..., Repository], registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin({"alice": "marker-password"})
    repository = strict(MARKER)
    repository.fetch_manifest("1")
    auth = repository.session._dependencies.authenticator

    shown = f"{repository.session.identity('x')!r}{auth._tokens._slots!r}{auth._proven!r}{auth._challenges!r}{repository.session._dependencies!r}"

    assert "marker-password" not in shown
    assert not [token for token in registry.tokens if token in shown]


def test_a_token_that_a_registry_sends_back_is_not_shown(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin({})
    registry.store.add_manifest(
        "team/app", "1", StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    )
    repository = open_repository()
    repository.fetch_manifest("1")
    sent = next(
        each.headers["authorization"] for each in registry.requests if "authorization" in each.headers
    )
    token = sent.partition(" ")[2]
    registry.fail("GET", "/manifests/", Refuse(404, f"no such thing for {token}, or {token}".encode()))

    with pytest.raises(NotFound) as refused:
        repository.fetch_manifest("1")

    assert "no such thing for ***, or ***" in refused.value.detail
    assert token not in str(refused.value)
