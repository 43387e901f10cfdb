"""The config as a whole, and the docker daemon of this machine."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.doctor.findings import Level
from controller.doctor.local import check_config, check_docker
from tests.controller.doctor.conftest import Settings, all_of, config_of, the_one
from tests.simulators import docker_daemon


async def test_a_config_that_was_loaded_can_be_used(settings: Settings) -> None:
    """What its warnings are about, other checks look at more closely."""
    del settings["journal_key_file"]

    (loaded,) = await all_of(check_config(await config_of(settings)))

    assert loaded.level is Level.OK
    assert settings["bbs_address"] in loaded.text


async def test_a_config_that_the_daemon_would_refuse_is_a_problem(settings: Settings) -> None:
    settings["bbs_client_key_file"] = settings["bbs_ca_cert_file"]

    found = the_one(await all_of(check_config(await config_of(settings))))

    assert (found.check, found.level) == ("config", Level.PROBLEM)
    assert found.text.startswith("bbs_client_cert_file, bbs_client_key_file: ")
    assert "config example" in found.advice


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
