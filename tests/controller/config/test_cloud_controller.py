"""The keys of Cloud Controller's API and of the UAA client."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.config import ConfigError, load_config

Write = Callable[[object], Path]


@pytest.fixture
def with_api(tmp_path: Path, values: dict[str, Any]) -> dict[str, Any]:
    (tmp_path / "uaa").write_text("a secret\n")
    return values | {
        "cloud_controller_api_url": "https://api.sys.example.com/",
        "uaa_client_id": "docker-cache",
        "uaa_client_secret_file": f"{tmp_path}/uaa",
    }


def test_without_an_api_nothing_of_it_is_needed(write: Write, values: dict[str, Any]) -> None:
    config = load_config(write(values))

    assert config.cloud_controller_api_url is config.uaa_client_id is None


def test_with_an_api_droplets_are_changed_within_half_of_its_usual_limit(
    write: Write, with_api: dict[str, Any]
) -> None:
    config = load_config(write(with_api))

    assert config.cloud_controller_api_url == "https://api.sys.example.com"
    assert config.update_droplets
    assert config.cloud_controller_requests_per_hour == 2000
    assert config.cloud_controller_background_share == 0.5
    assert config.droplet_sync_interval == 600.0
    assert not [each for each in config.warnings if "cloud_controller" in each]


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no client": (
        {"uaa_client_id": None, "uaa_client_secret_file": None},
        "cloud_controller_api_url: needs uaa_client_id, uaa_client_secret_file",
    ),
    "a client without an API": (
        {"cloud_controller_api_url": None},
        "uaa_client_id, uaa_client_secret_file: only Cloud Controller's API uses these keys",
    ),
    "a client that looks like a user": (
        {"uaa_client_id": "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e"},
        "uaa_client_id: Cloud Controller may refuse a client whose name looks like the GUID of a user",
    ),
    "a client with a colon": ({"uaa_client_id": "docker:cache"}, "uaa_client_id: "),
    "a login in the URL": (
        {"cloud_controller_api_url": "https://a:b@api.example"},
        "cloud_controller_api_url: ",
    ),
    "no URL": ({"cloud_controller_api_url": "api.example"}, "cloud_controller_api_url: "),
    "no share": ({"cloud_controller_background_share": 0}, "cloud_controller_background_share: "),
    "more than all": ({"cloud_controller_background_share": 1.1}, "cloud_controller_background_share: "),
    "hardly a request": ({"cloud_controller_requests_per_hour": 1}, "cloud_controller_requests_per_hour: "),
    "no time": ({"droplet_sync_interval": "0s"}, "droplet_sync_interval: "),
}


@pytest.mark.parametrize(("changed", "expected"), CASES.values(), ids=CASES)
def test_what_does_not_fit_is_refused(
    changed: dict[str, Any], expected: str, write: Write, with_api: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(with_api | changed))

    assert expected in str(caught.value)


def test_an_api_without_tls_is_warned_of(write: Write, with_api: dict[str, Any], tmp_path: Path) -> None:
    plain = {
        "cloud_controller_api_url": "http://127.0.0.1:9022",
        "cloud_controller_ca_cert_file": f"{tmp_path}/ca.crt",
    }

    warnings = load_config(write(with_api | plain)).warnings

    assert [each.partition(":")[0] for each in warnings if "only https" in each or "unprotected" in each] == [
        "cloud_controller_api_url",
        "cloud_controller_ca_cert_file",
    ]
