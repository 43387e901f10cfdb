"""The keys of the admin API, as the daemon reads them and as a command does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from controller.admin.client_config import load_admin_client_config
from controller.config import ConfigError, load_config

Write = Callable[[object], Path]

ADDRESS = "docker-cache.service.cf.internal:17090"
LOOPBACK = {"admin_address": "127.0.0.1:17090", "admin_without_tls": True}


@pytest.fixture
def admin(tmp_path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Everything that mutual TLS needs, at either end."""
    return {
        "admin_address": ADDRESS,
        "admin_ca_cert_file": f"{tmp_path}/ca.crt",
        "admin_server_cert_file": f"{tmp_path}/server.crt",
        "admin_server_key_file": f"{tmp_path}/server.key",
        "admin_client_cert_file": f"{tmp_path}/client.crt",
        "admin_client_key_file": f"{tmp_path}/client.key",
    }


def without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Leave some keys out."""
    return {key: value for key, value in values.items() if key not in keys}


def test_the_admin_api_listens_with_mutual_tls(
    tmp_path: Path, write: Write, values: dict[str, Any], admin: dict[str, Any]
) -> None:
    config = load_config(write(values | admin | {"admin_server_name": "docker-cache"}))

    assert (config.admin_address, config.admin_without_tls) == (ADDRESS, False)
    assert config.admin_server_key_file == tmp_path / "server.key"
    assert config.admin_server_name == "docker-cache"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_on_loopback_it_may_listen_without_tls(write: Write, values: dict[str, Any], host: str) -> None:
    config = load_config(write(values | LOOPBACK | {"admin_address": f"{host}:0"}))

    assert (config.admin_address, config.admin_without_tls) == (f"{host}:0", True)


def test_the_daemon_needs_no_client_certificate(
    write: Write, values: dict[str, Any], admin: dict[str, Any]
) -> None:
    config = load_config(write(values | without(admin, "admin_client_cert_file", "admin_client_key_file")))

    assert config.admin_client_cert_file is None


def test_the_daemon_does_not_read_what_commands_present(
    write: Write, values: dict[str, Any], admin: dict[str, Any]
) -> None:
    """The key of an operator is not the daemon's to read."""
    theirs = {"admin_client_cert_file": "/none/client.crt", "admin_client_key_file": "/none/client.key"}

    assert load_config(write(values | admin | theirs)).admin_client_key_file == Path("/none/client.key")


@pytest.mark.parametrize(
    "keys",
    [
        ("admin_ca_cert_file",),
        ("admin_server_cert_file",),
        ("admin_server_key_file",),
        ("admin_server_cert_file", "admin_server_key_file"),
        ("admin_ca_cert_file", "admin_server_cert_file", "admin_server_key_file"),
    ],
)
def test_without_a_file_of_the_daemons_it_does_not_listen(
    write: Write, values: dict[str, Any], admin: dict[str, Any], keys: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(values | without(admin, *keys)))

    assert f"\n  admin_address: needs {', '.join(keys)}, or admin_without_tls" in str(refused.value)


@pytest.mark.parametrize("key", ["admin_client_cert_file", "admin_client_key_file"])
def test_a_clients_certificate_and_key_belong_together(
    write: Write, values: dict[str, Any], admin: dict[str, Any], key: str
) -> None:
    with pytest.raises(
        ConfigError, match="admin_client_cert_file and admin_client_key_file must be given together"
    ):
        load_config(write(values | without(admin, key)))


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "[::]", "docker-cache.service.cf.internal"])
def test_nobody_else_can_reach_it_without_tls(write: Write, values: dict[str, Any], host: str) -> None:
    change = LOOPBACK | {"admin_address": f"{host}:17090"}

    for load in (load_config, load_admin_client_config):
        with pytest.raises(ConfigError, match=r"the host of admin_address, .* is no loopback"):
            load(write(values | change))


