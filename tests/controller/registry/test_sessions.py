"""What belongs to a registry serves the sessions that are opened for it, and none that others lead there."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest

from controller.registry.http.home import Route, configured_origins, home_of
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.settings import RegistrySettings, TlsFiles
from controller.registry.http.urls import parse_url
from controller.registry.oci.blob_probes import why_not_held, why_not_readable
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.catalog import list_repositories, list_tags
from controller.registry.oci.foreign_layers import read_foreign
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.referrers import list_referrers
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import Repeatable
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, LeaseLost, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import AT_ONCE, MARKER, PATIENT, OpenRepository
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority, Pair
from tests.simulators.registry import (
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
TOKEN = Credentials("<token>", Secret("marker-password"))
LOOPBACK = ip_network("127.0.0.0/8")


def put(registry: RegistrySimulator) -> None:
    for blob in SAMPLE.blobs:
        registry.store.add_blob("team/app", blob.content)
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)


def read(repository: Repository) -> bytes:
    with read_blob(repository, BLOB, memoryview(bytearray(65536))) as reader:
        return b"".join(bytes(piece) for piece in reader.pieces())


def upload(repository: Repository) -> None:
    session = repository.uploads.start(BLOB.digest)
    repository.uploads.upload(session, BLOB, [memoryview(LAYER.content)])


def push(repository: Repository) -> None:
    repository.push_manifest(repository.fetch_manifest("1"), "2")


def open_at(client: Registries, registry: RegistrySimulator, login: Credentials | None = None) -> Repository:
    return client.repository(parse_image_reference(f"{registry.address}/team/app:1"), login, Cancellation())


# A client certificate


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A tenant's registry, an internal one that asks for a client certificate, and a client of both."""

    tenant: RegistrySimulator
    internal: RegistrySimulator
    client: Registries
    settings: RegistrySettings
    server_tls: ssl.SSLContext


def tls_of(server: Pair, *clients: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    for authority in clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.certificate)
    return context


@pytest.fixture
def neighbours(registry: RegistrySimulator, tmp_path: Path) -> Iterator[Neighbours]:
    authority = Authority(tmp_path)
    own = authority.client("daemon")
    server = authority.server("127.0.0.1", "localhost")
    with registries.serve(tls=tls_of(server, authority)) as internal:
        put(internal)
        settings = RegistrySettings(
            ca_file=authority.certificate,
            client_cert_file=own.certificate,
            client_key_file=own.key,
            allowed_networks=(LOOPBACK,),
        )
        client = Registries(
            {
                registry.address: RegistrySettings(plain_http=True, allowed_networks=(LOOPBACK,)),
                internal.address: settings,
            },
            timeouts=PATIENT,
            retries=AT_ONCE,
        )
        with closing(client):
            yield Neighbours(registry, internal, client, settings, tls_of(server))


def test_a_registry_gets_its_certificate_in_its_own_session(neighbours: Neighbours) -> None:
    repository = open_at(neighbours.client, neighbours.internal)

    assert repository.fetch_manifest("1").raw == SAMPLE.manifest.content
    assert read(repository) == LAYER.content


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("way", ["manifest", "head", "blob", "probe", "realm", "identity-token", "location"])
def test_nothing_of_a_tenants_registry_leads_to_another_one_of_the_config(
    neighbours: Neighbours, way: str, status: int
) -> None:
    tenant, internal = neighbours.tenant, neighbours.internal
    repository = open_at(neighbours.client, tenant, TOKEN if way == "identity-token" else None)
    for method, kind in (("GET", "manifests"), ("HEAD", "manifests"), ("GET", "blobs"), ("HEAD", "blobs")):
        target = f"{internal.url}/v2/team/app/{kind}/{'1' if kind == 'manifests' else LAYER.digest}"
        tenant.fail(method, f"/{kind}/", Redirect(target, status), times=None)
    if way in {"realm", "identity-token"}:
        tenant.faults.clear()
        challenge = {"WWW-Authenticate": f'Bearer realm="{internal.url}/token"'}
        tenant.fail("GET", "/manifests/", Refuse(401, headers=challenge), times=None)
    tenant.fail("POST", "/uploads/", WithHeaders({"Location": f"{internal.url}/v2/team/app/blobs/uploads/1"}))

    attempts: Mapping[str, Callable[[], object]] = {
        "head": lambda: repository.head_manifest("1"),
        "blob": lambda: read(repository),
        "probe": lambda: repository.find_blob(BLOB.digest),
        "location": partial(upload, repository),
    }
    attempt = attempts.get(way, lambda: repository.fetch_manifest("1"))

    with pytest.raises((Invalid, Denied)) as refused:
        attempt()

    assert refused.value.code in {
        ErrorCode.ORIGIN_REFUSED,
        ErrorCode.REDIRECT_REFUSED,
        ErrorCode.REALM_REFUSED,
    }
    assert internal.connections == 0


