"""Builds a container image of the daemon from packages of Debian and wheels; started by hack/image.

It needs no docker daemon and no root, and nothing from a network but the packages. With packages that an
earlier run has collected it needs no network at all, and the same source then gives the same bytes.
"""

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller import PROGRAM, __version__
from hack.oci_image import contents, debian, sbom
from hack.oci_image.archive import Settings, write_archive
from hack.oci_image.layers import Access, Layer, files_in, write_layer
from hack.wheels import LOCK, ROOT, Target, build_own, download, needed

HOMEPAGE = "https://github.com/cloudfoundry-community/diego-docker-cache"
SBOM = Path("usr/share/doc") / PROGRAM / "sbom.spdx.json"
CONFIG = "/var/vcap/jobs/docker_cache/config/docker_cache.json"

USER = 1000
"""Number of the user that the daemon runs as."""

ACCESS: Mapping[str, Access] = {
    "root": Access(0, 0o700),
    "tmp": Access(0, 0o1777),
    "var/tmp": Access(0, 0o1777),
    "var/vcap/store/docker_cache": Access(USER, 0o700),
}

CONTAINER: Mapping[str, Any] = {
    "User": f"{USER}:{USER}",
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "PYTHONDONTWRITEBYTECODE=1",
        f"DOCKER_CACHE_CONFIG={CONFIG}",
    ],
    "Entrypoint": [f"/usr/bin/{PROGRAM}"],
    "Cmd": ["run"],
    "WorkingDir": "/",
    "StopSignal": "SIGTERM",
    "Healthcheck": {
        "Test": ["CMD", f"/usr/lib/{PROGRAM}/healthcheck"],
        "Interval": 30_000_000_000,  # nanoseconds
        "Timeout": 10_000_000_000,
        "StartPeriod": 60_000_000_000,
        "Retries": 3,
    },
}


_DIGESTS = "SHA256SUMS"


class Refused(Exception):
    """The image cannot be built; the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the image is built from.

    Attributes:
        created: When the source was last changed, in seconds since 1970.
        revision: Its commit, or None where that is not known.
    """

    created: int
    revision: str | None

    @property
    def time(self) -> str:
        """The time as RFC 3339 writes it."""
        return datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def source_of(environment: Mapping[str, str]) -> Source:
    """Read the time from SOURCE_DATE_EPOCH or else from git, and the revision from git.

    Raises:
        Refused: Neither knows the time.
    """
    revision = _git("rev-parse", "HEAD")
    stated = environment.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct")
    if stated is None:
        raise Refused("there is no git here that knows when the source was changed: set SOURCE_DATE_EPOCH")
    if revision is not None and _git("status", "--porcelain"):
        revision += "-dirty"
    return Source(int(stated), revision)


def _git(*arguments: str) -> str | None:
    try:
        ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None


def collect(directory: Path) -> None:
    """Download all packages into a directory, and write down their digests."""
    target = Target(debian.PYTHON, debian.GLIBC, platform.machine())
    with tempfile.TemporaryDirectory() as scratch:
        debian.download(directory / "debian", Path(scratch))
    download(needed(LOCK.read_text(), target), directory / "wheels", target)
    (directory / _DIGESTS).write_text(_digests_in(directory))


def renew(directory: Path) -> None:
    """Collect the packages anew; those of an earlier run stay until all are there."""
    if directory.exists() and not (directory / _DIGESTS).exists():
        raise Refused(f"{directory} is something else than packages that an earlier run has collected")
    fresh = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    collect(fresh)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)


def check(directory: Path) -> None:
    """See that a directory holds the packages that were collected, and no others."""
    listed = directory / _DIGESTS
    if not listed.exists() or listed.read_text() != _digests_in(directory):
        raise Refused(f"{directory} does not hold what an earlier run has collected: collect it again")


def _digests_in(directory: Path) -> str:
    files = sorted((*directory.glob("debian/*.deb"), *directory.glob("wheels/*.whl")))
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(directory)}\n" for file in files
    )


def build(packages: Path, output: Path, source: Source) -> str:
    """Build the image from packages, and give its digest."""
    system = [*debian.packages_in(packages / "debian")]
    wheels = sorted((packages / "wheels").glob("*.whl"))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        build_own(Path(scratch) / "own")
        own = next((Path(scratch) / "own").glob("*.whl"))
        bill = sbom.document(sbom.Image(PROGRAM, __version__, source.time, HOMEPAGE), system, [*wheels, own])
        layers = _Layers(Path(scratch))
        root = layers.root

        contents.put_debian(root, system)
        contents.compile_python(root, contents.STANDARD_LIBRARY)
        layers.add(f"Python {debian.PYTHON} of Debian {debian.RELEASE}")

        contents.put_wheels(root, wheels)
        contents.compile_python(root, contents.SITE)
        layers.add("what the daemon needs, from requirements/run.txt")

        contents.put_wheels(root, [own])
        contents.put_own(root)
        (root / SBOM).parent.mkdir(parents=True)
        (root / SBOM).write_bytes(bill)
        contents.compile_python(
            root, *(contents.SITE / each for each in ("controller", "protos", "reconcile"))
        )
        layers.add(f"{PROGRAM} {__version__}")

        name = output / f"{PROGRAM}-{__version__}"
        name.with_name(f"{name.name}.spdx.json").write_bytes(bill)
        return write_archive(name.with_name(f"{name.name}.tar"), tuple(layers.written), settings_of(source))


class _Layers:
    """The layers of a directory that grows."""

    def __init__(self, scratch: Path) -> None:
        self.root = scratch / "root"
        self.root.mkdir()
        self.written: list[Layer] = []
        self._scratch = scratch
        self._before: frozenset[str] = frozenset()

    def add(self, comment: str) -> None:
        """Write a layer with the files that were added to the directory since the last layer."""
        file = self._scratch / f"layer-{len(self.written)}"
        without, self._before = self._before, files_in(self.root)
        layer = write_layer(file, self.root, without=without, access=ACCESS, comment=comment)
        self.written.append(layer)


def settings_of(source: Source) -> Settings:
    """Say what a container starts with, and what the image tells of itself."""
    labels = {
        "title": PROGRAM,
        "description": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["description"],
        "version": __version__,
        "created": source.time,
        "licenses": "Apache-2.0",
        "source": HOMEPAGE,
        "documentation": f"{HOMEPAGE}/tree/main/docs",
    }
    if source.revision is not None:
        labels["revision"] = source.revision
    return Settings(
        name=PROGRAM,
        version=__version__,
        architecture=debian.architecture(),
        created=source.time,
        container=CONTAINER,
        labels={f"org.opencontainers.image.{key}": value for key, value in labels.items()},
    )


def main() -> None:
    """Collect packages where none are given, and build the image."""
    parser = argparse.ArgumentParser(prog="hack/image", description=(__doc__ or "").partition(";")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "image", help="directory of the image")
    parser.add_argument(
        "--packages", type=Path, help="directory in which an earlier run has collected the packages"
    )
    given = parser.parse_args()
    packages: Path = given.packages or given.output / "packages"
    try:
        debian.need_tools()
        source = source_of(os.environ)
        if given.packages is None:
            renew(packages)
        check(packages)
        digest = build(packages, given.output, source)
    except (Refused, debian.Missing) as error:
        parser.exit(1, f"hack/image: {error}\n")
    except subprocess.CalledProcessError as error:  # it has said why
        parser.exit(1, f"hack/image: failed: {shlex.join(map(str, error.cmd))}\n")
    print(f"{given.output}/{PROGRAM}-{__version__}.tar: {digest}")


if __name__ == "__main__":
    main()
