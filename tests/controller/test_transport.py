"""Covers the files of mutual TLS; what a connection does with them is in bbs/test_calls.py."""

import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from controller.transport import KEEP_ALIVE, client_tls, open_calls, open_streams, trusting_tls
from reconcile.errors import Invalid
from tests.simulators.certificates import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_the_peer_and_its_name_are_checked_and_old_tls_is_refused(certificates: Certificates) -> None:
    pair = certificates.client
    tls = client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)

    assert tls.check_hostname
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(tls.get_ca_certs()) == 1  # no authority of the system
    assert not tls.verify_flags & ssl.VERIFY_X509_STRICT  # a private authority may have no key identifiers


@pytest.mark.parametrize("missing", ["ca_file", "cert_file", "key_file"])
def test_a_missing_file_is_named(missing: str, certificates: Certificates, tmp_path: Path) -> None:
    pair = certificates.client
    files = {"ca_file": certificates.ca, "cert_file": pair.certificate, "key_file": pair.key}
    files[missing] = tmp_path / "missing.pem"

    with pytest.raises(Invalid, match=r"missing\.pem: No such file") as caught:
        client_tls(files["ca_file"], cert_file=files["cert_file"], key_file=files["key_file"])

    assert caught.value.system == "config"


@pytest.mark.parametrize("bad", ["ca_file", "cert_file", "key_file"])
def test_a_file_of_another_kind_is_named(bad: str, certificates: Certificates, tmp_path: Path) -> None:
    pair = certificates.client
    files = {"ca_file": certificates.ca, "cert_file": pair.certificate, "key_file": pair.key}
    files[bad] = tmp_path / "bad.pem"
    files[bad].write_text("not a certificate")

    with pytest.raises(Invalid, match=r"bad\.pem"):
        client_tls(files["ca_file"], cert_file=files["cert_file"], key_file=files["key_file"])


def test_a_certificate_with_the_key_of_another_is_refused(certificates: Certificates) -> None:
    with pytest.raises(Invalid, match=r"client\.crt and .*server\.key"):
        client_tls(
            certificates.ca, cert_file=certificates.client.certificate, key_file=certificates.server.key
        )


def test_an_encrypted_key_is_refused_instead_of_asking_for_its_password(
    certificates: Certificates, tmp_path: Path
) -> None:
    pair = certificates.client
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    with pytest.raises(Invalid, match=r"locked\.key"):
        client_tls(certificates.ca, cert_file=pair.certificate, key_file=locked)


def test_without_a_file_the_authorities_of_the_system_are_trusted_and_names_are_checked() -> None:
    tls = trusting_tls(None).known

    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2


def test_with_a_file_no_authority_of_the_system_is_trusted(
    certificates: Certificates, tmp_path: Path
) -> None:
    assert len(trusting_tls(certificates.ca).known.get_ca_certs()) == 1

    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate")
    with pytest.raises(Invalid, match=r"bad\.pem"):
        trusting_tls(bad)
    with pytest.raises(Invalid, match=r"missing\.pem: No such file"):
        trusting_tls(tmp_path / "missing.pem")


async def test_streams_do_not_mind_silence_and_calls_do(certificates: Certificates) -> None:
    pair = certificates.client
    tls = client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)
    async with (
        open_calls("https://localhost:1", tls=tls, timeout=3.0) as calls,
        open_streams("https://localhost:1", tls=tls) as streams,
    ):
        assert calls.timeout.read == 3.0
        assert calls.timeout.connect == 3.0
        assert streams.timeout.read is None
        assert streams.timeout.connect == 5.0
        assert not calls.trust_env
        assert not streams.follow_redirects


def test_a_vanished_peer_is_noticed_within_a_minute() -> None:
    with socket.socket() as connection:
        for level, option, value in KEEP_ALIVE:
            connection.setsockopt(level, option, value)
            assert connection.getsockopt(level, option) == value
    options = {option: value for _, option, value in KEEP_ALIVE}
    probes = options[socket.TCP_KEEPINTVL] * options[socket.TCP_KEEPCNT]

    assert options[socket.TCP_KEEPIDLE] + probes <= 60
