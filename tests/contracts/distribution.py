"""Starts the real CNCF distribution registry (Debian package docker-registry) on a loopback port."""

import contextlib
import json
import os
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
    """Find a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def run_distribution(
    directory: Path,
    *,
    login: Login | None = None,
    tls: TlsFiles | None = None,
    relative_locations: bool = False,
    deletes: bool = True,
    extra: dict[str, object] | None = None,
) -> Iterator[Distribution]:
    """Run a registry for the length of a block.

    Args:
        directory: Empty; holds its files.
        login: Wanted from everybody; None lets everybody in.
        tls: None speaks plain http.
        relative_locations: Whether upload locations leave the host out.
        deletes: Whether manifests may be deleted, which the registry does not allow by itself.
        extra: More top-level configuration, such as `{"proxy": {…}}`.
    """
    binary = require_binary()
    address = f"127.0.0.1:{free_port()}"
    data = directory / "data"
    http: dict[str, object] = {"addr": address, "secret": "fixed", "relativeurls": relative_locations}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": deletes}},
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
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "serve", str(file)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    url = f"{'http' if tls is None else 'https'}://{address}"
    try:
        _wait_until_ready(process, f"{url}/v2/", directory / "log")
        yield Distribution(address, url, data, process.pid)
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Ask until it answers; there is no event to wait for in another process."""
    insecure = ssl._create_unverified_context() if url.startswith("https") else None
    deadline = monotonic() + 10.0
    while monotonic() < deadline:
        try:
            urlopen(url, timeout=2.0, context=insecure).close()
        except HTTPError as error:
            error.close()  # it wants a login
        except (URLError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                raise RuntimeError(f"{BINARY} ended: {log.read_text()[-500:]}") from None
            continue
        return
    raise RuntimeError(f"{BINARY} does not answer: {log.read_text()[-500:]}")
