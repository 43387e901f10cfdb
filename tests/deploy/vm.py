"""A VM on which the BOSH job lies, with the packages it needs and a stand-in for bpm."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.bosh import put_on_vm, render
from tests.deploy.properties import Tree

_BPM = """#!/usr/bin/env bash
# Knows one process, as bpm does: its id stands in a file, and stop ends it in good order.
pid=$(cat "$(dirname "$0")/pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null || { [ "$1" = stop ]; exit; }
case "$1" in
  pid) echo "$pid" ;;
  stop) echo stopping; touch "$(dirname "$0")/stopped"; kill -TERM "$pid" ;;
esac
"""


class Vm:
    """The VM.

    Args:
        directory: In place of /var/vcap.
        own: Properties of the job.
        installed: Where the daemon's package is.
    """

    def __init__(self, directory: Path, own: Tree, installed: Path) -> None:
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
        (directory / "packages" / "docker_cache" / "lib").symlink_to(installed)
        (directory / "store").mkdir()
        self.bpm = directory / "jobs" / "bpm" / "bin"
        self.bpm.mkdir(parents=True)
        (self.bpm / "bpm").write_text(_BPM)
        (self.bpm / "bpm").chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run one of the job's scripts to its end."""
        return subprocess.run([self.job / "bin" / script], capture_output=True, text=True, check=False)

    @contextmanager
    def running(
        self, command: list[str], env: Mapping[str, str], errors: Path
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
