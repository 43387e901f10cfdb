"""What the command line lists without importing it, and what each start imports."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest
from cryptography.fernet import Fernet

from controller.cli import COMMANDS, commands
from tests.simulators.certificates import make_certificates

HEAVY = frozenset(
    {
        "alembic",
        "cryptography",
        "docker",
        "grpc",
        "httpx",
        "prometheus_client",
        "pydantic",
        "requests",
        "rich",
    }
    | {"sqlalchemy", "structlog", "tenacity", "urllib3", "asyncio", "google.protobuf"}
)
"""What takes a tenth of a second, or brings along what does."""

SHOW = """
import json, sys
from controller.cli import main
status = 0
try:
    main(sys.argv[2:])
except SystemExit as error:
    status = error.code or 0
with open(sys.argv[1], "w") as file:
    json.dump({"status": status, "modules": sorted(sys.modules)}, file)
"""


async def imported(tmp_path: Path, *arguments: str) -> tuple[int, set[str]]:
    """Run the program, and give its status and which of the heavy modules it has imported."""
    found = tmp_path / "modules.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SHOW, str(found), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    told = json.loads(found.read_text())
    return told["status"], set(HEAVY & set(told["modules"]))


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(commands)
    for name, place in COMMANDS.items():
        command = commands.get_command(context, name)
        assert command is not None
        assert (command.name, command.get_short_help_str(1000)) == (name, place.help)


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["run", "--help"], ["doctor", "--help"], ["completion", "bash"], ["stauts"]],
)
async def test_what_does_no_work_imports_nothing_for_it(tmp_path: Path, arguments: list[str]) -> None:
    _, modules = await imported(tmp_path, *arguments)

    assert modules == set()


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(
    "command", ["status", "images", "jobs", "apps", "migrations", "audit", "pause", "reconcile", "verify"]
)
async def test_a_command_imports_what_it_takes_to_call_the_daemon(tmp_path: Path, command: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"admin_address": "127.0.0.1:1", "admin_without_tls": True}))

    status, modules = await imported(tmp_path, command, "--config", str(config), "--output", "json")

    assert status == 5, "nobody listens there"
    assert modules - {"rich"} == {"asyncio", "grpc", "google.protobuf"}


@pytest.mark.usefixtures("servers")
async def test_an_example_config_is_written_without_what_would_run_with_it(tmp_path: Path) -> None:
    status, modules = await imported(tmp_path, "config", "example")

    assert status == 0
    assert modules == {"pydantic"}


@pytest.fixture
def whole_config(tmp_path: Path) -> Path:
    """A config in which every kind of file is named, and the database is there."""
    certificates = make_certificates(tmp_path / "certificates")
    ca, client, server = str(certificates.ca), certificates.client, certificates.server
    key, logins, database = (tmp_path / name for name in ("journal.key", "logins.json", "cache.db"))
    key.write_bytes(Fernet.generate_key())
    logins.write_text('{"auths": {}}')
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 1")
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "bbs_address": "https://127.0.0.1:1",
                "bbs_ca_cert_file": ca,
                "bbs_client_cert_file": str(client.certificate),
                "bbs_client_key_file": str(client.key),
                "database_url": f"sqlite:///{database}",
                "journal_key_file": str(key),
                "cache_registry": {"address": "127.0.0.1:1", "ca_cert_file": ca},
                "registry_auth_file": str(logins),
                "admin_address": "127.0.0.1:1",
                "admin_ca_cert_file": ca,
                "admin_server_cert_file": str(server.certificate),
                "admin_server_key_file": str(server.key),
                "metrics_address": "127.0.0.1:2",
            }
        )
    )
    return config


@pytest.mark.usefixtures("servers")
async def test_a_config_is_checked_without_what_would_run_with_it(tmp_path: Path, whole_config: Path) -> None:
    status, modules = await imported(tmp_path, "config", "check", "--config", str(whole_config))

    assert status == 0
    assert modules == {"cryptography", "pydantic"}


@pytest.mark.usefixtures("servers")
async def test_the_doctor_imports_clients_and_nothing_that_a_daemon_alone_needs(
    tmp_path: Path, whole_config: Path
) -> None:
    """Without structlog nothing can write log lines between the findings."""
    status, modules = await imported(tmp_path, "doctor", "--config", str(whole_config))

    assert status == 5, "nobody listens there"
    assert modules & {"alembic", "docker", "prometheus_client", "sqlalchemy", "structlog"} == set()
