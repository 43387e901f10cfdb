"""The keys of the Loggregator agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.certificate_files import certificate_files
from controller.config import ConfigError, load_config
from controller.exposed_files import exposed_files
from controller.preflight import problems_of
from tests.simulators.certificates import make_certificates

Write = Callable[[object], Path]


@pytest.fixture
def loggregator(tmp_path: Path) -> dict[str, Any]:
    """The keys as a job of the family has them."""
    return {
        "loggregator_use_v2_api": True,
        "loggregator_api_port": 3458,
        "loggregator_ca_path": f"{tmp_path}/ca.crt",
        "loggregator_cert_path": f"{tmp_path}/client.crt",
        "loggregator_key_path": f"{tmp_path}/client.key",
        "loggregator_job_deployment": "cf",
        "loggregator_job_name": "scheduler",
        "loggregator_job_index": "3a1f9d2c",
        "loggregator_job_ip": "10.0.0.9",
        "loggregator_job_origin": "docker_cache",
        "loggregator_source_id": "docker_cache",
        "loggregator_instance_id": "3a1f9d2c",
    }


def test_the_keys_are_those_of_the_family(
    write: Write, values: dict[str, Any], loggregator: dict[str, Any]
) -> None:
    config = load_config(write(values | {"loggregator": loggregator})).loggregator

    assert (config.loggregator_use_v2_api, config.address) == (True, "127.0.0.1:3458")


def test_nothing_is_sent_by_default(write: Write, values: dict[str, Any]) -> None:
    assert not load_config(write(values)).loggregator.loggregator_use_v2_api
    off = load_config(write(values | {"loggregator": {"loggregator_use_v2_api": False}}))
    assert off.loggregator.loggregator_api_port == 3458


def test_its_files_are_needed_where_it_is_used(
    write: Write, values: dict[str, Any], loggregator: dict[str, Any]
) -> None:
    del loggregator["loggregator_ca_path"], loggregator["loggregator_key_path"]
    with pytest.raises(ConfigError, match="needs loggregator_ca_path, loggregator_key_path"):
        load_config(write(values | {"loggregator": loggregator}))


def test_keys_that_only_cells_have_are_refused(write: Write, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="loggregator_app_metric_exclusion_filter"):
        load_config(write(values | {"loggregator": {"loggregator_app_metric_exclusion_filter": ["cpu"]}}))


def test_files_that_cannot_be_used_are_found_before_the_start(
    write: Write, values: dict[str, Any], loggregator: dict[str, Any], tmp_path: Path
) -> None:
    found = list(problems_of(load_config(write(values | {"loggregator": loggregator}))))
    off = list(problems_of(load_config(write(values))))

    assert f"loggregator.loggregator_ca_path: {tmp_path}/ca.crt holds no CA certificates in PEM" in found
    assert any(
        each.startswith("loggregator.loggregator_cert_path, loggregator.loggregator_key_path: ")
        for each in found
    )
    assert not any(each.startswith("loggregator") for each in off)


def test_its_certificates_and_its_key_are_watched(
    write: Write, values: dict[str, Any], loggregator: dict[str, Any], tmp_path: Path
) -> None:
    made = make_certificates(tmp_path / "made")
    own = tmp_path / "own.key"
    own.write_bytes(made.client.key.read_bytes())
    own.chmod(0o644)
    loggregator |= {
        "loggregator_ca_path": str(made.ca),
        "loggregator_cert_path": str(made.client.certificate),
        "loggregator_key_path": str(own),
    }
    config = load_config(write(values | {"loggregator": loggregator}))

    names = {each.name: each.key_name for each in certificate_files(config)}
    assert names["loggregator.loggregator_ca_path"] == ""
    assert names["loggregator.loggregator_cert_path"] == "loggregator.loggregator_key_path"
    assert "loggregator.loggregator_key_path" in {each.name for each in exposed_files(config)}
