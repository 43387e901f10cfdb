"""Runs the commands of the page about the container as it writes them, against one development environment."""

import asyncio
import json
import os
import pty
import re
import select
import shutil
import subprocess
import termios
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from controller import __version__
from tests.contracts.distribution import free_port
from tests.daemon.environment import PATIENCE, Environment, open_environment, until
from tests.daemon.operator import running_apps
from tests.deploy.image import running_dockerd
from tests.deploy.source import BUILD, Source
from tests.documents import PAGES, blocks, blocks_run_by
from tests.simulators.cloud_controller import App

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("servers"), pytest.mark.timeout(900)]

FIRST, AGAIN, *RUNNING = blocks_run_by(__file__)
"""The block that builds the image, the one that builds it again, and all that need a docker daemon."""

CLONE = "/src/diego-docker-cache"
"""Where the page has the source."""
MOUNTED = "/srv/docker-cache"
"""Where the page has what the container gets from its host."""
INSIDE = "/var/vcap/jobs/docker_cache/config/"
"""Where the container has its config."""
QUESTION = b"[y/N]: "
INSTANCES = 2
SHOWN_LINES = 20
"""Of the log, as the page asks for them."""
LONGEST = 300
"""Seconds that only a command which hangs ever takes."""


def test_the_files_of_the_page_have_the_version() -> None:
    """Those of commands that are not run have it, too."""
    named = re.findall(
        r"diego-docker-cache[-:](\d+\.\d+\.\d+)", (PAGES / "how-to" / "container.md").read_text()
    )

    assert set(named) == {__version__}


def test_the_build_says_what_the_page_shows(source: Source) -> None:
    assert FIRST.commands == (BUILD,), "it is what all tests of the image have built it with"
    _, *shown = FIRST.text.replace(CLONE, str(source.directory)).splitlines()

    assert without_digest(source.said.splitlines()) == without_digest(shown)


def without_digest(lines: list[str]) -> list[str]:
    return [re.sub(r"sha256:[0-9a-f]{64}$", "sha256", line) for line in lines]


def test_the_same_packages_give_the_same_bytes_without_a_network(source: Source, tmp_path: Path) -> None:
    """In another clone, to which somebody has brought the packages that were kept."""
    later = Source.copied(tmp_path / "clone")
    shutil.copytree(source.packages, later.packages)

    for command in AGAIN.commands:
        later.type(command, before=("unshare", "--net"))

    assert later.archive.read_bytes() == source.archive.read_bytes()


@dataclass(frozen=True, slots=True)
class Host:
    """A machine with a docker daemon, and somebody who types there.

    Attributes:
        directory: Where they type.
        environment: Of what they start.
    """

    directory: Path
    environment: Mapping[str, str]

    @property
    def mounted(self) -> Path:
        """Where it has what the container gets."""
        return self.directory / "mounted"

    async def types(self, command: str) -> str:
        """Type a command of the page, and give what is shown."""
        run = self._at_terminal if " --tty " in command else self._run
        status, shown = await asyncio.to_thread(run, command.replace(MOUNTED, str(self.mounted)))
        assert status == 0, f"{command}: status {status}: {shown}"
        return shown

    async def log(self) -> str:
        """Read the whole log of the container."""
        return (await asyncio.to_thread(self._run, "docker logs docker-cache"))[1]

    async def until_logged(self, message: str, *, count: int = 1) -> None:
        """Wait until the log has so many lines of a message.

        Raises:
            AssertionError: It has not.
        """
        end = monotonic() + PATIENCE
        while (log := await self.log()).count(f'"docker-cache.{message}"') < count:
            assert monotonic() < end, log[-3000:]
            await asyncio.sleep(0.2)

    def remove_container(self) -> None:
        """Remove the container, whether or not it is there."""
        self._run("docker rm --force docker-cache")

    def _run(self, command: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        return ended.returncode, ended.stdout

    def _at_terminal(self, command: str) -> tuple[int, str]:
        """Run a command at a terminal, and answer its question."""
        mine, its = pty.openpty()
        termios.tcsetwinsize(its, (24, 120))
        try:
            with subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=self.directory,
                env=self.environment,
                stdin=its,
                stdout=its,
                stderr=its,
                start_new_session=True,
            ) as started:
                os.close(its)
                try:
                    shown = converse(mine)
                    return started.wait(PATIENCE), shown
                finally:
                    started.kill()
        finally:
            os.close(mine)


