"""Collects what the BOSH release installs without a network: a wheel for each package, with its hash.

Started by hack/bosh-packages. The versions are those of requirements/run.txt, the wheels those for the Python
and the stemcells below, whatever this runs on; the project's own wheel is built here.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "run.txt"
TARGET = ROOT / "deploy" / "bosh" / "src" / "docker_cache"

PYTHON = "3.12"
"""Version of the release's Python package."""

GLIBC = 35
"""Minor version of glibc 2 of the oldest stemcell, Ubuntu Jammy."""

_ENVIRONMENT: Mapping[str, str] = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON}.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""What markers of the lock ask about."""

_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
)

_PINNED = re.compile(
    r"^(?P<requirement>[A-Za-z0-9][^\\\n]*?) *\\\n(?P<hashes>(?: +--hash=[^\n]*\n)+)", re.MULTILINE
)


def needed(lock: str) -> Iterator[str]:
    """Give the entries of a lock that the release's Python needs, with their hashes and without markers."""
    for found in _PINNED.finditer(lock):
        requirement = Requirement(found["requirement"])
        if requirement.marker is None or requirement.marker.evaluate(dict(_ENVIRONMENT)):
            hashes = " ".join(found["hashes"].replace("\\", "").split())
            yield f"{requirement.name}{requirement.specifier} {hashes}"


def requirement_of(wheel: Path) -> str:
    """Write the line that installs a wheel and no other file."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def build_own(directory: Path) -> None:
    """Build the project's wheel into a directory."""
    _run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))


def download(requirements: Iterable[str], directory: Path) -> None:
    """Download the wheels of requirements with hashes into a directory."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(requirements))
        listed.flush()
        tag = f"cp{PYTHON.replace('.', '')}"
        kinds = [option for abi in (tag, "abi3", "none") for option in ("--abi", abi)]
        kinds += [option for platform in _PLATFORMS for option in ("--platform", platform)]
        _run(
            *("-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--requirement", listed.name),
            *("--implementation", "cp", "--python-version", PYTHON, *kinds, "--dest", str(directory)),
        )


def put_in_place(wheels: Path, target: Path) -> None:
    """Put wheels, and the requirements that name each by its hash, where the release has them."""
    files = sorted(wheels.glob("*.whl"))
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copytree(wheels, target / "wheels")
    (target / "requirements.txt").write_text("".join(f"{requirement_of(each)}\n" for each in files))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=sys.stderr)


def main() -> None:
    """Collect all wheels."""
    argparse.ArgumentParser(
        prog="hack/bosh-packages", description=(__doc__ or "").partition("\n")[0]
    ).parse_args()
    with tempfile.TemporaryDirectory() as made:
        wheels = Path(made) / "wheels"
        download(needed(LOCK.read_text()), wheels)
        build_own(wheels)
        put_in_place(wheels, TARGET)
    count = len(list((TARGET / "wheels").iterdir()))
    print(f"{TARGET.relative_to(ROOT)}: {count} wheels for Python {PYTHON}")


if __name__ == "__main__":
    main()