@pytest.mark.parametrize("host", ["127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "127.0.0.1."])
def test_another_spelling_of_a_registry_of_the_config_is_that_registry(
    neighbours: Neighbours, host: str
) -> None:
    tenant, internal = neighbours.tenant, neighbours.internal
    port = internal.address.rpartition(":")[2]
    tenant.fail("GET", "/blobs/", Redirect(f"https://{host}:{port}/v2/team/app/blobs/{LAYER.digest}"))

    with pytest.raises(Invalid) as refused:
        read(open_at(neighbours.client, tenant))

    assert refused.value.code == ErrorCode.ORIGIN_REFUSED
    assert internal.connections == 0


def test_another_name_of_a_registry_gets_no_certificate(neighbours: Neighbours) -> None:
    """The name is none that the config knows, and whoever is behind it learns nothing of us."""
    tenant, internal = neighbours.tenant, neighbours.internal
    port = internal.address.rpartition(":")[2]
    tenant.fail(
        "GET", "/blobs/", Redirect(f"https://localhost:{port}/v2/team/app/blobs/{LAYER.digest}"), times=None
    )

    with pytest.raises(Unavailable):
        read(open_at(neighbours.client, tenant))

    assert internal.requests == []


def test_a_kept_connection_with_a_certificate_serves_no_other_session(neighbours: Neighbours) -> None:
    tenant, internal = neighbours.tenant, neighbours.internal
    assert read(open_at(neighbours.client, internal)) == LAYER.content
    internal.forget_requests()
    tenant.fail("GET", "/blobs/", Redirect(f"{internal.url}/v2/team/app/blobs/{LAYER.digest}"))

    with pytest.raises(Invalid):
        read(open_at(neighbours.client, tenant))

    assert internal.requests == []


def test_a_named_host_is_trusted_by_the_registrys_authorities_and_gets_no_certificate(
    registry: RegistrySimulator, tmp_path: Path
) -> None:
    """Storage that has a certificate of the same authority; one that asks for ours is told nothing."""
    authority = Authority(tmp_path)
    own, server = authority.client("daemon"), authority.server("127.0.0.1")
    with (
        registries.serve(tls=tls_of(server)) as home,
        registries.serve(tls=tls_of(server)) as storage,
        registries.serve(tls=tls_of(server, authority)) as curious,
    ):
        put(home)
        storage.fail("GET", "/store", OtherBytes(LAYER.content), times=None)
        curious.fail("GET", "/store", OtherBytes(LAYER.content), times=None)
        home.fail("GET", "/blobs/", Redirect(f"{storage.url}/store"), times=2)
        home.fail("GET", "/blobs/", Redirect(f"{curious.url}/store"), times=None)

        def settings(*hosts: str) -> RegistrySettings:
            return RegistrySettings(
                ca_file=authority.certificate,
                client_cert_file=own.certificate,
                client_key_file=own.key,
                allowed_networks=(LOOPBACK,),
                other_hosts=hosts,
            )

        with (
            closing(Registries({home.address: settings()}, retries=AT_ONCE)) as client,
            pytest.raises(Unavailable) as foreign,
        ):
            read(open_at(client, home))
        hosts = (storage.address, curious.address)
        with closing(Registries({home.address: settings(*hosts)}, retries=AT_ONCE)) as client:
            named = read(open_at(client, home))
            with pytest.raises(Unavailable):
                read(open_at(client, home))

    assert foreign.value.code == ErrorCode.CERTIFICATE
    assert named == LAYER.content
    assert curious.requests == []


def test_a_redirect_back_from_another_host_gets_no_certificate(
    neighbours: Neighbours,
) -> None:
    """Otherwise that host could choose what is asked with it."""
    internal = neighbours.internal
    port = internal.address.rpartition(":")[2]
    back = f"https://127.0.0.1:{port}/v2/secret/blobs/{LAYER.digest}"
    with registries.serve(tls=neighbours.server_tls) as storage:
        internal.fail("GET", "/team/app/blobs/", Redirect(f"{storage.url}/x"), times=None)
        storage.fail("GET", "/x", Redirect(back), times=None)
        settings = replace(neighbours.settings, other_hosts=(storage.address,))
        with (
            closing(Registries({internal.address: settings}, retries=AT_ONCE)) as client,
            pytest.raises(Unavailable),
        ):
            read(open_at(client, internal))

    assert storage.count("GET", "/x") > 0
    assert internal.count("GET", "secret") == 0


def test_a_registry_that_the_config_names_as_a_host_of_another_is_asked_without_its_login(
    registry: RegistrySimulator, other: RegistrySimulator
) -> None:
    put(other)
    client = Registries(
        {
            registry.address: RegistrySettings(
                plain_http=True, allowed_networks=(LOOPBACK,), other_hosts=(other.address,)
            ),
            other.address: RegistrySettings(
                plain_http=True, allowed_networks=(LOOPBACK,), credentials=MARKER
            ),
        },
        retries=AT_ONCE,
    )
    registry.fail("GET", "/blobs/", Redirect(f"{other.url}/v2/team/app/blobs/{LAYER.digest}"))

    with closing(client):
        assert read(open_at(client, registry, MARKER)) == LAYER.content

    assert ["authorization" in each.headers for each in other.requests] == [False]


# Documents


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_document_comes_from_its_own_registry_alone(
    registry: RegistrySimulator, other: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    """What another origin serves may be somebody else's, and a digest in a header is only a claim."""
    put(other)
    for method in ("GET", "HEAD"):
        registry.fail(method, "/v2/", Redirect(f"{other.url}/v2/team/app/manifests/1", status), times=None)
    repository = open_repository()

    for attempt in (
        lambda: repository.fetch_manifest("1"),
        lambda: repository.fetch_manifest(SAMPLE.manifest.digest),
        lambda: repository.head_manifest("1"),
        lambda: list_referrers(repository, BLOB.digest),
        lambda: list_tags(repository),
        lambda: list_repositories(repository),
    ):
        with pytest.raises(Invalid) as refused:
            attempt()
        assert refused.value.code == ErrorCode.REDIRECT_REFUSED

    assert other.requests == []


def test_a_blob_may_come_from_elsewhere(
    registry: RegistrySimulator, other: RegistrySimulator, open_repository: OpenRepository
) -> None:
    put(other)
    for method in ("GET", "HEAD"):
        registry.fail(
            method, "/blobs/", Redirect(f"{other.url}/v2/team/app/blobs/{LAYER.digest}"), times=None
        )
    repository = open_repository()

    assert read(repository) == LAYER.content
    assert repository.find_blob(BLOB.digest) is not None
    assert why_not_held(repository, BLOB) == why_not_readable(repository, BLOB) == ""


# Private networks


@pytest.fixture
def internal(servers: None) -> Iterator[RegistrySimulator]:
    """A server in another network than the tenant's registry."""
    with registries.serve("127.0.0.2") as simulator:
        put(simulator)
        yield simulator


@pytest.fixture
def tenants_client(registry: RegistrySimulator, internal: RegistrySimulator) -> Iterator[Registries]:
    client = Registries(
        {
            registry.address: RegistrySettings(
                plain_http=True, allowed_networks=(ip_network("127.0.0.1/32"),)
            ),
            "127.0.0.2:1": RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.2/32"),)),
        },
        retries=AT_ONCE,
    )
    with closing(client):
        yield client


@pytest.mark.parametrize("way", ["blob", "second", "realm", "location", "image"])
def test_the_private_network_of_a_registry_is_closed_to_the_sessions_of_others(
    registry: RegistrySimulator, internal: RegistrySimulator, tenants_client: Registries, way: str
) -> None:
    """Any path at any port there, not the registry alone."""
    repository = open_at(tenants_client, registry)
    match way:
        case "blob":
            registry.fail("GET", "/blobs/", Redirect(f"{internal.url}/latest/meta-data"))
        case "second":
            registry.fail("GET", "/blobs/", Redirect("/v2/team/app/blobs/x"))
            registry.fail("GET", "/blobs/x", Redirect(f"{internal.url}/latest/meta-data"))
        case "realm":
            challenge = {"WWW-Authenticate": f'Bearer realm="{internal.url}/token"'}
            registry.fail("GET", "/blobs/", Refuse(401, headers=challenge))
        case "location":
            registry.fail("POST", "/uploads/", WithHeaders({"Location": f"{internal.url}/x"}))
        case _:
            repository = open_at(tenants_client, internal)

    with pytest.raises(Invalid) as refused:
        (upload if way == "location" else read)(repository)

    assert refused.value.code == "address-refused"
    assert internal.connections == 0


def test_a_registry_and_its_storage_may_be_in_its_private_networks(
    registry: RegistrySimulator, internal: RegistrySimulator
) -> None:
    networks = (ip_network("127.0.0.1/32"), ip_network("127.0.0.2/32"))
    registry.fail("GET", "/blobs/", Redirect(f"{internal.url}/v2/team/app/blobs/{LAYER.digest}"))
    client = Registries({registry.address: RegistrySettings(plain_http=True, allowed_networks=networks)})

    with closing(client):
        assert read(open_at(client, registry)) == LAYER.content


@pytest.mark.parametrize("is_named", [False, True])
def test_the_urls_in_an_image_lead_into_no_private_network_unless_the_host_is_named(
    registry: RegistrySimulator,
    other: RegistrySimulator,
    is_named: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """Whoever may push to an internal registry writes them."""
    other.fail("GET", "/base", OtherBytes(LAYER.content))
    settings = RegistrySettings(
        plain_http=True,
        allowed_networks=(LOOPBACK,),
        other_hosts=(other.address,) if is_named else (),
        credentials=MARKER,
    )
    blob = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size, urls=(f"{other.url}/base",))
    with closing(Registries({registry.address: settings}, retries=AT_ONCE)) as client:
        repository = open_at(client, registry)
        if is_named:
            with read_foreign(repository, blob, memoryview(bytearray(65536))) as reader:
                assert b"".join(bytes(piece) for piece in reader.pieces()) == LAYER.content
        else:
            with pytest.raises(Invalid, match="which is not a public address"):
                read_foreign(repository, blob, memoryview(bytearray(65536)))

    assert ["authorization" in each.headers for each in other.requests] == ([False] if is_named else [])


def test_the_urls_in_an_image_of_the_private_registry_lead_into_no_private_network(
    registry: RegistrySimulator, other: RegistrySimulator
) -> None:
    settings = RegistrySettings(plain_http=True, any_address=True)
    blob = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size, urls=(f"{other.url}/base",))
    with (
        closing(Registries({registry.address: settings}, retries=AT_ONCE)) as client,
        pytest.raises(Invalid, match="which is not a public address"),
    ):
        read_foreign(open_at(client, registry), blob, memoryview(bytearray(65536)))

    assert other.connections == 0


def test_a_denied_network_is_closed_to_registries_that_are_not_allowed_it(
    registry: RegistrySimulator,
) -> None:
    denied = (ip_network("127.0.0.1/32"),)
    for allowed, codes in (((), ["address-refused"]), (denied, [])):
        settings = RegistrySettings(plain_http=True, allowed_networks=allowed)
        found: list[str] = []
        with closing(
            Registries({registry.address: settings}, denied_networks=denied, retries=AT_ONCE)
        ) as client:
            try:
                open_at(client, registry).find_blob(BLOB.digest)
            except DockerCacheError as error:
                found.append(error.code)
        assert found == codes


# Identity tokens


@pytest.mark.parametrize("is_named", [False, True])
def test_an_identity_token_goes_to_another_host_only_if_the_operator_named_it(
    registry: RegistrySimulator,
    other: RegistrySimulator,
    is_named: bool,  # noqa: FBT001 - a parameter of pytest
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    tls = tls_of(authority.server("127.0.0.1"))
    with registries.serve(tls=tls) as home, registries.serve(tls=tls) as realm:
        home.login = TokenLogin(anonymous=False, realm=f"{realm.url}/token")
        put(home)
        realm.login = TokenLogin(anonymous=False, identity_token="marker-password")
        realm.tokens = home.tokens  # they belong together
        settings = RegistrySettings(
            ca_file=authority.certificate,
            allowed_networks=(LOOPBACK,),
            other_hosts=(realm.address,) if is_named else (),
        )
        with closing(Registries({home.address: settings}, retries=AT_ONCE)) as client:
            if is_named:
                assert open_at(client, home, TOKEN).fetch_manifest("1").raw == SAMPLE.manifest.content
            else:
                with pytest.raises(Denied) as refused:
                    open_at(client, home, TOKEN).fetch_manifest("1")
                assert (refused.value.code, home.address in refused.value.detail) == ("realm-refused", True)

    assert realm.count("POST") == int(is_named)
    assert realm.connections == int(is_named)


def test_an_identity_token_goes_to_the_registrys_own_token_server(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin(anonymous=False, identity_token="marker-password")
    put(registry)

    assert open_repository(credentials=TOKEN).fetch_manifest("1").raw == SAMPLE.manifest.content


def test_the_token_server_of_docker_hub_belongs_to_it() -> None:
    home = home_of("docker.io", RegistrySettings(), {})

    assert home.includes(parse_url("https://auth.docker.io/token").origin)
    assert home.includes(parse_url("https://registry-1.docker.io/v2/").origin)
    assert not home.includes(parse_url("http://auth.docker.io/token").origin)
    assert not home.includes(parse_url("https://auth.docker.io.example/token").origin)


# Limits of traffic


def test_limits_and_certificates_are_those_of_the_session() -> None:
    files = TlsFiles(Path("/ca"), Path("/cert"), Path("/key"))
    settings = RegistrySettings(
        ca_file=files.ca,
        client_cert_file=files.certificate,
        client_key_file=files.key,
        limits=TrafficLimits(connections=1),
        other_hosts=("storage.example:9000",),
    )
    configured = configured_origins([("R.Example:0443", settings), ("other.example", RegistrySettings())])
    home = home_of("r.example", settings, configured)
    origin = {
        name: parse_url(f"https://{name}/").origin
        for name in ("R.example.", "storage.example:9000", "cdn.example", "other.example:443")
    }

    assert home.route(origin["R.example."]) == Route(files, "r.example")
    assert home.route(origin["storage.example:9000"]) == Route(
        TlsFiles(files.ca), "https://storage.example:9000"
    )
    assert home.route(origin["cdn.example"]) == Route(TlsFiles(), "https://cdn.example")
    with pytest.raises(Invalid) as refused:
        home.route(origin["other.example:443"])
    assert refused.value.code == ErrorCode.ORIGIN_REFUSED


def test_a_registry_of_the_config_is_refused_by_any_scheme_at_its_port() -> None:
    configured = configured_origins(
        [("r.example:5000", RegistrySettings(plain_http=True)), ("https://odd", RegistrySettings())]
    )
    foreign = home_of("tenant.example", RegistrySettings(), configured)

    for scheme in ("http", "https"):
        with pytest.raises(Invalid, match=r"r\.example:5000"):
            foreign.route(parse_url(f"{scheme}://r.example:5000/v2/").origin)


def test_docker_hub_is_refused_under_each_of_its_names_where_the_config_has_it() -> None:
    configured = configured_origins([("index.docker.io", RegistrySettings())])
    tenants, hub = (home_of(name, RegistrySettings(), configured) for name in ("tenant.example", "docker.io"))

    for host in ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"):
        origin = parse_url(f"https://{host}/v2/").origin
        with pytest.raises(Invalid) as refused:
            tenants.route(origin)
        assert refused.value.code == ErrorCode.ORIGIN_REFUSED
        assert hub.route(origin).tls == TlsFiles()


def test_the_settings_of_a_registry_are_found_in_every_spelling_of_its_host() -> None:
    settings = {"R.example:443": RegistrySettings(limits=TrafficLimits(connections=1))}
    with closing(Registries(settings)) as client:
        found = [
            client.settings_of(each)
            for each in ("r.example", "r.example:0443", "R.EXAMPLE:443", "r.example.:443")
        ]
        other = client.settings_of("r.example:5000")

    assert found == [settings["R.example:443"]] * 4
    assert other == RegistrySettings()


# Redirected writes


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("kind", ["list", "repeatable"])
def test_a_redirected_upload_is_sent_again_with_its_body(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int, kind: str
) -> None:
    registry.fail("POST", "/uploads/", Redirect("/v2/new/app/blobs/uploads/", status))
    repository = open_repository("new/app:1")
    pieces = [memoryview(LAYER.content)[:300], memoryview(LAYER.content)[300:]]
    session = repository.uploads.start(BLOB.digest)
    moved = f"{session.target}&moved=1&digest=sha256%3A{BLOB.digest.hex}"
    registry.fail("PUT", "/uploads/", Redirect(moved, status))

    repository.uploads.upload(session, BLOB, pieces if kind == "list" else Repeatable(lambda: iter(pieces)))

    assert registry.store.find_blob("new/app", LAYER.digest) == LAYER.content
    assert [(each.method, each.status) for each in registry.requests] == [
        ("POST", status),
        ("POST", 202),
        ("PUT", status),
        ("PUT", 201),
    ]
    assert registry.requests[-1].headers["content-length"] == str(len(LAYER.content))


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirected_manifest_is_sent_again_with_its_login(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    put(registry)
    registry.login = TokenLogin({"alice": "marker-password"})
    registry.fail("PUT", "/manifests/2", Redirect("/v2/team/app/manifests/2?moved=1", status))
    repository = open_repository(credentials=MARKER)

    repository.push_manifest(repository.fetch_manifest("1"), "2")

    assert registry.store.find_manifest("team/app", "2") is not None
    assert registry.requests[-1].path.endswith("?moved=1")
    assert "authorization" in registry.requests[-1].headers


def test_a_redirected_deletion_is_followed(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    put(registry)
    target = f"/v2/team/app/manifests/{SAMPLE.manifest.digest}?moved=1"
    registry.fail("DELETE", "/manifests/", Redirect(target))

    open_repository().delete_manifest(parse_digest(SAMPLE.manifest.digest))

    assert registry.store.find_manifest("team/app", "1") is None


@pytest.mark.parametrize("write", [upload, push])
def test_a_write_is_redirected_to_no_other_origin(
    registry: RegistrySimulator,
    other: RegistrySimulator,
    open_repository: OpenRepository,
    write: Callable[[Repository], None],
) -> None:
    """Its body is an image that perhaps nobody else may read."""
    put(registry)
    registry.fail("PUT", "/v2/", Redirect(f"{other.url}/take"), times=None)

    with pytest.raises(Invalid, match="name that host in other_hosts") as refused:
        write(open_repository())

    assert refused.value.code == ErrorCode.REDIRECT_REFUSED
    assert other.requests == []


@pytest.mark.parametrize("write", [upload, push])
def test_a_write_is_redirected_to_a_host_that_the_operator_named_without_the_login(
    registry: RegistrySimulator, other: RegistrySimulator, write: Callable[[Repository], None]
) -> None:
    put(registry)
    registry.login = TokenLogin({"alice": "marker-password"})
    settings = RegistrySettings(plain_http=True, any_address=True, other_hosts=(other.address,))
    registry.fail("PUT", "/v2/", Redirect(f"{other.url}/take?sig=1"))
    other.fail("PUT", "/take", Refuse(201))
    with closing(Registries({registry.address: settings}, retries=AT_ONCE)) as client:
        write(open_at(client, registry, MARKER))

    content = LAYER.content if write is upload else SAMPLE.manifest.content
    assert [each.path for each in other.requests] == ["/take?sig=1"]
    assert other.requests[0].headers["content-length"] == str(len(content))
    assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_makes_a_write_a_read_is_not_followed(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("POST", "/uploads/", Redirect("/v2/team/app/blobs/uploads/", status))

    with pytest.raises(Invalid, match=f"status {status}"):
        open_repository().uploads.start(BLOB.digest)

    assert [each.method for each in registry.requests] == ["POST"]


def test_a_loop_of_redirected_writes_ends(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("POST", "/uploads/", Redirect("/v2/team/app/blobs/uploads/"), times=None)
    with pytest.raises(Invalid, match="redirects too often"):
        open_repository().uploads.start(BLOB.digest)
    posts = registry.count("POST")
    registry.faults.clear()
    session = open_repository().uploads.start(BLOB.digest)
    registry.fail("PUT", "/uploads/", Redirect(session.target), times=None)

    with pytest.raises(DockerCacheError):
        open_repository().uploads.upload(session, BLOB, [memoryview(LAYER.content)])

    assert (posts, registry.count("PUT")) == (11, 11)


def test_a_process_that_is_not_active_any_more_changes_nothing_in_a_registry(
    registry: RegistrySimulator,
) -> None:
    """Another instance may have given an app the copy that this one was about to delete."""
    put(registry)
    questions = list[str]()

    def refuse() -> None:
        questions.append("may I?")
        raise LeaseLost("another instance is active")

    settings = {registry.address: RegistrySettings(plain_http=True, allowed_networks=(LOOPBACK,))}
    policy = ClientPolicy(check_active=refuse)
    with closing(Registries(settings, timeouts=PATIENT, retries=AT_ONCE, policy=policy)) as client:
        repository = client.repository(
            parse_image_reference(f"{registry.address}/team/app:1"), None, Cancellation()
        )
        digest = repository.head_manifest("1").digest
        assert digest is not None
        with pytest.raises(LeaseLost):
            repository.delete_manifest(digest)
        with pytest.raises(LeaseLost):
            repository.uploads.push(BLOB, LAYER.content)

    assert {each.method for each in registry.requests} <= {"GET", "HEAD"}
    assert len(questions) == 2, "nobody asks again"
