"""What `config check` and `run` refuse before anything is opened; each test breaks one thing of a good config."""

import json
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationError

from controller.config import Config, ConfigError
from controller.preflight import load_usable_config, problems_of, warnings_of
from tests.simulators.certificates import Certificates, make_certificates

Settings = dict[str, Any]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def settings(certificates: Certificates, tmp_path: Path) -> Settings:
    """Everything that a config can name, and all of it good."""
    key, password, logins = tmp_path / "journal.key", tmp_path / "password", tmp_path / "auth.json"
    key.write_bytes(Fernet.generate_key() + b"\n" + Fernet.generate_key())
    password.write_text("secret\n")
    logins.write_text('{"auths": {}}')
    ca, client = str(certificates.ca), certificates.client
    pair = {"client_cert_file": str(client.certificate), "client_key_file": str(client.key)}
    return {
        "bbs_address": "https://bbs.example:8889",
        "bbs_ca_cert_file": ca,
        "bbs_client_cert_file": str(client.certificate),
        "bbs_client_key_file": str(client.key),
        "database_url": f"sqlite:///{tmp_path}/store/cache.db",
        "journal_key_file": str(key),
        "cache_registry": {"address": "cache.example:8080", "ca_cert_file": ca, **pair},
        "registries": [{"address": "source.example", "ca_cert_file": ca, **pair}],
        "cloud_controller_api_url": "https://api.sys.example.com",
        "cloud_controller_ca_cert_file": ca,
        "uaa_client_id": "docker-cache",
        "uaa_client_secret_file": str(password),
        "cache_pull_username": "cells",
        "cache_pull_password_file": str(password),
        "registry_auth_file": str(logins),
        "admin_address": "127.0.0.1:1",
        "admin_ca_cert_file": ca,
        "admin_server_cert_file": str(certificates.server.certificate),
        "admin_server_key_file": str(certificates.server.key),
        "metrics_address": "127.0.0.1:2",
        "metrics_ca_cert_file": ca,
        "metrics_server_cert_file": str(certificates.server.certificate),
        "metrics_server_key_file": str(certificates.server.key),
        "uuid": "vm-1",
        "locket_address": "locket.example:8891",
        "locket_ca_cert_file": ca,
        "locket_client_cert_file": str(client.certificate),
        "locket_client_key_file": str(client.key),
    }


def problems(settings: Settings) -> list[str]:
    return list(problems_of(Config.model_validate(settings)))


def the_problem(settings: Settings) -> str:
    (found,) = problems(settings)
    return found


def test_nothing_is_wrong_with_a_good_config_and_nothing_is_created(
    settings: Settings, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())

    assert problems(settings) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("bbs_ca_cert_file", lambda settings, path: settings.update(bbs_ca_cert_file=path)),
        ("bbs_client_cert_file", lambda settings, path: settings.update(bbs_client_cert_file=path)),
        ("bbs_client_key_file", lambda settings, path: settings.update(bbs_client_key_file=path)),
        (
            "cloud_controller_ca_cert_file",
            lambda settings, path: settings.update(cloud_controller_ca_cert_file=path),
        ),
        ("locket_ca_cert_file", lambda settings, path: settings.update(locket_ca_cert_file=path)),
        ("locket_client_cert_file", lambda settings, path: settings.update(locket_client_cert_file=path)),
        ("admin_ca_cert_file", lambda settings, path: settings.update(admin_ca_cert_file=path)),
        ("admin_server_cert_file", lambda settings, path: settings.update(admin_server_cert_file=path)),
        ("admin_server_key_file", lambda settings, path: settings.update(admin_server_key_file=path)),
        ("metrics_ca_cert_file", lambda settings, path: settings.update(metrics_ca_cert_file=path)),
        ("metrics_server_cert_file", lambda settings, path: settings.update(metrics_server_cert_file=path)),
        ("metrics_server_key_file", lambda settings, path: settings.update(metrics_server_key_file=path)),
        ("cache_registry.ca_cert_file", lambda s, path: s["cache_registry"].update(ca_cert_file=path)),
        (
            "cache_registry.client_cert_file",
            lambda s, path: s["cache_registry"].update(client_cert_file=path),
        ),
        ("registries.0.ca_cert_file", lambda s, path: s["registries"][0].update(ca_cert_file=path)),
        ("registries.0.client_key_file", lambda s, path: s["registries"][0].update(client_key_file=path)),
    ],
)
def test_a_file_that_is_no_pem_is_refused_by_its_key(
    key: str, change: Callable[[Settings, str], None], settings: Settings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    change(settings, str(broken))

    found = the_problem(settings)

    assert key in found.partition(": ")[0].split(", ")
    assert str(broken) in found


def test_a_key_of_another_certificate_is_refused(settings: Settings, certificates: Certificates) -> None:
    settings["bbs_client_key_file"] = str(certificates.server.key)

    assert the_problem(settings) == (
        f"bbs_client_cert_file, bbs_client_key_file: {certificates.client.certificate} and "
        f"{certificates.server.key} are not a certificate and its unencrypted key in PEM"
    )


def test_an_encrypted_key_is_refused_without_a_question(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    private = load_pem_private_key(certificates.client.key.read_bytes(), password=None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    settings["cache_registry"]["client_key_file"] = str(encrypted)

    assert the_problem(settings).startswith(
        "cache_registry.client_cert_file, cache_registry.client_key_file: "
    )


@pytest.mark.parametrize("content", ["not-a-key", "   ", "a" * 44])
def test_a_journal_key_that_is_none_is_refused_and_not_shown(
    content: str, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "journal.key").write_text(f"{content}\n")

    found = the_problem(settings)

    assert found.startswith("journal_key_file: the journal key is not 32 bytes in URL-safe base64")
    assert content not in found


@pytest.mark.parametrize(
    ("content", "said"),
    [("[]", "the login file is not a JSON object"), ("{", "the login file is not JSON")],
)
def test_a_login_file_that_is_none_is_refused(
    content: str, said: str, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "auth.json").write_text(content)

    assert the_problem(settings) == f"registry_auth_file: {said}"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "bbs_address",
            "https://bbs.example:88890",
            "bbs_address: https://bbs.example:88890: write https://",
        ),
        (
            "cloud_controller_api_url",
            "https://api.example:99999",
            "cloud_controller_api_url: https://api.example:99999: write https://",
        ),
        ("admin_address", "127.0.0.1:65536", "admin_address: 65536 is no port"),
        ("metrics_address", "127.0.0.1:99999", "metrics_address: 99999 is no port"),
        ("debug_address", "127.0.0.1:65536", "debug_address: 65536 is no port"),
        ("database_url", "sqlite:////tmp", "database_url: cannot use /tmp: it is no file"),
        (
            "database_url",
            "sqlite:////dev/null/x.db",
            "database_url: cannot use /dev/null/x.db: /dev/null is no",
        ),
        ("database_url", "sqlite:////x.db?mode=ro", "database_url: database_url has a host or options"),
    ],
)
def test_a_value_that_cannot_work_is_refused(key: str, value: str, said: str, settings: Settings) -> None:
    settings[key] = value

    assert the_problem(settings).startswith(said)


