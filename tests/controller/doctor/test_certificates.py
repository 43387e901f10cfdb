"""Certificate files as operators leave them; what peers make of them is in the tests of each peer."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from controller.certificate_files import CertificateFile, certificate_files
from controller.doctor.certificates import check_certificates, look_at_file
from controller.doctor.findings import Finding, Level
from tests.controller.doctor.conftest import Settings, all_of, config_of, the_one
from tests.simulators.certificates import Authority, Certificates, Pair

NOW = datetime.now(UTC)


def look(path: Path, key: Path | None = None) -> tuple[Finding, ...]:
    return look_at_file(CertificateFile("bbs_client_cert_file", path, "bbs_client_key_file", key), NOW)


def test_a_good_pair_is_one_line_with_subject_and_days(certificates: Certificates) -> None:
    pair = certificates.client
    (found,) = look(pair.certificate, pair.key)

    assert found.level is Level.OK
    assert found.text.startswith(f"bbs_client_cert_file {pair.certificate}: CN=client, 36")
    assert found.text.endswith(" days left")
    assert found.advice == ""


def test_an_expired_certificate_is_a_problem(certificates: Certificates) -> None:
    pair = certificates.expired_client
    (found,) = look(pair.certificate, pair.key)

    assert found.level is Level.PROBLEM
    assert "CN=expired-client expired on 20" in found.text
    assert found.advice == "renew it"


def test_a_certificate_of_the_future_is_a_problem_and_the_clock_is_suspected(tmp_path: Path) -> None:
    pair = Authority(tmp_path).client("c", not_before=NOW + timedelta(days=1))
    (found,) = look(pair.certificate, pair.key)

    assert found.level is Level.PROBLEM
    assert f"is not valid before {NOW + timedelta(days=1):%Y-%m-%d %H:%M} UTC" in found.text
    assert "clock" in found.advice


@pytest.mark.parametrize(("days", "level"), [(29, Level.WARNING), (31, Level.OK)])
def test_a_certificate_that_ends_within_thirty_days_is_a_warning(
    days: int, level: Level, tmp_path: Path
) -> None:
    pair = Authority(tmp_path).client("c", days=days)
    (found,) = look(pair.certificate)

    assert found.level is level
    assert f"{days - 1} days left" in found.text or f"{days} days left" in found.text


def test_of_several_certificates_the_worst_counts(certificates: Certificates, tmp_path: Path) -> None:
    soon = Authority(tmp_path).client("c", file="soon", days=12)
    bundle = tmp_path / "bundle.crt"
    good = [certificates.ca, soon.certificate, certificates.foreign_ca]
    bundle.write_bytes(b"".join(path.read_bytes() for path in good))

    (found,) = look(bundle)
    assert found.level is Level.WARNING
    assert "CN=soon" in found.text
    assert "(the worst of 3 certificates)" in found.text

    bundle.write_bytes(bundle.read_bytes() + certificates.expired_client.certificate.read_bytes())
    (found,) = look(bundle)
    assert found.level is Level.PROBLEM
    assert "CN=expired-client expired on" in found.text


def test_of_several_good_certificates_the_first_to_end_is_named(
    certificates: Certificates, tmp_path: Path
) -> None:
    first = Authority(tmp_path).client("c", file="first", days=100)
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(certificates.ca.read_bytes() + first.certificate.read_bytes())

    (found,) = look(bundle)

    assert (found.level, "CN=first" in found.text) == (Level.OK, True)


def test_the_key_of_another_certificate_is_a_problem_and_both_files_are_named(
    certificates: Certificates,
) -> None:
    good, wrong = look(certificates.client.certificate, certificates.server.key)

    assert good.level is Level.OK
    assert wrong.level is Level.PROBLEM
    assert wrong.text == (
        f"bbs_client_key_file {certificates.server.key} does not belong to "
        f"bbs_client_cert_file {certificates.client.certificate}"
    )
    assert "bbs_client_cert_file" in wrong.advice


def encrypted(pair: Pair, directory: Path) -> Path:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    path = directory / "locked.key"
    locked = serialization.BestAvailableEncryption(b"marker-password")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return path


def test_a_key_with_a_password_is_a_problem(certificates: Certificates, tmp_path: Path) -> None:
    _, found = look(certificates.client.certificate, encrypted(certificates.client, tmp_path))

    assert (found.level, found.text.endswith("locked.key is encrypted")) == (Level.PROBLEM, True)
    assert "not encrypted" in found.advice


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_file_of_another_kind_is_a_problem(
    content: bytes, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "odd.key").write_bytes(content)
    _, found = look(certificates.client.certificate, tmp_path / "odd.key")

    assert (found.level, found.text.endswith("odd.key cannot be read as a key")) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_file_of_another_kind_is_a_problem(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.crt").write_bytes(content)
    (found,) = look(tmp_path / "odd.crt")

    assert (found.level, found.text.endswith("cannot be read as certificates")) == (Level.PROBLEM, True)
    assert found.advice


def test_files_that_are_gone_are_named(certificates: Certificates, tmp_path: Path) -> None:
    (no_certificate,) = look(tmp_path / "gone.crt")
    _, no_key = look(certificates.client.certificate, tmp_path / "gone.key")

    assert "gone.crt cannot be read by this user: No such file" in no_certificate.text
    assert "gone.key cannot be read by this user: No such file" in no_key.text
    assert no_certificate.level is no_key.level is Level.PROBLEM


async def test_the_files_of_commands_need_not_be_readable_for_the_daemons_user(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    copies = Pair(tmp_path / "admin.crt", tmp_path / "admin.key")
    copies.certificate.write_bytes(certificates.client.certificate.read_bytes())
    copies.key.write_bytes(certificates.client.key.read_bytes())
    settings |= {
        "admin_address": "127.0.0.1:1",
        "admin_ca_cert_file": str(certificates.ca),
        "admin_server_cert_file": str(certificates.server.certificate),
        "admin_server_key_file": str(certificates.server.key),
        "admin_client_cert_file": str(copies.certificate),
        "admin_client_key_file": str(copies.key),
    }
    config = await config_of(settings)
    copies.key.unlink()

    found = the_one(await all_of(check_certificates(config)))

    assert found.level is Level.WARNING
    assert found.text.startswith(f"admin_client_key_file {copies.key} cannot be read by this user: ")
    assert found.advice == "give whoever runs commands read access to it"


async def test_every_file_of_the_config_is_looked_at_once(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    pair = certificates.client
    for_locket = await asyncio.to_thread(lambda: Authority(tmp_path).client("locket"))
    client = {"client_cert_file": str(pair.certificate), "client_key_file": str(pair.key)}
    settings["cache_registry"] |= {"ca_cert_file": str(certificates.foreign_ca)}
    settings["registries"] = [{"address": "r.example", "ca_cert_file": str(certificates.ca), **client}]
    settings |= {
        "uuid": "vm-1",
        "locket_address": "127.0.0.1:1",
        "locket_ca_cert_file": str(certificates.ca),
        "locket_client_cert_file": str(for_locket.certificate),
        "locket_client_key_file": str(for_locket.key),
        "admin_address": "127.0.0.1:1",
        "admin_ca_cert_file": str(certificates.ca),
        "admin_server_cert_file": str(certificates.server.certificate),
        "admin_server_key_file": str(certificates.server.key),
        "admin_client_cert_file": str(certificates.foreign_client.certificate),
        "admin_client_key_file": str(certificates.foreign_client.key),
    }
    config = await config_of(settings)

    names = [file.name for file in certificate_files(config)]
    findings = await all_of(check_certificates(config))

    assert names == [
        "bbs_ca_cert_file",
        "bbs_client_cert_file",
        "cache_registry.ca_cert_file",
        "locket_client_cert_file",
        "admin_server_cert_file",
        "admin_client_cert_file",
    ]
    assert names == [finding.text.partition(" ")[0] for finding in findings]
    assert {Level.OK} == {finding.level for finding in findings}
    assert {"certificates"} == {finding.check for finding in findings}


async def test_files_of_a_registry_are_named_by_its_address(
    settings: Settings, certificates: Certificates
) -> None:
    settings["registries"] = [{"address": "r.example", "ca_cert_file": str(certificates.foreign_ca)}]

    names = [file.name for file in certificate_files(await config_of(settings))]

    assert names[-1] == "registries[r.example].ca_cert_file"
