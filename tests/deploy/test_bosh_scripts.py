"""What a VM runs of the BOSH job: its scripts with a stand-in for bpm, and the daemon as bpm.yml says."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.environment import open_environment
from tests.deploy.bosh import read_yaml
from tests.deploy.properties import Tree
from tests.deploy.vm import Vm
from tests.documents import blocks_run_by

pytestmark = pytest.mark.usefixtures("servers")

DRAINED = """
import signal, sys
signal.signal(signal.SIGUSR2, lambda *_: sys.exit() if sys.argv[1] == "ends" else None)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_what_bpm_starts_is_a_daemon_that_post_start_finds_and_drain_ends(
    own: Tree, installed: Path, vcap: Path, tmp_path: Path
) -> None:
    """There is no BBS: it lives, and says so, all the same."""
    vm = Vm(vcap, own | {"drain_timeout_in_seconds": 30}, installed)
    before = vm.run("pre-start")
    assert before.returncode == 0, before.stderr
    (process,) = read_yaml(vm.job / "config" / "bpm.yml")["processes"]

    command, env = [process["executable"], *process["args"]], {"PATH": os.environ["PATH"], **process["env"]}
    with vm.running(command, env, tmp_path / "errors") as daemon:
        after = vm.run("post-start")
        assert after.returncode == 0, after.stderr
        drained = vm.run("drain")

        assert drained.stdout == "0\n"
        assert daemon.wait(10) == 0, (tmp_path / "errors").read_text()
    assert not (vm.bpm / "stopped").exists()


def test_a_config_that_the_daemon_would_refuse_ends_the_deployment_before_the_start(
    own: Tree, installed: Path, vcap: Path
) -> None:
    vm = Vm(vcap, own | {"sync_interval": 30}, installed)

    ended = vm.run("pre-start")

    assert ended.returncode == 3
    assert 'sync_interval: write a duration with its unit, such as "30s"' in ended.stderr


def test_a_daemon_that_does_not_answer_fails_the_deployment(own: Tree, installed: Path, vcap: Path) -> None:
    script = Vm(vcap, own, installed).job / "bin" / "post-start"
    script.write_text(script.read_text().replace("sleep 1", "sleep 0.01"))

    ended = subprocess.run([script], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert f"http://{own['healthcheck_address']}/ping does not answer" in ended.stderr


@pytest.mark.parametrize("how", ["ends", "stays"])
def test_drain_waits_for_the_end_up_to_its_limit(
    how: str, own: Tree, installed: Path, vcap: Path, tmp_path: Path
) -> None:
    vm = Vm(vcap, own, installed)
    with vm.running([sys.executable, "-c", DRAINED, how], dict(os.environ), tmp_path / "errors") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        ended = vm.run("drain")

        process.wait(10)
    assert (ended.returncode, ended.stdout) == (0, "0\n")  # the Director reads nothing but a number
    assert (vm.bpm / "stopped").exists() is (how == "stays")


def test_drain_may_be_called_without_a_process(own: Tree, installed: Path, vcap: Path) -> None:
    ended = Vm(vcap, own, installed).run("drain")

    assert (ended.returncode, ended.stdout) == (0, "0\n")


def test_the_commands_know_the_config(own: Tree, installed: Path, vcap: Path) -> None:
    vm = Vm(vcap, own, installed)
    unpacked = vm.run("unpack-files")
    command = [str(vm.job / "bin" / "diego-docker-cache"), "config", "check"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert unpacked.returncode == 0, unpacked.stderr
    assert json.loads((vm.job / "config" / "files.json").read_text()) == {}
    assert "can be used" in ended.stdout


@pytest.mark.thorough
async def test_commands_are_typed_as_the_page_says(
    own: Tree, installed: Path, vcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a development environment, whose config they get by their variable."""
    Vm(vcap, own, installed)
    commands = [line for block in blocks_run_by(__file__) for line in block.commands]
    async with open_environment(tmp_path, pulls=False) as env:
        await env.started_daemon()
        monkeypatch.setenv("DOCKER_CACHE_CONFIG", str(env.config_path))

        for command in commands:
            words = shlex.split(command.replace("/var/vcap/", f"{vcap}/"))
            ended = await asyncio.to_thread(
                subprocess.run, words, capture_output=True, text=True, check=False
            )

            assert (ended.returncode, ended.stderr) == (0, ""), (command, ended.stdout)

    assert len(commands) > 1