def converse(terminal: int) -> str:
    """Read what is shown at a terminal until nobody uses it any more, and answer the question with yes.

    Raises:
        AssertionError: Somebody still uses it.
    """
    shown, is_answered, end = b"", False, monotonic() + PATIENCE
    while True:
        readable, _, _ = select.select([terminal], [], [], max(0.0, end - monotonic()))
        assert readable, shown.decode()
        try:
            part = os.read(terminal, 65536)
        except OSError:  # so Linux says that it is used no more
            return shown.decode()
        shown += part
        if QUESTION in shown and not is_answered:
            os.write(terminal, b"yes\n")
            is_answered = True


@pytest.fixture
def host(source: Source, tmp_path: Path) -> Iterator[Host]:
    if shutil.which("docker") is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("docker's command is not installed")
        pytest.skip("docker's command is not installed (Debian package docker.io)")
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "dist").symlink_to(source.directory / "dist")
    with running_dockerd() as address:
        places = {"DOCKER_HOST": address, "DOCKER_CONFIG": str(tmp_path / "docker")}
        typed_at = Host(directory, os.environ | places)
        try:
            yield typed_at
        finally:
            typed_at.remove_container()


def write_config(directory: Path, env: Environment) -> None:
    """Write the config that the pages show, and the files that it names, for one environment."""
    config = first_config_of("install.md") | first_config_of("container.md")
    files = {key: value for key, value in config.items() if key.endswith("_file")}
    assert files.keys() == {key for key in env.settings if key.endswith("_file")}
    for key, path in files.items():
        file = directory / path.removeprefix(INSIDE)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(env.settings[key], file)
    here = {key: value for key, value in env.settings.items() if key not in {*files, "database_url"}}
    ports = {key: f"127.0.0.1:{free_port()}" for key in ("healthcheck_address", "metrics_address")}
    (directory / "docker_cache.json").write_text(json.dumps(config | here | ports, indent=2))


def first_config_of(page: str) -> dict[str, Any]:
    shown = (block for block in blocks(PAGES / "how-to" / page) if block.language == "json")
    config: dict[str, Any] = json.loads(next(shown).text)
    return config


class Outcomes:
    """Sees what the page's commands have brought about."""

    def __init__(self, host: Host, env: Environment, apps: list[App]) -> None:
        self._host, self._env, self._apps = host, env, apps
        self.unseen: dict[str, Callable[[str], Awaitable[None]]] = {
            "docker run --detach ": self._runs,
            " reconcile --apply": self._has_migrated,
            " --signal HUP ": self._has_read_its_config_again,
            "docker logs ": self._has_a_log,
            " backup ": self._has_a_backup,
        }
        """What is to be seen after a command with such a part."""

    async def see(self, command: str, shown: str) -> None:
        """Wait for what a command brings about."""
        for part in [part for part in self.unseen if part in command]:
            await self.unseen.pop(part)(shown)

    async def _runs(self, shown: str) -> None:
        await self._host.until_logged("watcher.listed-bbs")
        assert not any(map(self._env.is_from_cache, self._apps))

    async def _has_migrated(self, shown: str) -> None:
        assert QUESTION.decode() in shown
        for app in self._apps:
            copy = await self._env.replaced(app)
            await until(partial(self._runs_from, app, copy))

    def _runs_from(self, app: App, rootfs: str) -> bool:
        return self._env.running_from(app, rootfs) == INSTANCES

    async def _has_read_its_config_again(self, shown: str) -> None:
        await self._host.until_logged("daemon.starting", count=2)
        await self._host.until_logged("watcher.listed-bbs", count=2)

    async def _has_a_log(self, shown: str) -> None:
        lines = shown.splitlines()
        assert 0 < len(lines) <= SHOWN_LINES
        assert {json.loads(line)["source"] for line in lines} == {"docker-cache"}

    async def _has_a_backup(self, shown: str) -> None:
        backup = self._host.mounted / "store" / "backup.db"
        assert backup.read_bytes().startswith(b"SQLite format 3")


async def test_the_commands_run_the_daemon_and_work_with_it(host: Host, tmp_path: Path) -> None:
    async with open_environment(tmp_path / "environment", start_delay=0.05) as env:
        apps = await running_apps(env, "web", "worker", instances=INSTANCES)
        write_config(host.directory, env)
        outcomes = Outcomes(host, env, apps)

        try:
            for block in RUNNING:
                for command in block.commands:
                    await outcomes.see(command, await host.types(command))
        finally:
            await asyncio.to_thread(host.remove_container)

        assert outcomes.unseen.keys() == set()
