"""A config of files that are as they should be; each test breaks one thing of it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from controller.config import Config
from controller.doctor.findings import Finding, Findings, Level
from tests.contracts.distribution import free_port
from tests.simulators.certificates import Certificates, make_certificates

Settings = dict[str, Any]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def settings(certificates: Certificates, tmp_path: Path) -> Settings:
    """Nobody listens at the addresses."""
    key = tmp_path / "journal.key"
    key.write_bytes(Fernet.generate_key())
    key.chmod(0o600)
    return {
        "bbs_address": f"https://127.0.0.1:{free_port()}",
        "bbs_ca_cert_file": str(certificates.ca),
        "bbs_client_cert_file": str(certificates.client.certificate),
        "bbs_client_key_file": str(certificates.client.key),
        "database_url": f"sqlite:///{tmp_path}/store/cache.db",
        "journal_key_file": str(key),
        "cache_registry": {"address": f"127.0.0.1:{free_port()}", "plain_http": True},
    }


@pytest.fixture(autouse=True)
def no_way_to_docker_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_docker_hub(monkeypatch)


def hide_docker_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test on this machine, and Docker Hub out of reach wherever it runs."""
    resolve: Callable[..., Any] = socket.getaddrinfo

    def resolve_all_but_one(host: Any, *arguments: Any, **options: Any) -> Any:
        if "docker.io" in str(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_all_but_one)


async def config_of(settings: Settings) -> Config:
    """Read a config; it looks at its files, which blocks."""
    return await asyncio.to_thread(Config.model_validate, settings)


async def all_of(findings: Findings) -> list[Finding]:
    """Wait for everything that a check finds."""
    return [finding async for finding in findings]


def the_one(findings: list[Finding]) -> Finding:
    """Give the only finding that is not OK."""
    (found,) = [each for each in findings if each.level is not Level.OK]
    return found


def levels(findings: list[Finding]) -> list[Level]:
    """List the levels in their order."""
    return [each.level for each in findings]


@asynccontextmanager
async def proxy_of_nobody() -> AsyncIterator[str]:
    """Listen as a proxy does whose server is gone: it closes each connection at its first byte."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
