"""The keys of the config file that are about registries: what they mean to a client, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.config import Config, ConfigError, load_config


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    for name in ("ca.crt", "client.crt", "client.key", "auth.json"):
        (tmp_path / name).write_text("{}\n")
    return {
        "bbs_address": "https://bbs.service.cf.internal:8889",
        "bbs_ca_cert_file": f"{tmp_path}/ca.crt",
        "bbs_client_cert_file": f"{tmp_path}/client.crt",
        "bbs_client_key_file": f"{tmp_path}/client.key",
        "database_url": f"sqlite:///{tmp_path}/cache.db",
        "cache_registry": {"address": "cache.example:8080"},
    }


def load(tmp_path: Path, values: dict[str, Any]) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    return load_config(path)


def test_nothing_is_limited_and_nothing_odd_is_done_by_default(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    config = load(tmp_path, values)

    assert config.registry_auth_file is None
    assert config.registry_traffic.model_dump() == {
        "max_connections": None,
        "max_requests_per_second": None,
        "max_bytes_per_second": None,
    }
    assert (config.verify, config.copy_foreign_layers, config.copy_referrers) == ("digest", False, False)


def test_all_keys_are_read_with_their_units(tmp_path: Path, values: dict[str, Any]) -> None:
    config = load(
        tmp_path,
        values
        | {
            "registry_auth_file": f"{tmp_path}/auth.json",
            "credential_helper_timeout": "2s",
            "registry_traffic": {"max_connections": 8, "max_bytes_per_second": "10MiB"},
            "registries": [{"address": "docker.io", "traffic": {"max_requests_per_second": 0.5}}],
            "rate_limit_floor": 20,
            "min_rate_window": "2m",
            "min_bytes_per_second": "32KiB",
            "platforms": "windows(10.0.17763)/amd64",
            "verify": "full",
            "copy_foreign_layers": True,
            "copy_referrers": True,
        },
    )

    assert config.registry_traffic.max_bytes_per_second == 10 << 20
    assert config.registries[0].traffic is not None
    assert config.registries[0].traffic.max_requests_per_second == 0.5
    assert (config.credential_helper_timeout, config.min_rate_window) == (2.0, 120.0)
    assert config.min_bytes_per_second == 32 << 10


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"registry_auth_file": "/none/auth.json"}, "registry_auth_file"),
        ({"registry_traffic": {"max_connections": 1}}, "registry_traffic.max_connections"),
        ({"registry_traffic": {"max_requests_per_second": 0}}, "registry_traffic.max_requests_per_second"),
        ({"registry_traffic": {"max_bytes_per_second": "fast"}}, "registry_traffic.max_bytes_per_second"),
        ({"registry_traffic": {"most": 1}}, "registry_traffic.most"),
        ({"rate_limit_floor": -1}, "rate_limit_floor"),
        ({"min_rate_window": 60}, "min_rate_window"),
        ({"min_bytes_per_second": 0}, "min_bytes_per_second"),
        ({"verify": "none"}, "verify"),
        ({"platforms": "windows(ten)/amd64"}, "platforms"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(
    tmp_path: Path, values: dict[str, Any], change: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, values | change)

    assert f"  {key}: " in str(refused.value)
