"""The config file: what is accepted, and how clearly everything else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.config import ConfigError, load_config, parse_duration, parse_size


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    for name in ("ca.crt", "client.crt", "client.key", "password"):
        (tmp_path / name).write_text("x\n")
    return {
        "bbs_address": "https://bbs.service.cf.internal:8889",
        "bbs_ca_cert_file": f"{tmp_path}/ca.crt",
        "bbs_client_cert_file": f"{tmp_path}/client.crt",
        "bbs_client_key_file": f"{tmp_path}/client.key",
        "database_url": f"sqlite:///{tmp_path}/cache.db",
        "cache_registry": {"address": "cache.example:8080"},
    }


def write(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    return path


def test_a_file_with_the_required_keys_is_enough(tmp_path: Path, values: dict[str, Any]) -> None:
    config = load_config(write(tmp_path, values))

    assert config.sync_interval == 30.0
    assert config.cache_repositories.address == "cache.example:8080"


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
    "another database": ({"database_url": "mysql://x"}, "database_url: only SQLite is supported"),
    "an unknown mode": ({"cache": "some"}, "cache: "),
    "a pattern that can match nothing": ({"deny_images": ["busybox"]}, "'busybox' matches nothing"),
    "an address read as Docker Hub": (
        {"cache_registry": {"address": "cache"}},
        "is not read as a private registry",
    ),
    "a template without a GUID": ({"cache_repository_template": "x:latest"}, "has no {guid} in it"),
    "a user name without a password": ({"cache_pull_username": "u"}, "belong together"),
    "a password file that is missing": (
        {"cache_registry": {"address": "c.example:1", "username": "u", "password_file": "/none"}},
        "cache_registry.password_file: cannot read /none",
    ),
    "a platform that is none": ({"platforms": "amd64"}, "platforms: "),
    "too many copies": ({"max_copies": 1000}, "max_copies: "),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES.keys())
def test_a_wrong_value_is_refused_with_its_key(
    tmp_path: Path, values: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(tmp_path, values | change))

    assert expected in str(refused.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(tmp_path, {"log_level": "loud", "extra": 1}))

    for key in ("log_level", "extra", "bbs_address", "database_url", "cache_registry"):
        assert f"\n  {key}: " in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"'])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)

    with pytest.raises(ConfigError):
        load_config(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read config file .*none\.json: No such file"):
        load_config(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("250ms", 0.25), ("2h", 7200.0), ("1.5s", 1.5)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["30", "s", "-1s", "1d", "1s ", 30, True, None, ""])
def test_a_duration_without_a_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="with its unit"):
        parse_duration(value)


@pytest.mark.parametrize(("value", "size"), [(5, 5), ("5", 5), ("4GiB", 4 << 30), ("512 MiB", 512 << 20)])
def test_sizes_are_read_in_bytes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["4GB", "-1", 1.5, True, None, ""])
def test_a_size_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write a size"):
        parse_size(value)
