"""A terminal in which a story's commands are typed, as an operator would see them.

What it prints is shown by the documentation, and a test compares the two.
"""

import asyncio
import contextlib
import fcntl
import os
import shlex
import struct
import sys
import termios
import textwrap
from collections.abc import Callable

from tests.daemon.environment import Environment, until

COLUMNS = 100


class Broken(Exception):
    """A command did not end as it should."""


class Terminal:
    """A terminal in which commands are typed."""

    def __init__(self, env: Environment, *, columns: int = COLUMNS, colours: bool = False) -> None:
        self._env, self._columns, self._colours = env, columns, colours

    def tell(self, title: str, text: str) -> None:
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
