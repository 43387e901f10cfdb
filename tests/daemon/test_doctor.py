"""The doctor in a whole deployment on loopback, without a daemon and beside a running one."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from controller.doctor import Finding, Level, diagnose
from tests.controller.doctor.conftest import all_of, config_of, hide_docker_hub
from tests.daemon.environment import Environment, open_environment
from tests.simulators.bbs import Version

OF_ONE_MACHINE = {"config", "cells-view", "sources"}
"""Checks that warn since everything is on loopback, and Docker Hub is out of reach."""


@pytest.fixture(autouse=True)
async def grpc_stays() -> AsyncIterator[None]:
    """Keep gRPC's thread for as long as the test: the last channel to close would wait for its end."""
    grpc.aio.init_grpc_aio()
    yield
    grpc.aio.shutdown_grpc_aio()


@pytest.fixture
async def env(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Environment]:
    hide_docker_hub(monkeypatch)
    async with open_environment(tmp_path, version=version) as opened:
        yield opened


async def examine(env: Environment) -> list[Finding]:
    return await all_of(diagnose(await config_of(env.settings)))


def troubles(findings: list[Finding]) -> list[Finding]:
    """List what is not OK, but for what comes of being on one machine."""
    return [
        each
        for each in findings
        if each.level is Level.PROBLEM or (each.level is Level.WARNING and each.check not in OF_ONE_MACHINE)
    ]


def texts(findings: list[Finding], check: str) -> str:
    return "\n".join(each.text for each in findings if each.check == check)


async def test_a_whole_deployment_is_well_before_the_first_start(env: Environment) -> None:
    shutil.rmtree(env.directory / "store")

    findings = await examine(env)

    (no_daemon,) = troubles(findings)
    assert (no_daemon.check, no_daemon.level) == ("admin", Level.WARNING)
    assert "1 of 1 registered cells run Docker images" in texts(findings, "cells")
    assert "agrees with the BBS and the cache registry" in texts(findings, "clock")
    assert "is created at the daemon's first start" in texts(findings, "database")
    assert f"{env.source.address} answers" in texts(findings, "sources")
    assert not (env.directory / "store").exists()


async def test_a_running_daemon_is_seen_and_left_alone(env: Environment) -> None:
    daemon = await env.started_daemon()

    findings = await examine(env)

    assert troubles(findings) == []
    assert f"is held by process {daemon.pid} since " in texts(findings, "database")
    assert "has the schema of this version" in texts(findings, "database")
    assert texts(findings, "admin") == f"the daemon at {env.settings['admin_address']} answers a call"
    assert await daemon.stop() == 0


async def test_several_things_that_are_wrong_are_all_said_at_once(env: Environment) -> None:
    certificates = env.bbs.certificates
    env.cell.vanish()
    env.stop_source()
    env.settings |= {
        "bbs_ca_cert_file": str(certificates.foreign_ca),
        "bbs_client_cert_file": str(certificates.expired_client.certificate),
        "database_url": "sqlite:////dev/null/store/cache.db",
    }
    del env.settings["journal_key_file"]

    found = [(each.check, each.level) for each in troubles(await examine(env))]

    assert found == [
        ("config", Level.PROBLEM),  # a key that is another certificate's
        ("config", Level.PROBLEM),  # a database that cannot be
        ("certificates", Level.PROBLEM),  # expired
        ("certificates", Level.PROBLEM),  # and its key is that of another
        ("bbs", Level.PROBLEM),
        ("events", Level.PROBLEM),
        ("sources", Level.PROBLEM),
        ("database", Level.PROBLEM),
        ("database", Level.WARNING),
        ("admin", Level.WARNING),
    ]
