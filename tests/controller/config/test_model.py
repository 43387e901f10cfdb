"""The keys of the config file: what each accepts, and what goes together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.config import ConfigError, load_config

Write = Callable[[object], Path]


def test_a_file_with_the_required_keys_is_enough(write: Write, values: dict[str, Any]) -> None:
    config = load_config(write(values))

    assert config.sync_interval == 30.0
    assert config.cache_repositories.address == "cache.example:8080"
    assert (config.admin_address, config.start_paused) == (None, False)


def test_a_new_store_may_begin_paused(write: Write, values: dict[str, Any]) -> None:
    assert load_config(write(values | {"start_paused": True})).start_paused


SERVER = "postgresql://docker_cache@db.example/store"

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"bbs_adress": "x"}, "bbs_adress: unknown key"),
    "a missing key": ({"bbs_address": None}, "bbs_address: "),
    "a missing file": ({"bbs_ca_cert_file": "/none/ca.crt"}, "bbs_ca_cert_file: cannot read /none/ca.crt"),
    "a relative path": ({"bbs_ca_cert_file": "ca.crt"}, "bbs_ca_cert_file: ca.crt is not an absolute path"),
    "plain http to the BBS": ({"bbs_address": "http://bbs:8889"}, "bbs_address: "),
    "a number as a duration": (
        {"sync_interval": 30},
        'sync_interval: write a duration with its unit, such as "30s"',
    ),
    "a duration of nothing": ({"sync_interval": "0s"}, "sync_interval: "),
    "a debug server for other machines": (
        {"debug_address": "10.0.0.9:17093"},
        "debug_address: the host of 10.0.0.9:17093 is no loopback address",
    ),
    "another form of time": ({"time_format": "iso"}, "time_format: "),
    "another database": ({"database_url": "oracle://x"}, "database_url: write sqlite:/// and the absolute"),
    "a database in memory": (
        {"database_url": "sqlite://"},
        "database_url: write sqlite:/// and the absolute",
    ),
    "a server without a journal key": ({"database_url": SERVER}, "journal_key_file: a database on a server"),
    "an unknown mode": ({"cache": "some"}, "cache: "),
    "a pattern that can match nothing": ({"deny_images": ["busybox"]}, "'busybox' matches nothing"),
    "an address read as Docker Hub": (
        {"cache_registry": {"address": "cache"}},
        "is not read as a private registry",
    ),
    "an address that cells do not accept": (
        {"cache_registry": {"address": "docker_cache.example:5000"}},
        "cache_registry.address: cells accept no '_' in a host name",
    ),
    "a template without a GUID": ({"cache_repository_template": "x:latest"}, "has no {guid} in it"),
    "a user name without a password": ({"cache_pull_username": "u"}, "must be given together"),
    "a password file that is missing": (
        {"cache_registry": {"address": "c.example:1", "username": "u", "password_file": "/none"}},
        "cache_registry.password_file: cannot read /none",
    ),
    "a platform that is none": ({"platforms": "amd64"}, "platforms: "),
    "too many copies": ({"max_copies": 1000}, "max_copies: "),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES.keys())
def test_a_wrong_value_is_refused_with_its_key(
    write: Write, values: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(values | change))

    assert expected in str(refused.value)


class TestDatabaseServer:
    @pytest.fixture
    def on_server(self, values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
        for name in ("key", "password"):
            (tmp_path / name).write_text("x\n")
        return values | {"database_url": SERVER, "journal_key_file": str(tmp_path / "key")}

    @pytest.mark.parametrize("driver", ["postgresql", "postgres", "mysql", "mariadb"])
    def test_each_kind_is_one(self, write: Write, on_server: dict[str, Any], driver: str) -> None:
        config = load_config(write(on_server | {"database_url": f"{driver}://u@db.example/store"}))

        assert config.has_database_server

    def test_one_that_is_not_verified_is_warned_of(self, write: Write, on_server: dict[str, Any]) -> None:
        assert "database_ca_cert_file" in "".join(load_config(write(on_server)).warnings)

    def test_a_password_in_the_url_is_warned_of_and_not_shown(
        self, write: Write, on_server: dict[str, Any]
    ) -> None:
        config = load_config(write(on_server | {"database_url": "mysql://u:hunter2@db.example/store"}))

        assert "it has a password" in "".join(config.warnings)
        assert "hunter2" not in repr(config) + "".join(config.warnings)

    def test_two_passwords_are_refused(self, write: Write, on_server: dict[str, Any], tmp_path: Path) -> None:
        twice = {
            "database_url": "mysql://u:hunter2@db.example/store",
            "database_password_file": str(tmp_path / "password"),
        }
        with pytest.raises(ConfigError, match="it has a password, and") as refused:
            load_config(write(on_server | twice))
        assert "hunter2" not in f"{refused.value}{refused.value.__cause__}"

    def test_keys_of_a_server_beside_a_file_are_warned_of(
        self, write: Write, values: dict[str, Any], on_server: dict[str, Any], tmp_path: Path
    ) -> None:
        config = load_config(write(values | {"database_password_file": str(tmp_path / "password")}))

        assert "database_password_file: only a database on a server" in "".join(config.warnings)


class TestFormerRegistries:
    def test_their_copies_are_named_as_those_of_the_present_one_unless_they_say_otherwise(
        self, write: Write, values: dict[str, Any]
    ) -> None:
        former = [
            {"address": "old.example:1"},
            {"address": "older.example:2", "repository_template": "copies:{guid}"},
        ]
        config = load_config(write(values | {"former_cache_registries": former}))

        assert [(each.address, each.template) for each in config.cache_repositories.former] == [
            ("old.example:1", config.cache_repository_template),
            ("older.example:2", "copies:{guid}"),
        ]

    @pytest.mark.parametrize("key", ["cache_registry", "registries"])
    def test_one_is_no_other_registry_at_the_same_time(
        self, write: Write, values: dict[str, Any], key: str
    ) -> None:
        same = {"address": "old.example:1"}
        other = {key: same if key == "cache_registry" else [same]}

        with pytest.raises(ConfigError, match=r"old\.example:1 is listed twice"):
            load_config(write(values | other | {"former_cache_registries": [same]}))

    def test_one_with_a_template_that_names_no_copy_is_refused(
        self, write: Write, values: dict[str, Any]
    ) -> None:
        former = [{"address": "old.example:1", "repository_template": "latest"}]

        with pytest.raises(ConfigError, match=r"has no \{guid\} in it"):
            load_config(write(values | {"former_cache_registries": former}))


class TestHosts:
    @pytest.mark.parametrize(
        ("one", "another"),
        [
            ("r.example", "r.example:443"),
            ("r.example:0443", "R.Example"),
            ("docker.io", "registry-1.docker.io"),
            ("index.docker.io", "registry.hub.docker.com"),
            ("10.0.0.1:5000", "10.1:05000"),
        ],
    )
    def test_one_registry_is_listed_once_however_it_is_spelled(
        self, write: Write, values: dict[str, Any], one: str, another: str
    ) -> None:
        values["registries"] = [{"address": one}, {"address": another}]

        with pytest.raises(ConfigError, match="is listed twice"):
            load_config(write(values))

    def test_the_private_registry_is_no_source_in_another_spelling(
        self, write: Write, values: dict[str, Any]
    ) -> None:
        values["cache_registry"] = {"address": "cache.example"}
        values["registries"] = [{"address": "Cache.example:443"}]

        with pytest.raises(ConfigError, match="is listed twice"):
            load_config(write(values))

    def test_a_registry_has_networks_and_hosts_of_its_own(self, write: Write, values: dict[str, Any]) -> None:
        values["registries"] = [
            {
                "address": "r.example",
                "allowed_networks": ["10.0.16.0/24", "fd00:1::/64"],
                "other_hosts": ["auth.r.example", "storage.r.example:9000", "[fd00:1::2]:9000"],
            }
        ]
        values["denied_networks"] = ["192.0.1.0/24"]

        config = load_config(write(values))

        (registry,) = config.registries
        assert [str(each) for each in registry.allowed_networks] == ["10.0.16.0/24", "fd00:1::/64"]
        assert registry.other_hosts == ("auth.r.example", "storage.r.example:9000", "[fd00:1::2]:9000")
        assert [str(each) for each in config.denied_networks] == ["192.0.1.0/24"]

    @pytest.mark.parametrize(
        ("network", "warns"),
        [
            ("10.0.16.0/24", False),
            ("10.0.0.0/16", False),
            ("10.0.0.0/8", True),
            ("0.0.0.0/0", True),
            ("fd00:1::/48", False),
            ("fc00::/7", True),
        ],
    )
    def test_a_wide_network_is_warned_about(
        self,
        write: Write,
        values: dict[str, Any],
        network: str,
        warns: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        values["registries"] = [{"address": "r.example", "allowed_networks": [network]}]

        found = [each for each in load_config(write(values)).warnings if "is wide" in each]

        assert bool(found) is warns
        assert all("r.example" in each and network in each for each in found)

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "https://r.example",
            "r.example/v2",
            "u@r.example",
            "r.example:",
            "r.example:0",
            "r.example:65536",
            "a b",
        ],
    )
    def test_what_is_no_host_is_refused(self, write: Write, values: dict[str, Any], host: str) -> None:
        values["registries"] = [{"address": "r.example", "other_hosts": [host]}]

        with pytest.raises(ConfigError, match="is no host with an optional port"):
            load_config(write(values))

    @pytest.mark.parametrize("address", ["r.example:443", "r.example:0443"])
    def test_the_port_of_tls_is_none_for_plain_http(
        self, write: Write, values: dict[str, Any], address: str
    ) -> None:
        values["registries"] = [{"address": address, "plain_http": True}]

        with pytest.raises(ConfigError, match="port 443 is that of TLS"):
            load_config(write(values))

    @pytest.mark.parametrize("key", ["cache_registry", "former_cache_registries"])
    def test_a_private_registry_may_be_anywhere_and_needs_no_networks(
        self, write: Write, values: dict[str, Any], key: str
    ) -> None:
        entry = {"address": "old.example:8080", "allowed_networks": ["10.0.0.0/8"]}
        values[key] = entry if key == "cache_registry" else [entry]

        with pytest.raises(ConfigError, match="allowed_networks: unknown key"):
            load_config(write(values))
