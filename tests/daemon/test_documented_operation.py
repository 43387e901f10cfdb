"""Runs the documented commands that start the daemon, replace its database, or work where something is away."""

import re
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import start_interpreter
from tests.databases import USER
from tests.documents import Block, blocks_run_by
from tests.own_server import run_own_server

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

PROGRAM = "diego-docker-cache"
VARYING = re.compile(r"\S+://\S+|at \S+ port [0-9]+|[0-9]+ s(?=:)|(?<=apps go on; ).*")
"""Where the server is, how long it has been away, and what waits for it."""


def documented(command: str) -> list[list[str]]:
    """Read how the pages type a command of ours, without the program."""
    return [
        shlex.split(line)[1:]
        for block in blocks_run_by(__file__)
        for line in block.commands
        if shlex.split(line)[:2] == [PROGRAM, command]
    ]


def test_all_are_run_here() -> None:
    """Each has a test below."""
    typed = [line for block in blocks_run_by(__file__) for line in block.commands]
    known = [
        words for name in ("run", "restore-backup", "migrations", "status") for words in documented(name)
    ]

    assert len(typed) == len(known)


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, start_delay=0.05, pulls=False, sync_interval=30.0, converge_interval=1.0
    ) as opened:
        opened.start = start_interpreter
        opened.settings |= {"sync_interval": "1s"}
        await running_apps(opened, "web", instances=1)
        yield opened


async def typed(env: Environment, words: list[str], **replaced: str) -> str:
    """Type a command with the config of the environment, and give what it writes."""
    status, out, err = await env.run_command(
        *(replaced.get(Path(each).stem, each) for each in words), "--config", str(env.config_path)
    )
    assert status == 0, (words, out, err)
    return out


async def test_the_daemon_is_started(env: Environment) -> None:
    commands = documented("run")
    env.write_config()

    assert commands
    for words in commands:
        config = {"docker_cache": str(env.config_path)}
        program = await env.start(
            *(config.get(Path(each).stem, each) for each in words), err=subprocess.STDOUT
        )
        daemon = DaemonProcess(program, env.directory / "daemon.log")
        await daemon.logged("watcher.listed-bbs")
        assert await daemon.stop() == 0


async def test_a_backup_is_restored(env: Environment) -> None:
    commands = documented("restore-backup")
    daemon = await env.started_daemon()
    file = str(env.directory / "backup.db")
    await typed(env, ["backup", file])

    assert {"--direct" in words for words in commands} == {True, False}
    for words in sorted(commands, key=lambda words: "--direct" in words):  # the last ones have no daemon
        if "--direct" in words and not daemon.is_over:
            assert await daemon.stop() == 0
        question = [] if "--yes" in words else ["--yes"]  # nobody is there to be asked
        await typed(env, [*words, *question], backup=file, cache=file)
    await env.started_daemon()

    assert (await Operator(env).runs("status")).row["paused"] is True


async def test_migrations_are_brought_to_their_ends_without_a_daemon(env: Environment) -> None:
    (words,) = documented("migrations")
    daemon = await env.started_daemon()
    assert await daemon.stop() == 0

    await typed(env, words)


async def test_the_status_says_that_the_database_server_is_away(env: Environment) -> None:
    (words,) = documented("status")
    (shown,) = (line for block in blocks_run_by(__file__) if is_of(block, words) for line in block.lines[1:])
    async with run_own_server() as server:
        with server.connect("postgres") as connection:
            connection.execute("CREATE DATABASE docker_cache")
        env.settings["database_url"] = f"postgresql://{USER}@127.0.0.1:{server.port}/docker_cache"
        env.settings |= {"lock_ttl": "10m", "lock_retry_interval": "3m"}  # the lock is in the database, too
        daemon = await env.started_daemon()
        await server.stop(signal.SIGINT)
        await daemon.logged("database.database-unavailable")

        out = await typed(env, words)

    (line,) = (line for line in out.splitlines() if line.startswith("database"))
    assert sentence(line) == sentence(shown)


def is_of(block: Block, words: list[str]) -> bool:
    return block.commands == (shlex.join([PROGRAM, *words]),)


def sentence(line: str) -> str:
    """Read a line without what differs from case to case."""
    return VARYING.sub("…", line)
