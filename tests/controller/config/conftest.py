"""A config file with the required keys, for tests that change it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = ("ca.crt", "client.crt", "client.key", "server.crt", "server.key", "password")


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    for name in FILES:
        (tmp_path / name).write_text("x\n")
    return {
        "bbs_address": "https://bbs.service.cf.internal:8889",
        "bbs_ca_cert_file": f"{tmp_path}/ca.crt",
        "bbs_client_cert_file": f"{tmp_path}/client.crt",
        "bbs_client_key_file": f"{tmp_path}/client.key",
        "database_url": f"sqlite:///{tmp_path}/cache.db",
        "cache_registry": {"address": "cache.example:8080"},
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    """Write a config file with this in it; text is written as it is."""
    path = tmp_path / "config.json"

    def write(content: object) -> Path:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write