def test_files_for_tls_are_not_passed_over(
    write: Write, values: dict[str, Any], admin: dict[str, Any]
) -> None:
    """Whoever names certificates believes that they are asked for."""
    for load in (load_config, load_admin_client_config):
        with pytest.raises(ConfigError, match="admin_without_tls: remove admin_ca_cert_file, "):
            load(write(values | admin | LOOPBACK))


@pytest.mark.parametrize("address", [{}, {"admin_address": None}])
def test_keys_of_an_admin_api_that_is_not_there_are_refused(
    write: Write, values: dict[str, Any], admin: dict[str, Any], address: dict[str, Any]
) -> None:
    admin = without(admin, "admin_address") | {"admin_server_name": "x", "admin_without_tls": True}

    with pytest.raises(ConfigError, match="admin_address is missing") as refused:
        load_config(write(values | admin | address))

    assert all(key in str(refused.value) for key in admin)


def test_saying_that_tls_is_wanted_needs_no_address(write: Write, values: dict[str, Any]) -> None:
    assert not load_config(write(values | {"admin_without_tls": False})).admin_without_tls


@pytest.mark.parametrize("address", ["17090", "host", "http://host:1", "host:port", "::1:17090"])
def test_an_address_is_a_host_with_a_port(
    write: Write, values: dict[str, Any], admin: dict[str, Any], address: str
) -> None:
    for load in (load_config, load_admin_client_config):
        with pytest.raises(ConfigError, match="\n  admin_address: "):
            load(write(values | admin | {"admin_address": address}))


def test_a_command_reads_its_own_keys_and_nothing_else(
    tmp_path: Path, write: Write, admin: dict[str, Any]
) -> None:
    """An operator need not be allowed to read the daemon's files, nor have its version of the config."""
    foreign = {
        "admin_server_cert_file": "/none/server.crt",
        "admin_server_key_file": "/none/server.key",
        "bbs_address": 5,
        "bbs_client_key_file": "/none/bbs.key",
        "key_of_a_later_version": [],
    }

    config = load_admin_client_config(write(admin | foreign | {"admin_server_name": "docker-cache"}))

    assert asdict(config) == {
        "admin_address": ADDRESS,
        "admin_ca_cert_file": tmp_path / "ca.crt",
        "admin_client_cert_file": tmp_path / "client.crt",
        "admin_client_key_file": tmp_path / "client.key",
        "admin_server_name": "docker-cache",
        "admin_without_tls": False,
    }


def test_a_command_needs_no_files_where_there_is_no_tls(write: Write) -> None:
    config = load_admin_client_config(write(LOOPBACK))

    assert (config.admin_address, config.admin_without_tls) == ("127.0.0.1:17090", True)


@pytest.mark.parametrize("address", [{}, {"admin_address": None}, {"admin_address": ""}])
def test_a_command_says_what_works_where_there_is_no_admin_api(
    write: Write, values: dict[str, Any], address: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_admin_client_config(write(values | address))

    assert str(refused.value).splitlines()[1:] == [
        "  admin_address: missing: the daemon has no admin API without it; --direct works without a daemon"
    ]


@pytest.mark.parametrize("key", ["admin_ca_cert_file", "admin_client_cert_file", "admin_client_key_file"])
def test_a_command_names_the_file_that_it_misses(write: Write, admin: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"\n  {key}: missing: "):
        load_admin_client_config(write(without(admin, key)))


@pytest.mark.parametrize("key", ["admin_ca_cert_file", "admin_client_cert_file", "admin_client_key_file"])
def test_a_command_names_the_file_that_it_cannot_read(write: Write, admin: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"\n  {key}: cannot read /none/file: "):
        load_admin_client_config(write(admin | {key: "/none/file"}))


def test_a_command_may_read_a_file_with_comments(write: Write) -> None:
    text = '// for operators\n{\n  // nobody else comes there\n  "admin_without_tls": true,\n  "admin_address": "[::1]:1"\n}'

    assert load_admin_client_config(write(text)).admin_address == "[::1]:1"
