"""Backup and restore of a database that is no file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.commands.recovery_commands import backup, restore_backup
from reconcile.errors import Invalid


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a config with a database URL."""

    def write(url: str) -> Path:
        for name in ("ca.crt", "client.crt", "client.key", "journal.key"):
            (tmp_path / name).write_text("x\n")
        values = {
            "bbs_address": "https://bbs.example:8889",
            "bbs_ca_cert_file": str(tmp_path / "ca.crt"),
            "bbs_client_cert_file": str(tmp_path / "client.crt"),
            "bbs_client_key_file": str(tmp_path / "client.key"),
            "database_url": url,
            "journal_key_file": str(tmp_path / "journal.key"),
            "cache_registry": {"address": "cache.example:8080"},
        }
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.mark.parametrize(
    ("url", "tool"),
    [
        ("postgresql://u:hunter2@db.example/store", "pg_dump"),
        ("mysql://u:hunter2@db.example/store", "mysqldump"),
    ],
)
def test_a_database_on_a_server_is_left_to_the_tools_of_the_server(
    write: Callable[[str], Path], tmp_path: Path, url: str, tool: str
) -> None:
    config, file = str(write(url)), tmp_path / "backup.db"
    for command, arguments in ((backup, []), (restore_backup, ["--direct", "--yes"])):
        file.touch()
        with pytest.raises(Invalid) as refused:
            CliRunner().invoke(command, ["--config", config, *arguments, str(file)], catch_exceptions=False)
        assert refused.value.code == "database-on-server"
        assert tool in refused.value.detail
        assert "hunter2" not in refused.value.detail
