"""Starting the daemon: what it refuses, and what it waits for."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.contracts.distribution import free_port
from tests.daemon.environment import PATIENCE, Environment, open_environment
from tests.daemon.operator import Operator
from tests.daemon.programs import start_interpreter
from tests.simulators.bbs import Version


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version) as opened:
        yield opened


async def test_a_second_process_on_the_same_store_refuses_and_says_why(env: Environment) -> None:
    first = await env.started_daemon()
    second = await env.start_daemon()

    assert await second.ended() == 4
    (line,) = second.named("daemon.failed-to-run")
    assert line["level"] == "fatal"
    assert f"is held by process {first.pid}" in line["data"]["error"]
    assert "Traceback" not in second.text


async def test_the_store_is_free_again_after_a_kill(env: Environment) -> None:
    first = await env.started_daemon()
    await first.kill()

    await env.started_daemon()


async def test_an_unreachable_bbs_is_waited_for(env: Environment) -> None:
    await env.bbs.stop_listening()
    daemon = await env.start_daemon()
    line = await daemon.logged("watcher.lost-bbs-events", count=2)
    assert env.bbs.url in line["data"]["error"]
    await env.bbs.start_listening()

    await daemon.logged("watcher.listed-bbs")


async def test_a_bbs_that_migrates_is_waited_for(env: Environment) -> None:
    env.bbs.is_migrating = True
    daemon = await env.start_daemon()
    await daemon.logged("watcher.lost-bbs-events")
    env.bbs.is_migrating = False

    await daemon.logged("watcher.listed-bbs")


async def test_a_bbs_of_another_authority_is_refused_and_said(env: Environment) -> None:
    env.settings["bbs_ca_cert_file"] = str(env.bbs.certificates.foreign_ca)
    daemon = await env.start_daemon()
    line = await daemon.logged("watcher.lost-bbs-events")

    assert "certificate" in line["data"]["error"].lower()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bbs_adress", "x", "bbs_adress: unknown key"),
        ("bbs_client_key_file", "/none.key", "bbs_client_key_file: cannot read /none.key"),
        ("sync_interval", 30, "sync_interval: write a duration with its unit"),
        ("database_url", "sqlite:////dev/null/x.db", "database_url: cannot use /dev/null/x.db"),
    ],
)
async def test_a_config_that_cannot_work_ends_with_one_clear_message(
    env: Environment, key: str, value: object, said: str
) -> None:
    env.settings[key] = value
    daemon = await env.start_daemon()

    assert await daemon.ended() == 3
    assert said in daemon.text
    assert "Traceback" not in daemon.text


async def test_a_key_that_is_no_certificates_key_is_refused_by_name(env: Environment) -> None:
    env.settings["bbs_client_key_file"] = str(env.bbs.certificates.server.key)
    daemon = await env.start_daemon()

    assert await daemon.ended() == 3
    assert "bbs_client_cert_file, bbs_client_key_file: " in daemon.text
    assert "server.key" in daemon.text
    assert "Traceback" not in daemon.text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run"], 3, "Missing option '--config'"),
        (["run", "--config", "/none.json"], 3, "cannot read config file /none.json"),
        (["no-such-command"], 3, "No such command"),
        (["--version"], 0, "diego-docker-cache, version "),
        (["--help"], 0, "reconcile"),
        (["run", "--help"], 0, "Example:"),
    ],
)
async def test_commands_end_with_their_status(
    env: Environment, arguments: list[str], status: int, said: str
) -> None:
    ended, out, err = await env.run_command(*arguments)

    assert ended == status
    assert said in out + err
    assert "Traceback" not in out + err


async def test_a_good_config_is_said_to_be_good(env: Environment) -> None:
    env.write_config()
    status, out, _ = await env.run_command("config", "check", "--config", str(env.config_path))

    assert (status, out) == (0, f"{env.config_path} can be used\n")


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("registry_auth_file", "[]"),
        ("journal_key_file", "no key"),
        ("bbs_ca_cert_file", "no certificate"),
    ],
)
async def test_config_check_refuses_what_run_refuses_in_the_same_words(
    env: Environment, key: str, content: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    await asyncio.to_thread(broken.write_text, content)
    env.settings[key] = str(broken)
    daemon = await env.start_daemon()

    status, _, err = await env.run_command("config", "check", "--config", str(env.config_path))

    assert await daemon.ended() == status == 3
    assert f"\n  {key}: " in err
    assert err in daemon.text


async def named_unwell(client: httpx.AsyncClient, health: str, check: str) -> str:
    """Wait until a check is among what is unwell, and return why."""
    async with asyncio.timeout(PATIENCE):
        while True:
            unwell = (await client.get(health)).json()["unwell"]
            if reason := next((each["reason"] for each in unwell if each["check"] == check), ""):
                return str(reason)
            await asyncio.sleep(0.05)


async def test_i10_a_changed_config_is_taken_up_on_sighup_if_it_can_be_used(env: Environment) -> None:
    addresses = {key: f"127.0.0.1:{free_port()}" for key in ("healthcheck_address", "metrics_address")}
    env.settings |= addresses
    daemon = await env.started_daemon()
    good = dict(env.settings)
    env.settings["max_copies"] = 0
    env.write_config()
    daemon.signal_reload()
    kept = await daemon.logged("daemon.failed-to-reload-config")
    status = await Operator(env).runs("status")
    assert "max_copies" in status.row["config_error"]
    assert "REFUSED when it was last read again" in (await Operator(env).reads("status")).out
    async with httpx.AsyncClient() as client:
        health = f"http://{addresses['healthcheck_address']}/health"
        assert "max_copies" in await named_unwell(client, health, "config")
        scraped = (await client.get(f"http://{addresses['metrics_address']}/metrics")).text
    assert "docker_cache_config_last_reload_successful 0.0" in scraped
    assert 'docker_cache_unwell{check="config"} 1.0' in scraped
    env.settings = good | {"deny_images": ["*/secret/*"]}
    env.write_config()

    daemon.signal_reload()
    await daemon.logged("daemon.started", count=2)

    assert "max_copies" in kept["data"]["error"]
    assert (await Operator(env).runs("cache", f"{env.source.address}/secret/x:1")).status == 4
    assert await daemon.stop() == 0


async def test_the_program_runs_by_an_interpreter_of_its_own(version: Version, tmp_path: Path) -> None:
    """As it is installed; other tests fork it."""
    async with open_environment(tmp_path, version=version, start=start_interpreter) as env:
        daemon = await env.started_daemon()
        daemon.signal_reload()
        await daemon.logged("daemon.started", count=2)
        await daemon.logged("watcher.listed-bbs", count=2)

        paused = await Operator(env).runs("pause")
        status = await Operator(env).runs("status")

        assert paused.row == {"paused": True}
        assert status.row["paused"] is True
        assert await daemon.stop() == 0


async def test_the_config_example_becomes_a_config(env: Environment) -> None:
    status, text, _ = await env.run_command("config", "example")

    assert status == 0
    assert '"bbs_address"' in text
    assert "//" in text
