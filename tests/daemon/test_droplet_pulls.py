"""A private registry that refuses the logins that Cloud Controller gives to cells, with real processes.

Apps are migrated all the same, and no droplet is written before cells have shown that they could pull.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.recipes import Image
from tests.simulators.registry import BasicLogin

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
DAEMON, CELLS = ("daemon", "marker-of-the-daemon"), ("cells", "marker-of-the-cells")


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, faulty_cache=True, start_delay=0.1, converge_interval=1.0
    ) as opened:
        opened.connect_cloud_controller()
        opened.settings |= {"sync_interval": "1s"}
        opened.settings["cache_registry"] |= {"username": DAEMON[0], "password_file": secret(opened, DAEMON)}
        opened.settings |= {
            "cache_pull_username": CELLS[0],
            "cache_pull_password_file": secret(opened, CELLS),
        }
        opened.cache.faults.login = BasicLogin(dict([DAEMON, CELLS]))
        yield opened


def secret(env: Environment, login: tuple[str, str]) -> str:
    file = env.directory / f"{login[0]}.password"
    file.write_text(login[1])
    file.chmod(0o600)
    return str(file)


async def test_a_registry_that_refuses_other_logins_is_found_before_any_droplet_is_written(
    env: Environment,
) -> None:
    daemon = await env.started_daemon()
    web = await env.push_app("web", Image(env.source.push("team/web", "1", SAMPLE)))
    await env.replaced(web)
    refused = await daemon.logged("canary.cells-cannot-pull-for-droplets", login="none")
    left = await daemon.logged("droplets.reconciled-droplet", reason="droplet-pulls-not-proven")

    assert "authentication required" in refused["data"]["error"]
    assert "without a login" in left["data"]["detail"]
    assert web.current is not None
    source = web.current.image
    said = " ".join((await Operator(env).reads("status")).out.split())
    assert "cells have been able to pull" in said
    assert "FROM DROPLETS cells cannot pull from the private registry without a login" in said

    env.cache.faults.login = None
    await daemon.logged("droplets.patched-droplet")

    assert source is not None
    assert not source.startswith(env.cache.address)
    assert (web.current.image or "").startswith(f"{env.cache.address}/")
