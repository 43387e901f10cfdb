"""Starts a real docker daemon (Debian package docker.io) with all of its state in one directory."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

BINARY = "dockerd"
_STORAGE_DRIVERS = ("overlay2", "vfs")  # vfs where the directory lies on an overlay itself


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """A running daemon.

    Attributes:
        socket_path: Where it listens.
        pid: Of its process.
    """

    socket_path: str
    pid: int

    @property
    def address(self) -> str:
        """Its address as clients write it."""
        return f"unix://{self.socket_path}"


def _missing(why: str) -> None:
    """Fail in CI, skip elsewhere.

    Raises:
        RuntimeError: In CI.
    """
    if os.environ.get("CI") == "true":
        raise RuntimeError(why)
    pytest.skip(why)


@contextlib.contextmanager
def run_dockerd(directory: Path) -> Iterator[DockerEngine]:
    """Run a daemon for the length of a block; needs root and the Debian package docker.io.

    Args:
        directory: Empty, with a short path, since that of a socket is limited.
    """
    binary = shutil.which(BINARY) or shutil.which(BINARY, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None or os.geteuid() != 0:
        _missing(f"{BINARY} is not installed (Debian package docker.io), or this is not root")
    failures: list[str] = []
    for driver in _STORAGE_DRIVERS:
        home = directory / driver
        home.mkdir()
        process = _start(binary or BINARY, home, driver)
        try:
            failure = _wait_until_ready(process, home)
            if failure is None:
                yield DockerEngine(str(home / "d.sock"), process.pid)
                return
            failures.append(f"{driver}: {failure}")
        finally:
            _stop(process)
    _missing(f"{BINARY} does not start: {'; '.join(failures)}")


def _start(binary: str, home: Path, driver: str) -> "subprocess.Popen[bytes]":
    (home / "daemon.json").write_text("{}")
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [
                binary,
                f"--host=unix://{home}/d.sock",
                f"--pidfile={home}/d.pid",
                f"--data-root={home}/data",
                f"--exec-root={home}/exec",
                f"--config-file={home}/daemon.json",
                f"--storage-driver={driver}",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()  # it ends its containerd and unmounts its layers
    try:
        process.wait(60.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=2.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(2.0)
        self.sock.connect(self._path)


def _wait_until_ready(process: "subprocess.Popen[bytes]", home: Path) -> str | None:
    """Ask until it answers; give the end of its log when it does not."""
    deadline = monotonic() + 90.0
    while monotonic() < deadline:
        connection = _SocketConnection(str(home / "d.sock"))
        try:
            connection.request("GET", "/_ping")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                break
        else:
            return None
        finally:
            connection.close()
    return (home / "log").read_text(errors="replace")[-300:]
