"""What a VM runs of the BOSH job: its scripts with a stand-in for bpm, and the daemon as bpm.yml says."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contracts.distribution import free_port
from tests.deploy.bosh import ROOT, put_on_vm, read_yaml, render
from tests.deploy.properties import Pems, Tree, least, merged

pytestmark = pytest.mark.usefixtures("servers")

BPM = """#!/usr/bin/env bash
# Knows one process, as bpm does: its id stands in a file, and stop ends it in good order.
pid=$(cat "$(dirname "$0")/pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null || { [ "$1" = stop ]; exit; }
case "$1" in
  pid) echo "$pid" ;;
  stop) echo stopping; touch "$(dirname "$0")/stopped"; kill -TERM "$pid" ;;
esac
"""

DRAINED = """
import signal, sys
signal.signal(signal.SIGUSR2, lambda *_: sys.exit() if sys.argv[1] == "ends" else None)
print("ready", flush=True)
while True:
    signal.pause()
"""


class Vm:
    """A VM with the packages and jobs that the job needs."""

    def __init__(self, directory: Path, own: Tree) -> None:
        files = render(
            {"diego": {"docker_cache": own}, "locks": {"locket": {"enabled": False}}, "metrics": {"port": 0}},
            spec={"persistent_disk": 1024},
        )
        self.job = put_on_vm(files, directory)
        python = directory / "packages" / "python-3.12" / "bin" / "python3"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (directory / "packages" / "docker_cache").mkdir()
        (directory / "packages" / "docker_cache" / "lib").symlink_to(ROOT)
        (directory / "store").mkdir()
        self.bpm = directory / "jobs" / "bpm" / "bin"
        self.bpm.mkdir(parents=True)
        (self.bpm / "bpm").write_text(BPM)
        (self.bpm / "bpm").chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run one of the job's scripts to its end."""
        return subprocess.run([self.job / "bin" / script], capture_output=True, text=True, check=False)

    @contextmanager
    def running(
        self, command: list[str], env: dict[str, str], errors: Path
    ) -> Iterator[subprocess.Popen[str]]:
        """Run what bpm would run, for the length of a block."""
        with (
            errors.open("w") as written,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=written, text=True, env=env) as process,
        ):
            (self.bpm / "pid").write_text(str(process.pid))
            threading.Thread(target=process.wait, daemon=True).start()  # a child that nobody waits for stays
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def own(pems: Pems) -> Tree:
    return merged(
        least(pems),
        {
            "bbs": {"api_location": f"127.0.0.1:{free_port()}"},
            "admin": {"address": f"127.0.0.1:{free_port()}"},
            "healthcheck_address": f"127.0.0.1:{free_port()}",
            "drain_timeout_in_seconds": 1,
        },
    )


def test_what_bpm_starts_is_a_daemon_that_post_start_finds_and_drain_ends(
    own: Tree, vcap: Path, tmp_path: Path
) -> None:
    """There is no BBS: it lives, and says so, all the same."""
    vm = Vm(vcap, own | {"drain_timeout_in_seconds": 30})
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
    own: Tree, vcap: Path
) -> None:
    vm = Vm(vcap, own | {"sync_interval": 30})

    ended = vm.run("pre-start")

    assert ended.returncode == 3
    assert 'sync_interval: write a duration with its unit, such as "30s"' in ended.stderr


def test_a_daemon_that_does_not_answer_fails_the_deployment(own: Tree, vcap: Path) -> None:
    script = Vm(vcap, own).job / "bin" / "post-start"
    script.write_text(script.read_text().replace("sleep 1", "sleep 0.01"))

    ended = subprocess.run([script], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert f"http://{own['healthcheck_address']}/ping does not answer" in ended.stderr


@pytest.mark.parametrize("how", ["ends", "stays"])
def test_drain_waits_for_the_end_up_to_its_limit(how: str, own: Tree, vcap: Path, tmp_path: Path) -> None:
    vm = Vm(vcap, own)
    with vm.running([sys.executable, "-c", DRAINED, how], dict(os.environ), tmp_path / "errors") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        ended = vm.run("drain")

        process.wait(10)
    assert (ended.returncode, ended.stdout) == (0, "0\n")  # the Director reads nothing but a number
    assert (vm.bpm / "stopped").exists() is (how == "stays")


def test_drain_may_be_called_without_a_process(own: Tree, vcap: Path) -> None:
    ended = Vm(vcap, own).run("drain")

    assert (ended.returncode, ended.stdout) == (0, "0\n")


def test_the_commands_know_the_config(own: Tree, vcap: Path) -> None:
    vm = Vm(vcap, own)
    unpacked = vm.run("unpack-files")
    command = [str(vm.job / "bin" / "diego-docker-cache"), "config", "check"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert unpacked.returncode == 0, unpacked.stderr
    assert json.loads((vm.job / "config" / "files.json").read_text()) == {}
    assert "can be used" in ended.stdout