@pytest.mark.parametrize(
    ("key", "address", "said"),
    [
        ("metrics_address", "127.0.0.1:1", "metrics_address: admin_address has port 1 too"),
        ("healthcheck_address", "0.0.0.0:2", "healthcheck_address: metrics_address has port 2 too"),
        ("debug_address", "127.0.0.1:2", "debug_address: metrics_address has port 2 too"),
    ],
)
def test_two_servers_at_one_address_are_refused(
    key: str, address: str, said: str, settings: Settings
) -> None:
    assert the_problem({**settings, key: address}) == f"{said}: each server needs a port of its own"


@pytest.mark.parametrize("address", ["127.0.0.2:1", "127.0.0.1:3"])
def test_servers_at_addresses_of_their_own_are_fine(address: str, settings: Settings) -> None:
    assert problems({**settings, "healthcheck_address": address}) == []


def test_servers_whose_ports_the_system_chooses_are_fine(settings: Settings) -> None:
    assert problems({**settings, "admin_address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}) == []


def test_files_of_commands_that_fit_nothing_are_a_warning(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    client = certificates.client
    files = {"admin_client_cert_file": str(client.certificate), "admin_client_key_file": str(client.key)}
    wrong = {**files, "admin_client_key_file": str(tmp_path / "no.pem")}

    assert not any(
        "admin_client" in each for each in warnings_of(Config.model_validate({**settings, **files}))
    )
    (warning,) = [
        each for each in warnings_of(Config.model_validate({**settings, **wrong})) if "admin_client" in each
    ]
    assert warning.startswith("admin_client_cert_file, admin_client_key_file: ")
    assert problems({**settings, **wrong}) == []


def test_a_file_that_is_no_database_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cache.db").write_bytes(b"no database at all" * 100)

    assert the_problem(settings).startswith("database_url: ")
    assert "is not a SQLite database" in the_problem(settings)


def test_a_database_of_a_newer_version_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with sqlite3.connect(tmp_path / "store" / "cache.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    database.close()

    assert "written by a newer version than this one" in the_problem(settings)


def test_a_database_of_another_program_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with sqlite3.connect(tmp_path / "store" / "cache.db") as database:
        database.execute("CREATE TABLE something (x INTEGER)")
    database.close()

    assert "holds tables of another program" in the_problem(settings)


def test_a_database_that_is_still_empty_is_fine(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cache.db").touch()

    assert problems(settings) == []


@pytest.fixture
def docker(settings: Settings, tmp_path: Path, servers: None) -> Iterator[Path]:
    path = tmp_path / "d.sock"
    settings |= {"engine": "docker", "docker_socket": f"unix://{path}"}
    for key in [each for each in settings if each.startswith("locket_")]:
        del settings[key]  # with a SQLite file, there is a warning of it
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        yield path


def test_a_docker_socket_is_fine(docker: Path, settings: Settings) -> None:
    assert problems(settings) == []
    assert warnings_of(Config.model_validate(settings)) == ()


def test_a_docker_socket_that_is_a_file_is_refused(docker: Path, settings: Settings) -> None:
    docker.unlink()
    docker.touch()

    assert the_problem(settings) == f"docker_socket: {docker} is not a socket"


def test_a_docker_socket_that_is_not_there_yet_is_a_warning(docker: Path, settings: Settings) -> None:
    """The docker daemon may start after ours, and whatever needs no copy goes on without it."""
    docker.unlink()

    assert problems(settings) == []
    (warned,) = warnings_of(Config.model_validate(settings))
    assert warned.startswith(f"docker_socket: {docker} does not exist")


def test_all_that_is_wrong_is_said_at_once(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("[]")
    (tmp_path / "journal.key").write_text("x")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))

    with pytest.raises(ConfigError) as refused:
        load_usable_config(path)

    heading, *lines = str(refused.value).splitlines()
    assert heading == f"config file {path} cannot be used:"
    assert [line.partition(":")[0] for line in lines] == ["  journal_key_file", "  registry_auth_file"]


def test_no_connection_is_opened(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was asked of the network")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert problems(settings) == []


@pytest.mark.parametrize(
    ("address", "is_warned_of"),
    [
        ("localhost", True),
        ("127.0.0.1:5000", True),
        ("cache.service.cf.internal", True),
        ("cache.service.cf.internal:5000", True),
        ("cache.example", False),
        ("cache.example:5000", False),
    ],
)
def test_an_address_that_cells_may_not_reach_is_a_warning(
    address: str,
    is_warned_of: bool,  # noqa: FBT001 - a parameter of pytest
    settings: Settings,
) -> None:
    settings["cache_registry"] = {"address": address}

    warned = warnings_of(Config.model_validate(settings))

    assert any("cache_registry.address" in each for each in warned) == is_warned_of


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("[::1]:5000", "cells accept no IPv6 address"),
        ("[2001:db8::1]", "cells accept no IPv6 address"),
        ("2001:db8::1", "cells accept no IPv6 address"),
        ("::ffff:10.0.0.1", "cells accept no IPv6 address"),
        ("docker_cache.example:5000", "cells accept no '_' in a host name"),
        ("docker_cache:5000", "cells accept no '_' in a host name"),
        ("https://cache.example", "cells accept a host name of letters"),
        ("cache.example/prefix", "cells accept a host name of letters"),
        ("user:marker-password@cache.example", "cells accept a host name of letters"),
        ("-cache.example", "cells accept a host name of letters"),
        ("cache-.example", "cells accept a host name of letters"),
        ("cache.example.", "cells accept a host name of letters"),
        ("cache..example", "cells accept a host name of letters"),
        ("cäche.example", "cells accept a host name of letters"),
        ("cache.example:", "cells accept a host name of letters"),
        ("cache.example:https", "cells accept a host name of letters"),
        ("cache", "add its domain or port"),
        ("CACHE", "add its domain or port"),
        ("docker.io", "is not read as a private registry"),
    ],
)
def test_an_address_that_cells_do_not_accept_is_refused(address: str, why: str, settings: Settings) -> None:
    settings["cache_registry"]["address"] = address

    with pytest.raises(ValidationError) as refused:
        Config.model_validate(settings)

    (error,) = refused.value.errors()
    assert why in error["msg"]
    assert "cache_registry.address: " in error["msg"] or address == "docker.io"
    assert "marker-password" not in error["msg"]


@pytest.mark.parametrize(
    "address",
    [
        "cache.example",
        "cache.example:8080",
        "Cache.Example:8080",
        "10.0.0.7:5000",
        "10.0.0.7",
        "localhost",
        "cache:5000",
        "my--cache.example",
        "1.cache.example:00443",
        "cache.example:65535",
    ],
)
def test_an_address_that_cells_accept_is_used(address: str, settings: Settings) -> None:
    settings["cache_registry"]["address"] = address

    assert problems(settings) == []


def test_the_names_of_copies_have_a_length_that_cells_accept(settings: Settings) -> None:
    guid = 36
    prefix = 255 - guid - len("cache.example:8080") - 2

    settings["cache_repository_template"] = f"{'a' * prefix}/{{guid}}:latest"
    assert problems(settings) == []

    settings["cache_repository_template"] = f"{'a' * (prefix + 1)}/{{guid}}:latest"
    with pytest.raises(ValidationError, match=r"cache_repository_template: .* those of copies have 256"):
        Config.model_validate(settings)


def test_a_source_registry_may_have_an_address_that_cells_do_not_accept(settings: Settings) -> None:
    """A copy is what makes such an image run."""
    settings["registries"][0]["address"] = "[2001:db8::1]:5000"

    assert problems(settings) == []
