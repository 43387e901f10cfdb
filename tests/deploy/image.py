"""Starts a docker daemon for the container image."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contracts.docker_engine import run_dockerd


@contextmanager
def running_dockerd() -> Iterator[str]:
    """Run a docker daemon for the length of a block, and give its address."""
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        with run_dockerd(Path(directory)) as daemon:
            yield daemon.address
        _unmount_below(directory)


def _unmount_below(directory: str) -> None:
    """Unmount the network namespace that a daemon keeps for containers, and leaves when it ends."""
    mounted = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    for place in [*mounted]:
        if place.startswith(f"{directory}/"):
            subprocess.run(["umount", place], check=True)
