"""Certificates and passwords for registries that change on disk are used for new connections and logins."""

import shutil
import socket
import ssl
from pathlib import Path

import pytest

from controller.file_values import CHECK_EVERY, FileValue
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import ImageReference, parse_image_reference
from tests.controller.registry.conftest import AT_ONCE
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority, Pair
from tests.simulators.registry import BasicLogin, RegistrySimulator
from tests.simulators.registry.store import StoredManifest

pytestmark = pytest.mark.usefixtures("servers")

SAMPLE = images.image([images.layer(3000, 1)])


@pytest.fixture(autouse=True)
def each_look_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between two looks at files."""
    monkeypatch.setattr("controller.file_values.CHECK_EVERY", 0.0)
    assert CHECK_EVERY > 0


def put(registry: RegistrySimulator) -> ImageReference:
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)
    return parse_image_reference(f"{registry.address}/team/app:1")


def fetch(client: Registries, image: ImageReference) -> bytes:
    return client.repository(image, None, Cancellation()).fetch_manifest("1").raw


def server_tls(pair: Pair, *authorities: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    for authority in authorities:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.certificate)
    return context


def test_an_authority_that_was_removed_or_added_counts_at_once(tmp_path: Path) -> None:
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    trusted = tmp_path / "ca.pem"
    shutil.copy(own.certificate, trusted)
    with registries.serve(tls=server_tls(own.server("127.0.0.1"))) as registry:
        image = put(registry)
        settings = RegistrySettings(ca_file=trusted, any_address=True)
        client = Registries({registry.address: settings}, retries=AT_ONCE)
        assert fetch(client, image) == SAMPLE.manifest.content

        shutil.copy(other.certificate, trusted)
        with pytest.raises(Unavailable) as refused:
            fetch(client, image)
        trusted.write_bytes(other.certificate.read_bytes() + own.certificate.read_bytes())

        assert refused.value.code == "certificate"
        assert fetch(client, image) == SAMPLE.manifest.content
        client.close()


def test_a_client_certificate_is_shown_once_its_key_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, former, later = (Authority(tmp_path / name) for name in ("own", "former", "later"))
    first, second = former.client("x", file="first"), later.client("x", file="second")
    pair = Pair(tmp_path / "client.pem", tmp_path / "client.key")
    shutil.copy(first.certificate, pair.certificate)
    shutil.copy(first.key, pair.key)
    tls = server_tls(own.server("127.0.0.1"), former)
    with registries.serve(tls=tls) as registry:
        image = put(registry)
        settings = RegistrySettings(
            ca_file=own.certificate,
            client_cert_file=pair.certificate,
            client_key_file=pair.key,
            any_address=True,
        )
        client = Registries({registry.address: settings}, retries=AT_ONCE)
        before = fetch(client, image)
        shutil.copy(second.certificate, pair.certificate)
        half = fetch(client, image)
        opened = registry.connections
        shutil.copy(second.key, pair.key)
        with pytest.raises(Unavailable):  # the registry trusts the first authority only
            fetch(client, image)
        tls.load_verify_locations(later.certificate)
        after = fetch(client, image)
        client.close()

    assert before == half == after == SAMPLE.manifest.content
    assert opened == 1
    out = capsys.readouterr().out
    assert out.count("failed-to-read-changed-files") == 1


def test_a_password_that_changed_in_its_file_is_used_when_the_old_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old")
    login = FileValue((file,), lambda: Credentials("robot", Secret(file.read_text())))
    with registries.serve() as registry:
        registry.login = BasicLogin({"robot": "old"})
        image = put(registry)
        settings = RegistrySettings(plain_http=True, any_address=True, login=login)
        client = Registries({registry.address: settings}, retries=AT_ONCE)
        repository = client.repository(image, None, Cancellation())
        before = repository.fetch_manifest("1").raw
        registry.login = BasicLogin({"robot": "new"})
        with pytest.raises(Denied):
            repository.fetch_manifest("1")
        file.write_text("new")
        after = repository.fetch_manifest("1").raw
        client.close()

    assert before == after == SAMPLE.manifest.content


@pytest.fixture
def as_on_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let default contexts be as strict as those of Python 3.13, on whichever Python."""
    create = ssl.create_default_context

    def create_strict(*, cafile: str | None = None) -> ssl.SSLContext:
        tls = create(cafile=cafile)
        tls.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return tls

    monkeypatch.setattr("ssl.create_default_context", create_strict)


@pytest.mark.usefixtures("as_on_python_3_13")
def test_a_private_authority_without_key_identifiers_is_trusted(tmp_path: Path) -> None:
    own = Authority(tmp_path / "own", has_key_identifiers=False)
    with registries.serve(tls=server_tls(own.server("127.0.0.1"))) as registry:
        image = put(registry)
        settings = RegistrySettings(ca_file=own.certificate, any_address=True)
        client = Registries({registry.address: settings}, retries=AT_ONCE)

        assert fetch(client, image) == SAMPLE.manifest.content
        client.close()


@pytest.mark.usefixtures("as_on_python_3_13")
def test_the_systems_authorities_stay_under_the_strict_rules() -> None:
    assert RegistrySettings().tls.context().current().verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.usefixtures("as_on_python_3_13")
def test_the_strict_rules_would_refuse_that_authority(tmp_path: Path) -> None:
    """So the tests above test what they say."""
    own = Authority(tmp_path / "own", has_key_identifiers=False)
    strict = ssl.create_default_context(cafile=str(own.certificate))
    with registries.serve(tls=server_tls(own.server("127.0.0.1"))) as registry:
        host, _, port = registry.address.rpartition(":")
        with (
            socket.create_connection((host, int(port))) as sock,
            pytest.raises(ssl.SSLCertVerificationError, match="Key Identifier"),
        ):
            strict.wrap_socket(sock, server_hostname=host)
