"""Runs the commands that README and documentation show, in their order, against one development environment.

A `console` block is run. One that another test module runs has `<!-- run by: the module -->` on the line above it,
and one that cannot be run has `<!-- not run: the reason -->`. So may a `shell-session` block, which is not run here.
"""

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hack.reference import every_command
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator, Row, running_apps, until_deletable
from tests.documents import PAGES, ROOT, Block, blocks, documents, inline_code
from tests.simulators import images

PROGRAM = "diego-docker-cache"
NOT_RUN = {
    "runs all tests": "hack/test",
}
"""Why a block is not run, and how each of its commands then begins."""
PLATFORM = ("bosh", "cf", "cfdot", "uaac", "grpcurl", "registry")
SYSTEM = ("journalctl", "systemctl", "systemd-analyze", "install", "useradd", "cp", "cd", "grep", "git")
OTHERS = frozenset((*PLATFORM, *SYSTEM, "skopeo", "pg_dump", "mariadb-dump"))
"""Programs of others, in blocks that nothing runs: they need a real platform, or change the machine."""
OURS = re.compile(rf"\bhack/|\b{PROGRAM} [a-z]")
"""How a command of ours begins, wherever it stands in a line."""

WRONG_USAGE = 3
GUID = "03943662-ba36-4c22-8f5b-bcaec55a8303"
HEXADECIMAL = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")
"""A GUID, or how one begins."""
EXAMPLES = {"sandbox": "acme", "prod": "acme", "prod-*": "acme*", "web-*": "web*"}
"""Names that only an example has, and those that are there."""
REFERENCE = "docker.io/library/nginx:1.27"
DEBUG_ADDRESS = "127.0.0.1:17093"
CONFIGURED = {
    name for name, command in every_command() if any(each.name == "config_path" for each in command.params)
}
"""The commands that take the daemon's config."""
STORIES = frozenset({"hack/demo", "hack/demo --tour", "hack/demo --year", "hack/demo --ha"})
"""Run by tests/test_docs.py, with what they print."""


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, start_delay=0.05, pulls=False, sync_interval=30.0, converge_interval=1.0
    ) as opened:
        opened.settings |= {"sync_interval": "1s", "start_paused": True, "log_level": "info"}
        opened.settings |= {"eviction_grace": "1s", "debug_address": f"127.0.0.1:{free_port()}"}
        opened.connect_cloud_controller()
        await running_apps(opened, "web", "worker", instances=1)
        await opened.started_daemon()
        yield opened


def all_blocks() -> Iterator[Block]:
    for path in documents():
        yield from (block for block in blocks(path) if block.language in {"console", "shell-session"})


def console_blocks() -> Iterator[Block]:
    for block in all_blocks():
        if block.language == "console" and not (block.is_of_story or block.run_by):
            yield block


def test_what_is_not_run_is_known() -> None:
    marked = [block for block in console_blocks() if block.not_run]

    assert {block.not_run for block in marked} == set(NOT_RUN)
    for block in marked:
        assert block.commands, block.where
        assert all(each.startswith(NOT_RUN[block.not_run]) for each in block.commands), block.where


def test_what_nothing_runs_is_of_others() -> None:
    never_run = [block for block in all_blocks() if block.language == "shell-session" and not block.run_by]
    commands = [(block.where, command) for block in never_run for command in block.commands]

    assert [(where, command) for where, command in commands if command.split()[0] not in OTHERS] == []
    assert [(where, command) for where, command in commands if OURS.search(command)] == []


def test_the_module_that_is_to_run_a_block_looks_for_it() -> None:
    modules = {block.run_by for block in all_blocks() if block.run_by}

    assert modules
    assert [each for each in modules if "blocks_run_by(__file__)" not in (ROOT / each).read_text()] == []


def in_sentences() -> Iterator[tuple[str, list[str]]]:
    """Find the commands that stand within sentences and tables, with their pages."""
    commands = {name.split()[0] for name, _ in every_command()}
    for path in documents():
        for code in inline_code(path):
            words = code.replace("'", "").removeprefix(f"{PROGRAM} ").split()
            if words[0] in commands or words[0].startswith("hack/"):
                yield path.relative_to(ROOT).as_posix(), words


def test_a_command_in_a_sentence_exists() -> None:
    """Its effect is what the sentence is about, so another test shows it."""
    written = [*in_sentences()]

    assert {words[0] for _, words in written} >= {"reconcile", "hack/check"}
    assert [(page, words) for page, words in written if not exists(words)] == []


def exists(words: list[str]) -> bool:
    """Whether there is such a script, or such a command with these options."""
    if words[0].startswith("hack/"):
        return (ROOT / words[0]).exists()
    found = [command for name, command in every_command() if name.split() == words[: len(name.split())]]
    options = {option for command in found for each in command.params for option in each.opts}
    named = {word.partition("=")[0] for word in words if word.startswith("-")}
    return (bool(found) or words == ["config"]) and options | {"--help"} >= named


def test_every_block_has_a_command() -> None:
    assert [block.where for block in console_blocks() if not block.commands] == []


def documented_statuses() -> dict[str, frozenset[int]]:
    """Read with which statuses each command may end."""
    page = (PAGES / "reference" / "exit-statuses.md").read_text()
    rows = re.findall(r"^\| (`[^`]+`|any other command) \| ([0-9, ]+) \|$", page, flags=re.MULTILINE)
    return {name.strip("`"): frozenset(map(int, statuses.split(","))) for name, statuses in rows}


