"""The admin API as the doctor finds it: a real gRPC server, which each test gives other files to look at."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from controller.doctor import admin
from controller.doctor.admin import check_admin
from controller.doctor.findings import Finding, Level
from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from tests.contracts.distribution import free_port
from tests.controller.doctor.conftest import Settings, all_of, config_of, proxy_of_nobody, the_one
from tests.simulators.certificates import Authority, Certificates, Pair


class Daemon(AdminServicer):
    """Answers the one call that the doctor makes."""

    def __init__(self) -> None:
        self.calls = 0
        self.unhealthy: list[pb.UnhealthyRegistry] = []
        self.outage: pb.DatabaseOutage | None = None

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:  # noqa: N802
        self.calls += 1
        return pb.StatusResponse(unhealthy_registries=self.unhealthy, database_outage=self.outage)


@pytest.fixture(autouse=True)
async def grpc_stays() -> AsyncIterator[None]:
    """Keep gRPC's thread for as long as the test: the last channel to close would wait for its end."""
    grpc.aio.init_grpc_aio()
    yield
    grpc.aio.shutdown_grpc_aio()


@pytest.fixture
def daemon(servers: None) -> Daemon:
    return Daemon()


@asynccontextmanager
async def serve_daemon(daemon: Daemon, ca: Path, server: Pair | None) -> AsyncIterator[str]:
    """Serve with mutual TLS, or without where there is no certificate, and give the address."""
    listening = grpc.aio.server()
    add_AdminServicer_to_server(daemon, listening)
    if server is None:
        port = listening.add_insecure_port("127.0.0.1:0")
    else:
        paths = (server.key, server.certificate, ca)
        key, chain, authority = await asyncio.to_thread(lambda: [path.read_bytes() for path in paths])
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], root_certificates=authority, require_client_auth=True
        )
        port = listening.add_secure_port("127.0.0.1:0", credentials)
    await listening.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await listening.stop(None)


@pytest.fixture
async def address(daemon: Daemon, certificates: Certificates) -> AsyncIterator[str]:
    """The address of a daemon as it should be."""
    async with serve_daemon(daemon, certificates.ca, certificates.server) as address:
        yield address


@pytest.fixture
async def plain_address(daemon: Daemon, certificates: Certificates) -> AsyncIterator[str]:
    """The address of a daemon without TLS."""
    async with serve_daemon(daemon, certificates.ca, None) as address:
        yield address


@pytest.fixture
def with_tls(settings: Settings, certificates: Certificates) -> Settings:
    settings |= {
        "admin_ca_cert_file": str(certificates.ca),
        "admin_server_cert_file": str(certificates.server.certificate),
        "admin_server_key_file": str(certificates.server.key),
        "admin_client_cert_file": str(certificates.client.certificate),
        "admin_client_key_file": str(certificates.client.key),
    }
    return settings


async def found_in(settings: Settings) -> list[Finding]:
    return await all_of(check_admin(await config_of(settings)))


async def test_without_an_admin_address_nobody_is_called(settings: Settings) -> None:
    assert await found_in(settings) == []


async def test_a_daemon_that_answers_is_well(address: str, daemon: Daemon, with_tls: Settings) -> None:
    (found,) = await found_in(with_tls | {"admin_address": address})

    assert (found.check, found.level) == ("admin", Level.OK)
    assert found.text == f"the daemon at {address} answers a call"
    assert daemon.calls == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_daemon_without_tls_is_called_too(
    host: str, plain_address: str, daemon: Daemon, settings: Settings
) -> None:
    settings |= {"admin_address": plain_address.replace("127.0.0.1", host), "admin_without_tls": True}

    (found,) = await found_in(settings)

    assert (found.level, daemon.calls) == (Level.OK, 1)


async def test_a_proxy_that_the_environment_names_is_not_used(
    address: str, daemon: Daemon, with_tls: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    (found,) = await found_in(with_tls | {"admin_address": address})

    assert (found.level, daemon.calls) == (Level.OK, 1)


@pytest.mark.parametrize("which", ["expired_client", "foreign_client"])
async def test_a_client_certificate_that_the_daemon_refuses_is_a_problem(
    which: str, address: str, daemon: Daemon, with_tls: Settings, certificates: Certificates
) -> None:
    pair = getattr(certificates, which)
    with_tls |= {"admin_client_cert_file": str(pair.certificate), "admin_client_key_file": str(pair.key)}
    found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.check, found.level) == ("admin", Level.PROBLEM)
    assert address in found.text
    assert "check admin_client_cert_file" in found.advice
    assert daemon.calls == 0


@pytest.mark.usefixtures("servers")
async def test_a_proxy_before_a_daemon_that_is_gone_leads_to_no_certificate(with_tls: Settings) -> None:
    async with proxy_of_nobody() as address:
        found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert found.level is Level.PROBLEM
    assert found.text == f"{address} closed the connection during the TLS handshake"
    assert found.advice.startswith("check that the daemon runs")
    assert "cert" not in found.advice


async def test_a_daemon_of_another_authority_leads_to_the_ca_file(
    address: str, with_tls: Settings, certificates: Certificates
) -> None:
    with_tls["admin_ca_cert_file"] = str(certificates.foreign_ca)
    found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.level, "to admin_ca_cert_file" in found.advice) == (Level.PROBLEM, True)


async def test_an_expired_certificate_of_the_daemon_is_a_problem(
    daemon: Daemon, with_tls: Settings, certificates: Certificates
) -> None:
    async with serve_daemon(daemon, certificates.ca, certificates.expired_server) as address:
        found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.level, "renew the certificate of the server" in found.advice) == (Level.PROBLEM, True)


