"""What the command line lists without importing it, and what each start imports."""

import asyncio
import json
import sys
from pathlib import Path

import click
import pytest

from controller.cli import COMMANDS, commands

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
