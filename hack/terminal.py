"""A terminal in which a story's commands are typed, as an operator would see them.

What it prints is shown by the documentation, and a test compares the two.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import shlex
import struct
import sys
import termios
import textwrap
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from tests.daemon.environment import Environment, until

COLUMNS = 100


class Broken(Exception):
    """A command did not end as it should."""


class Terminal:
    """A terminal in which commands are typed."""

    def __init__(self, env: Environment, *, columns: int = COLUMNS, colours: bool = False) -> None:
        self._env, self._columns, self._colours = env, columns, colours

    def show(self, title: str, text: str) -> None:
        """Say what a part of the tour is about, and what happens beside the terminal."""
        print(f"# {title}", flush=True)
        print(textwrap.fill(text, self._columns, initial_indent="# ", subsequent_indent="# "), flush=True)

    async def types(self, line: str, status: int = 0) -> str:
        """Run a command of the program, show what it prints, and insist on its status."""
        print(f"$ diego-docker-cache {line}", flush=True)
        ended, text = await self._run(shlex.split(line))
        print("\n".join(part.rstrip() for part in text.rstrip().splitlines()), flush=True)
        print(flush=True)
        if ended != status:
            raise Broken(f"{line}: status {ended} instead of {status}")
        return text

    async def _run(self, arguments: list[str]) -> tuple[int, str]:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self._columns, 0, 0))
        chosen = {"TERM": "xterm-256color"} if self._colours else {"TERM": "dumb", "NO_COLOR": "1"}
        size = {"COLUMNS": str(self._columns), "LINES": "50"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controller",
            *arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "DOCKER_CACHE_CONFIG": str(self._env.config_path), **size, **chosen},
        )
        os.close(theirs)
        text = await asyncio.to_thread(_read_all, ours)
        os.close(ours)
        return await process.wait(), text.replace("\r\n", "\n")


def _read_all(descriptor: int) -> str:
    parts = list[bytes]()
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more
        while part := os.read(descriptor, 65536):
            parts.append(part)
    return b"".join(parts).decode()


async def wait(condition: Callable[[], bool]) -> None:
    """Wait until something is so, and until the daemon has seen it too."""
    await until(condition)
    await asyncio.sleep(1.0)


async def run_in_terminal(
    env: Environment, columns: int, story: Callable[[Terminal], Awaitable[None]]
) -> int:
    """Run a story in a terminal of its own, and give the exit status."""
    try:
        await story(Terminal(env, columns=columns, colours=sys.stdout.isatty()))
    except (Broken, TimeoutError, AssertionError) as error:
        why = "nothing more happened in time" if isinstance(error, TimeoutError) else error
        print(f"\nThe story broke off: {why}", file=sys.stderr)
        print(f"\nThe daemon's last words:\n{env.last_words()}", file=sys.stderr)
        return 1
    return 0


def run_story(program: str, text: str | None, main: Callable[[int], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a story as a program.

    Args:
        program: How it is called.
        text: What it is about, in its first line.
        main: Runs it in a terminal of some columns, and gives the exit status.
    """
    parser = argparse.ArgumentParser(prog=program, description=(text or "").partition("\n")[0])
    parser.add_argument("--columns", type=int, default=COLUMNS, metavar="N", help="width of the terminal")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().columns)))
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