async def test_a_certificate_for_another_name_is_a_problem_unless_that_name_is_configured(
    daemon: Daemon, with_tls: Settings, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server, client = authority.server("daemon.example"), authority.client("operator")
    with_tls |= {
        "admin_ca_cert_file": str(authority.certificate),
        "admin_client_cert_file": str(client.certificate),
        "admin_client_key_file": str(client.key),
    }
    async with serve_daemon(daemon, authority.certificate, server) as address:
        with_tls["admin_address"] = address
        other = the_one(await found_in(with_tls))
        (named,) = await found_in(with_tls | {"admin_server_name": "daemon.example"})

    assert (other.level, "admin_server_name" in other.advice) == (Level.PROBLEM, True)
    assert named.level is Level.OK


async def test_files_that_are_no_certificate_are_a_problem(
    address: str, with_tls: Settings, certificates: Certificates
) -> None:
    with_tls["admin_client_key_file"] = str(certificates.server.key)
    found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.level, str(certificates.server.key) in found.text) == (Level.PROBLEM, True)
    assert "admin_client_key_file" in found.advice


async def test_files_that_only_operators_can_read_are_a_warning(address: str, with_tls: Settings) -> None:
    with_tls["admin_client_key_file"] = "/none/client.key"
    found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.level, "/none/client.key" in found.text) == (Level.WARNING, True)
    assert "whoever runs commands" in found.advice


async def test_a_daemon_that_no_certificate_is_there_for_is_not_called(
    address: str, daemon: Daemon, with_tls: Settings
) -> None:
    del with_tls["admin_client_cert_file"], with_tls["admin_client_key_file"]
    found = the_one(await found_in(with_tls | {"admin_address": address}))

    assert (found.level, daemon.calls) == (Level.WARNING, 0)
    assert "admin_client_cert_file" in found.advice


async def test_what_speaks_no_tls_is_a_problem(plain_address: str, with_tls: Settings) -> None:
    found = the_one(await found_in(with_tls | {"admin_address": plain_address}))

    assert found.level is Level.PROBLEM


@pytest.mark.usefixtures("servers")
async def test_another_service_at_the_address_is_a_problem(settings: Settings) -> None:
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    settings |= {"admin_address": f"127.0.0.1:{port}", "admin_without_tls": True}

    found = the_one(await found_in(settings))
    await other.stop(None)

    assert (found.level, "unimplemented" in found.text) == (Level.PROBLEM, True)
    assert "admin_address" in found.advice


@pytest.mark.usefixtures("servers")
async def test_a_daemon_that_hangs_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    callers: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)

    monkeypatch.setattr(admin, "TIMEOUT", 0.5)
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings |= {"admin_address": f"127.0.0.1:{port}", "admin_without_tls": True}
        found = the_one(await found_in(settings))
        for writer in callers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    assert found.level is Level.PROBLEM
    assert found.text == f"127.0.0.1:{port} did not answer a call within 0.5 s"


@pytest.mark.parametrize("address", ["daemon.invalid:1", "a..b:1", "127.0.0.1:99999"])
async def test_an_admin_address_that_leads_nowhere_is_a_warning(address: str, settings: Settings) -> None:
    config = (await config_of(settings)).model_copy(update={"admin_address": address})

    found = the_one(await all_of(check_admin(config)))

    assert (found.level, found.text.startswith(f"no daemon listens at {address}: ")) == (Level.WARNING, True)
    assert "admin_address" in found.advice


async def test_no_daemon_that_listens_is_a_warning(settings: Settings) -> None:
    settings |= {"admin_address": f"127.0.0.1:{free_port()}", "admin_without_tls": True}

    found = the_one(await found_in(settings))

    assert found.level is Level.WARNING
    assert found.text == f"no daemon listens at {settings['admin_address']}: the connection was refused"
    assert found.advice.startswith("start it")


async def test_what_the_daemon_knows_of_unhealthy_registries_is_passed_on(
    daemon: Daemon, plain_address: str, settings: Settings
) -> None:
    daemon.unhealthy = [
        pb.UnhealthyRegistry(
            registry="cache.example",
            private=True,
            use=pb.REGISTRY_USE_PUSH,
            since=1_700_000_000.0,
            fault="its disk is full",
            error="no space left on device",
            waiting_jobs=2,
        ),
        pb.UnhealthyRegistry(registry="source.example", fault="it does not answer", error="refused"),
    ]
    settings |= {"admin_address": plain_address, "admin_without_tls": True}

    answers, private, source = await found_in(settings)

    assert answers.level is Level.OK
    assert private.level is Level.PROBLEM
    assert private.text == (
        "the daemon says: private registry: UNHEALTHY for pushes since 2023-11-14 22:13:20 UTC: its disk is full: "
        "no space left on device; nothing can be copied to it; 2 cache jobs wait for it"
    )
    assert source.level is Level.WARNING
    assert "source source.example: UNHEALTHY since" in source.text
    assert source.text.endswith("it does not answer: refused; nothing waits for it")


async def test_that_the_daemons_database_is_away_is_passed_on(
    daemon: Daemon, plain_address: str, settings: Settings
) -> None:
    daemon.outage = pb.DatabaseOutage(since=1_700_000_000.0, error="db does not answer", waiting_migrations=1)
    settings |= {"admin_address": plain_address, "admin_without_tls": True}

    _, found = await found_in(settings)

    assert found.level is Level.PROBLEM
    assert found.text == (
        "the daemon says: its database is UNAVAILABLE since 2023-11-14 22:13:20 UTC: db does not answer; "
        "nothing is begun, apps go on; 1 migration waits for it"
    )
