"""Runs of the program as processes: each by an interpreter of its own, or forked from one that has imported it all."""

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests import databases

LONGEST_LINE = 16 * 1024 * 1024


class Program(Protocol):
    """A run of the program."""

    @property
    def pid(self) -> int:
        """The id of its process."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it writes."""

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """What it writes beside that; None where that is in its output."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    async def wait(self) -> int:
        """Wait for its end."""


class Starter(Protocol):
    """Starts the program."""

    async def __call__(
        self, *arguments: str, err: int = subprocess.PIPE, limits: Mapping[str, float] | None = None
    ) -> Program:
        """Start it.

        Args:
            arguments: Of the program.
            err: PIPE reads what it writes beside its output apart, STDOUT together with that.
            limits: Fields of the `Limits` of the migration protocol that are to be others.
        """


async def start_interpreter(
    *arguments: str, err: int = subprocess.PIPE, limits: Mapping[str, float] | None = None
) -> Program:
    """Run `python -m controller` as a user does, who has no say in the limits."""
    assert not limits
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", *arguments),
        stdout=subprocess.PIPE,
        stderr=err,
        limit=LONGEST_LINE,
    )


class Forked:
    """A run that the fork server made; see `Program`."""

    def __init__(
        self,
        pid: int,
        report: asyncio.StreamReader,
        out: asyncio.StreamReader,
        err: asyncio.StreamReader | None,
    ) -> None:
        self.pid, self.stdout, self.stderr = pid, out, err
        self.returncode: int | None = None
        self._end = asyncio.create_task(self._wait(report))

    async def _wait(self, report: asyncio.StreamReader) -> int:
        text = await report.read()
        self.returncode = int(text) if text else -signal.SIGKILL  # the server is gone
        return self.returncode

    def send_signal(self, number: int, /) -> None:
        """Send it a signal, unless it is over."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it is over, and the report of that is on its way
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self._end)


async def start_forked(
    *arguments: str, err: int = subprocess.PIPE, limits: Mapping[str, float] | None = None
) -> Program:
    """Run the program in a fork of a process that has imported all of it."""
    report, report_end = await _open_pipe()
    out, out_end = await _open_pipe()
    stderr, err_end = (None, os.dup(out_end)) if err == subprocess.STDOUT else await _open_pipe()
    given = os.open(os.devnull, os.O_RDONLY)
    files = [given, out_end, err_end, report_end]
    try:
        request = json.dumps({"arguments": arguments, "limits": dict(limits or {})}).encode()
        socket.send_fds(_server(), [request], files)
    finally:
        for file in files:
            os.close(file)
    text = await report.readline()
    if not text:
        raise RuntimeError("the fork server ended")
    return Forked(int(text), report, out, stderr)


async def _open_pipe() -> tuple[asyncio.StreamReader, int]:
    """Make a pipe, and give its end to read from and the descriptor of its end to write to."""
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader(LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
    )
    return reader, theirs


@functools.cache
def _server() -> socket.socket:
    """Connect to the fork server of this run of tests, which the first worker starts that needs it."""
    directory = Path(os.environ[databases.RUN_DIRECTORY])
    address = str(directory / "fork_server")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (directory / "fork_server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(address)
        except OSError:  # there is none, or the one that was has ended
            Path(address).unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(address)
                listener.listen()
                command = [sys.executable, "-m", "tests.daemon.fork_server", str(listener.fileno())]
                _processes.append(subprocess.Popen(command, pass_fds=[listener.fileno()]))
            connection.connect(address)
    return connection


_processes = list[subprocess.Popen[bytes]]()
"""Kept, so that nobody is told that they still run."""


async def output_of(program: Program) -> tuple[int, str, str]:
    """Wait for the end of a program, and give its exit status and what it wrote."""
    assert program.stdout is not None
    assert program.stderr is not None
    out, err, status = await asyncio.gather(program.stdout.read(), program.stderr.read(), program.wait())
    return status, out.decode(), err.decode()