def statuses_of(arguments: list[str]) -> frozenset[int]:
    """Find the documented statuses of a command: those of the longest row that it begins with."""
    rows = documented_statuses()
    found = [
        name
        for name in rows
        if all(part in arguments for part in name.split()) and name.split()[0] == arguments[0]
    ]
    return rows[max(found, key=len, default="any other command")]


class Typist:
    """Types what is documented."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._typed = list[list[str]]()
        self._out = ""
        self._made = 0

    async def types(self, line: str) -> str:
        """Type one line, and give what is wrong with how it ended; empty when nothing is."""
        if line.startswith("export DOCKER_CACHE_CONFIG=") or line in STORIES:
            return ""
        if line.startswith("python3 -c "):
            done = await asyncio.to_thread(
                subprocess.run, ["bash", "-c", line], cwd=self._env.directory, check=False
            )
            return "" if done.returncode == 0 else f"status {done.returncode}"
        if line.startswith("curl "):
            return await self._asks_debug_server(line)
        inner = re.fullmatch(rf'eval "\$\(({PROGRAM} [^)]+)\)"', line)
        words = shlex.split(inner[1] if inner else line.removeprefix("sudo --user vcap "))
        typed = [word for word in words if word not in {"--config", "docker_cache.json"}]
        if typed in self._typed:  # once is enough
            return ""
        self._typed.append(typed)
        for part in _parts(words):
            problem = await self._types_part(part)
            if problem:
                return problem
        return ""

    async def _asks_debug_server(self, line: str) -> str:
        """Type a request to the debug server, at the address that it has here."""
        here = line.replace(DEBUG_ADDRESS, self._env.settings["debug_address"])
        asked = await asyncio.to_thread(
            subprocess.run, [*shlex.split(here), "--fail"], capture_output=True, text=True, check=False
        )
        return "" if asked.returncode == 0 and asked.stdout else f"status {asked.returncode}: {asked.stdout}"

    async def _types_part(self, words: list[str]) -> str:
        """Type one part of a pipeline."""
        if words[0] == "jq":
            keys = re.findall(r"(?<!\w)\.([a-z_]+)", words[2])
            row = next((row for row in self._out.splitlines()), "{}")
            return "" if json.loads(row).keys() >= set(keys) else f"{row} has not all of {keys}"
        if words[0] == "xargs":
            words = [*words[1:], GUID]
        if words[0] != PROGRAM:
            return f"not known: mark it as not run, or tell {Path(__file__).name} how to run it"
        arguments = await self._prepared(words[1:])
        status, self._out, err = await self._run(arguments)
        await until(
            lambda: not any(guid.startswith("docker-cache-bridge") for guid in self._env.bbs.state.desired)
        )
        return self._judge(arguments, status, self._out + err)

    def _judge(self, arguments: list[str], status: int, text: str) -> str:
        if "Traceback" in text or "Usage:" in text or status == WRONG_USAGE:
            return f"status {status}: {text}"
        if status not in statuses_of(arguments):
            return f"status {status} is not documented: {text}"
        return "" if status in {0, 2} else f"status {status}: {text}"  # nothing is wrong in this environment

    async def _prepared(self, words: list[str]) -> list[str]:
        """Put what is there in the place of what is only an example."""
        prepared = [
            await self._actual(word, words) for word in words if word != "--watch"
        ]  # it would not end
        asks = "--apply" in words or words[0] in {"evict", "restore"}
        if asks and not {"--yes", "--out", "--dry-run"} & set(words):
            prepared.append("--yes")  # nobody is there to be asked
        named = [word for word in prepared[1:] if not word.startswith("-")]
        if words[0] == "evict" and named:
            await until_deletable(Operator(self._env), *named)
        return prepared

    async def _actual(self, word: str, words: list[str]) -> str:
        env = self._env
        if word.endswith("docker_cache.json"):
            return str(env.config_path)
        if word == "plan.jsonl":
            return str(env.directory / word)
        if word.endswith("/backup.db"):
            return str(env.directory / "backup.db")
        if word in EXAMPLES:
            return EXAMPLES[word]
        if word == REFERENCE:
            return self._push() if words[0] == "cache" else str((await self._unused_copy())["source"])
        if HEXADECIMAL.fullmatch(word):
            return str((await self._unused_copy())["cache_guid"])
        return word

    def _push(self) -> str:
        self._made += 1
        image = images.image([images.layer(500, self._made)])
        return self._env.source.push("team/spare", str(self._made), image)

    async def _unused_copy(self) -> Row:
        status, out, err = await self._run(["cache", "--follow", "--output", "json", self._push()])
        assert status == 0, err
        row: Row = json.loads(out.splitlines()[-1])
        return row

    async def _run(self, arguments: list[str]) -> tuple[int, str, str]:
        name = " ".join(arguments[:2]) if arguments[0] == "config" else arguments[0]
        needs_config = name in CONFIGURED and "--config" not in arguments
        config = ("--config", str(self._env.config_path)) if needs_config else ()
        return await self._env.run_command(*arguments, *config)


def _parts(words: list[str]) -> Iterator[list[str]]:
    """Part a line where it has a pipe, without what sends its output to a file."""
    line = words[: words.index(">")] if ">" in words else words
    begin = 0
    for end in (*(n for n, word in enumerate(line) if word == "|"), len(line)):
        yield line[begin:end]
        begin = end + 1


@pytest.mark.slow
@pytest.mark.thorough
async def test_every_documented_command_works(env: Environment) -> None:
    typist, problems = Typist(env), list[str]()

    for block in console_blocks():
        for line in () if block.not_run else block.commands:
            problem = await typist.types(line)
            if problem:
                problems.append(f"{block.where}: {line}: {problem}")

    assert not problems, "\n".join(problems)
