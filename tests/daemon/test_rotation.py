"""Certificates and passwords that change on disk are taken up by a running daemon, which is not restarted."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.admin.admin_client import ClientTls, open_client
from reconcile.errors import DockerCacheError
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.certificates import LOOPBACK_NAMES, Authority, Pair
from tests.simulators.recipes import Image


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version, start_delay=0.1, pulls=False) as opened:
        opened.settings |= {"sync_interval": "1s"}
        yield opened


@dataclass
class Installed:
    """Files that the daemon reads, which others are put in the place of."""

    certificate: Path
    key: Path

    def put(self, pair: Pair) -> None:
        shutil.copy(pair.certificate, self.certificate)
        shutil.copy(pair.key, self.key)


def install(env: Environment, keys: str, pair: Pair) -> Installed:
    """Let the daemon read a copy of a pair."""
    names = (f"{keys}_cert_file", f"{keys}_key_file")
    installed = Installed(*(env.directory / f"{name}.pem" for name in names))
    installed.put(pair)
    env.settings |= {names[0]: str(installed.certificate), names[1]: str(installed.key)}
    return installed


async def another(daemon: DaemonProcess, message: str) -> None:
    """Wait for another line of a message."""
    await daemon.logged(message, count=len(daemon.named(message)) + 1)


async def test_a_new_certificate_for_the_bbs_is_shown_without_a_restart(env: Environment) -> None:
    """The BBS refuses the second one, so that it shows when which one is used."""
    own = install(env, "bbs_client", env.certificates.client)
    daemon = await env.started_daemon()
    own.put(env.certificates.expired_client)
    await another(daemon, "watcher.failed-to-list-bbs")

    own.put(env.certificates.client)
    await another(daemon, "watcher.listed-bbs")

    assert len(daemon.named("daemon.started")) == 1
    assert len(daemon.named("files.read-changed-files")) >= 2
    assert await daemon.stop() == 0


async def test_a_certificate_for_the_bbs_without_its_key_changes_nothing(env: Environment) -> None:
    own = install(env, "bbs_client", env.certificates.client)
    daemon = await env.started_daemon()
    shutil.copy(env.certificates.expired_client.certificate, own.certificate)
    kept = await daemon.logged("files.failed-to-read-changed-files")
    for _ in range(3):
        await another(daemon, "watcher.listed-bbs")

    assert str(own.certificate) in kept["data"]["files"]
    assert len(daemon.named("files.failed-to-read-changed-files")) == 1
    assert daemon.named("watcher.failed-to-list-bbs") == []


async def test_the_admin_api_changes_its_certificate_and_its_callers_for_new_connections(
    env: Environment,
) -> None:
    later = Authority(env.directory / "later")
    own = install(env, "admin_server", env.certificates.server)
    ca = env.directory / "admin-ca.pem"
    shutil.copy(env.certificates.ca, ca)
    env.settings |= {"admin_ca_cert_file": str(ca)}
    daemon = await env.started_daemon()
    before, client = env.admin[1], later.client("later")
    after = ClientTls(later.certificate, client.certificate, client.key)
    address = env.settings["admin_address"]

    async with open_client(address, before) as open_before:
        run_id = (await open_before.status())["run_id"]
        server = later.server(*LOOPBACK_NAMES)
        shutil.copy(server.certificate, own.certificate)
        await asyncio.sleep(1.2)
        async with open_client(address, before) as half:
            assert (await half.status())["run_id"] == run_id, "its key is not there yet"
        shutil.copy(server.key, own.key)
        shutil.copy(later.certificate, ca)
        await asyncio.sleep(1.2)

        async with open_client(address, after) as new:
            assert (await new.status())["run_id"] == run_id
        async with open_client(address, before) as old:
            with pytest.raises(DockerCacheError):
                await old.status()
        assert (await open_before.status())["run_id"] == run_id, "what is open stays so"
    assert len(daemon.named("files.failed-to-read-changed-files")) == 1
    assert await daemon.stop() == 0


async def test_a_new_password_of_the_cells_is_used_after_a_canary(env: Environment) -> None:
    file = env.directory / "pull-password"
    file.write_text("old-one")
    env.settings |= {"cache_pull_username": "puller", "cache_pull_password_file": str(file)}
    daemon = await env.started_daemon()
    sample = images.image([images.layer(9000, 1)])
    first = await env.push_app("first", Image(env.source.push("team/first", "1", sample)))
    await env.replaced(first)
    proven = len(daemon.named("canary.cells-can-pull"))
    file.write_text("new-one")
    await daemon.logged("pull-login.login-changed", username="puller")
    await daemon.logged("canary.cells-can-pull", count=proven + 1)

    second = await env.push_app("second", Image(env.source.push("team/second", "1", sample)))
    await env.replaced(second)
    await until(lambda: all(row.state == "RUNNING" for row in env.rows(second)))

    lrp = env.lrp(second)
    assert lrp is not None
    assert (lrp.image_username, lrp.image_password) == ("puller", "new-one")
    assert "new-one" not in daemon.text
    assert "old-one" not in daemon.text


async def test_status_warns_of_a_certificate_that_ends(env: Environment) -> None:
    authority = Authority(env.directory / "own")
    env.settings |= {"admin_ca_cert_file": str(authority.certificate)}
    install(env, "admin_server", authority.server(*LOOPBACK_NAMES, days=10))
    install(env, "admin_client", authority.client("operator"))
    daemon = await env.started_daemon()
    operator = Operator(env)
    said = await daemon.logged("certificates.found-certificate-near-its-end")

    row = (await operator.runs("status")).row
    shown = await operator.reads("status")

    (warning,) = row["certificate_warnings"]
    assert warning.startswith("admin_server_cert_file: 9 days left, ends on ")
    assert said["data"]["file"] == "admin_server_cert_file"
    assert warning in shown.out
