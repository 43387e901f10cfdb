"""What lies on this machine beside the store."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.doctor.findings import Level
from controller.doctor.local import check_admin, check_config, check_docker
from tests.contracts.distribution import free_port
from tests.controller.doctor.conftest import Settings, all_of, config_of, the_one
from tests.simulators import docker_daemon


async def test_a_config_that_was_loaded_can_be_used(settings: Settings) -> None:
    """What its warnings are about, other checks look at more closely."""
    del settings["journal_key_file"]

    (loaded,) = await all_of(check_config(await config_of(settings)))

    assert loaded.level is Level.OK
    assert settings["bbs_address"] in loaded.text


@pytest.fixture
def socket_directory(servers: None) -> Iterator[Path]:
    """A socket's path must be short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


async def test_without_the_engine_docker_no_docker_daemon_is_asked(settings: Settings) -> None:
    assert await all_of(check_docker(await config_of(settings))) == []


async def test_a_docker_daemon_that_answers_is_well(settings: Settings, socket_directory: Path) -> None:
    with docker_daemon.serve(socket_directory) as daemon:
        settings |= {"engine": "docker", "docker_socket": daemon.address}
        (found,) = await all_of(check_docker(await config_of(settings)))
        assert [call.path for call in daemon.calls] == ["/version"]

    assert (found.check, found.level) == ("docker", Level.OK)
    assert daemon.address in found.text


async def test_no_docker_daemon_is_a_problem(settings: Settings, socket_directory: Path) -> None:
    settings |= {"engine": "docker", "docker_socket": f"unix://{socket_directory}/none.sock"}

    found = the_one(await all_of(check_docker(await config_of(settings))))

    assert (found.level, "daemon-lost" in found.text) == (Level.PROBLEM, True)
    assert f"unix://{socket_directory}/none.sock" in found.advice


async def test_without_an_admin_address_nobody_is_called(settings: Settings) -> None:
    assert await all_of(check_admin(await config_of(settings))) == []


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_daemon_that_listens_is_well(host: str, settings: Settings) -> None:
    called = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings |= {"admin_address": f"{host}:{port}", "admin_without_tls": True}
        (found,) = await all_of(check_admin(await config_of(settings)))
        async with asyncio.timeout(60.0):
            await called.wait()

    assert (found.check, found.level) == ("admin", Level.OK)
    assert found.text == f"a daemon listens at {host}:{port}"


@pytest.mark.parametrize("address", ["daemon.invalid:1", "a..b:1", "127.0.0.1:99999"])
async def test_an_admin_address_that_leads_nowhere_is_a_warning(address: str, settings: Settings) -> None:
    config = (await config_of(settings)).model_copy(update={"admin_address": address})

    found = the_one(await all_of(check_admin(config)))

    assert (found.level, found.text.startswith(f"no daemon listens at {address}: ")) == (Level.WARNING, True)
    assert "admin_address" in found.advice


async def test_no_daemon_that_listens_is_a_warning(settings: Settings) -> None:
    settings |= {"admin_address": f"127.0.0.1:{free_port()}", "admin_without_tls": True}

    found = the_one(await all_of(check_admin(await config_of(settings))))

    assert found.level is Level.WARNING
    assert found.text == f"no daemon listens at {settings['admin_address']}: the connection was refused"
    assert found.advice.startswith("start it")
