"""Runs a PostgreSQL server of one test's own, which can be away for a while, as the shared one cannot."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.contracts.distribution import free_port
from tests.databases import USER, as_nobody, prepare_postgresql
from tests.simulators.certificates import Authority

START_WITHIN = 60.0
END_WITHIN = 30.0
SETTINGS = {"synchronous_commit": "on", "full_page_writes": "on", "track_commit_timestamp": "on"}
"""A server that is killed loses nothing of what it has confirmed: the machine stays. Each commit has its time."""

# Ends the server by the signal that it reads, or with SIGKILL when nobody is left to write one.
_GUARD = """
"$@" </dev/null &
server=$!
read -r how || how=KILL
kill "-$how" $server
wait $server
"""


class OwnServer:
    """A PostgreSQL server on loopback.

    Attributes:
        port: The same whenever it runs.
        is_running: Whether it takes connections.

    Args:
        directory: Of its files; all above it must be open to everybody.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.is_running = False
        self._directory = directory
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make its files; blocks."""
        self._directory.chmod(0o755)
        certificate = Authority(self._directory / "tls").server("localhost")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:nogroup", self._directory], check=True)
        command = prepare_postgresql(self._directory, self.port, certificate)
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._command = as_nobody("sh", "-c", _GUARD, "guard", *command, *settings)

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        await asyncio.to_thread(self._start)
        self.is_running = True

    def _start(self) -> None:
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        end = time.monotonic() + START_WITHIN
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise AssertionError(f"PostgreSQL has not started: {log.read_text()}") from None
                time.sleep(0.02)
            else:
                return

    async def stop(self, how: signal.Signals) -> None:
        """End it: SIGINT breaks off what is under way, SIGQUIT crashes it."""
        self.is_running = False
        await asyncio.to_thread(self._stop, how)

    def _stop(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.communicate(how.name.removeprefix("SIG").encode() + b"\n", END_WITHIN)
            self._process = None

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """Connect as its administrator; each statement is a transaction of its own."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            dbname=database,
            sslmode="disable",
            autocommit=True,
            connect_timeout=5,
        )


@asynccontextmanager
async def run_own_server() -> AsyncIterator[OwnServer]:
    """Run a server with nothing in it until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="docker-cache-own-server-"))
    server = OwnServer(directory)
    try:
        await asyncio.to_thread(server.prepare)
        await server.start()
        yield server
    finally:
        await server.stop(signal.SIGQUIT)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
