"""Choosing the engine in the config file: what goes together, and what the process is built of."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.config import Config, ConfigError, load_config

SOCKET = "unix:///var/run/docker.sock"


def load(directory: Path, **values: Any) -> Config:
    for name in ("ca.crt", "client.crt", "client.key"):
        (directory / name).write_text("x\n")
    path = directory / "config.json"
    required = {
        "bbs_address": "https://bbs.service.cf.internal:8889",
        "bbs_ca_cert_file": f"{directory}/ca.crt",
        "bbs_client_cert_file": f"{directory}/client.crt",
        "bbs_client_key_file": f"{directory}/client.key",
        "database_url": f"sqlite:///{directory}/cache.db",
        "cache_registry": {"address": "cache.example:8080"},
    }
    path.write_text(json.dumps(required | values))
    return load_config(path)


def test_the_docker_engine_is_chosen_with_its_socket(tmp_path: Path) -> None:
    config = load(tmp_path, engine="docker", docker_socket=SOCKET)

    assert (config.engine, config.docker_socket) == ("docker", SOCKET)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"engine": "docker"}, "needs docker_socket"),
        ({"docker_socket": SOCKET}, "needs docker_socket"),
        ({"engine": "docker", "docker_socket": "tcp://127.0.0.1:2375"}, "docker_socket: "),
        ({"engine": "docker", "docker_socket": SOCKET, "platforms": "all"}, "docker copies one platform"),
        ({"engine": "podman"}, "engine: "),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, **values)
