"""Starts the real CNCF distribution registry (Debian package docker-registry) on a loopback port."""

import contextlib
import itertools
import json
import os
import random
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.error import URLError
from urllib.request import HTTPError, urlopen

import pytest

BINARY = "docker-registry"
LOWEST_PORT = 16384


@dataclass(frozen=True, slots=True)
class Login:
    """The one user of a registry; the hash is bcrypt's."""

    username: str
    password: str = field(repr=False)
    bcrypt: str = field(repr=False)


ALICE = Login("alice", "wonderland", "$2y$05$abcdefghijklmnopqrstuuA0vov2GDneHB3.8.cv9UF9g.RdvScIW")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a server certificate for 127.0.0.1."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Distribution:
    """A running registry.

    Attributes:
        directory: Its storage; blobs lie in docker/registry/v2/blobs.
        pid: Of its process.
    """

    address: str
    url: str
    directory: Path
    pid: int


def require_binary() -> str:
    """Find the registry; without it CI fails and a developer's run skips.

    Raises:
        RuntimeError: In CI.
    """
    found = shutil.which(BINARY) or shutil.which(BINARY, path="/usr/bin:/usr/local/bin")
    if found is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError(f"{BINARY} is not installed")
        pytest.skip(f"{BINARY} is not installed (Debian package docker-registry)")
    return found


def free_port() -> int:
    """Find a port that nobody listens on, and that nobody else is given.

    The kernel hands out none of these, neither to servers without a port of their own nor to clients, and
    each of the test run's processes has its own share of them.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("the ports never end")


def _own_ports() -> Iterator[int]:
    """Give the ports of this process, again and again, from anywhere among them."""
    range_of_kernel = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(range_of_kernel.read_text().split()[0]) if range_of_kernel.exists() else 32768
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(LOWEST_PORT + worker, end, workers)
    begin = random.SystemRandom().randrange(len(ports))
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_PORTS = _own_ports()


@contextlib.contextmanager
def run_distribution(
    directory: Path,
    *,
    login: Login | None = None,
    tls: TlsFiles | None = None,
    relative_locations: bool = False,
    deletes: bool = True,
    remembers: bool = False,
    room: int | None = None,
    is_read_only: bool = False,
    port: int = 0,
    extra: dict[str, object] | None = None,
) -> Iterator[Distribution]:
    """Run a registry for the length of a block.

    Args:
        directory: Holds its files; an earlier one may have left them.
        login: Wanted from everybody; None lets everybody in.
        tls: None speaks plain http.
        relative_locations: Whether upload locations leave the host out.
        remembers: Whether it answers from memory which blobs it has.
        deletes: Whether manifests may be deleted, which the registry does not allow by itself.
        room: Bytes of a file system of its own that it has for its files; None for the one of the directory.
        is_read_only: Whether it is in its maintenance mode.
        port: Where it listens; 0 for one that nobody else is given.
        extra: More top-level configuration, such as `{"proxy": {…}}`.
    """
    binary = require_binary()
    address = f"127.0.0.1:{port or free_port()}"
    data = directory / "data"
    http: dict[str, object] = {"addr": address, "secret": "fixed", "relativeurls": relative_locations}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "delete": {"enabled": deletes},
            "maintenance": {"readonly": {"enabled": is_read_only}},
            **({"cache": {"blobdescriptor": "inmemory"}} if remembers else {}),
        },
        "http": http,
        **(extra or {}),
    }
    if login is not None:
        users = directory / "htpasswd"
        users.write_text(f"{login.username}:{login.bcrypt}\n")
        config["auth"] = {"htpasswd": {"realm": "test-realm", "path": str(users)}}
    if tls is not None:
        http["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    file = directory / "config.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    command = [binary, "serve", str(file)]
    if room is not None:
        data.mkdir()
        command = [*_with_room(data, room), *command]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    url = f"{'http' if tls is None else 'https'}://{address}"
    try:
        _wait_until_ready(process, f"{url}/v2/", directory / "log")
        own_view = Path(f"/proc/{process.pid}/root{data}") if room is not None else data
        yield Distribution(address, url, own_view, process.pid)
    finally:
        process.kill()
        process.wait()


def _with_room(data: Path, room: int) -> list[str]:
    """Write the begin of a command that sees a small file system of its own; without them a run skips.

    Raises:
        RuntimeError: In CI, where nobody may make one.
    """
    enter = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={room} none {shlex.quote(str(data))}"
    if subprocess.run([*enter, mount], check=False, capture_output=True).returncode != 0:
        if os.environ.get("CI") == "true":
            raise RuntimeError("no file system of a test's own can be mounted")
        pytest.skip("no file system of a test's own can be mounted (unshare --map-root-user --mount)")
    return [*enter, f'{mount} && exec "$@"', "sh"]


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Ask until it answers; there is no event to wait for in another process."""
    insecure = ssl._create_unverified_context() if url.startswith("https") else None
    deadline = monotonic() + 60.0
    while monotonic() < deadline:
        try:
            urlopen(url, timeout=2.0, context=insecure).close()
        except HTTPError as error:
            error.close()  # it wants a login
        except (URLError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                raise RuntimeError(f"{BINARY} ended: {log.read_text(errors='replace')[-500:]}") from None
            continue
        return
    raise RuntimeError(f"{BINARY} does not answer: {log.read_text(errors='replace')[-500:]}")
