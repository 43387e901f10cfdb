"""Collects wheels for a Python that runs elsewhere: which the lock names for it, with their hashes.

For the BOSH release and the container image, which install them without a network.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "run.txt"

_PINNED = re.compile(
    r"^(?P<requirement>[A-Za-z0-9][^\\\n]*?) *\\\n(?P<hashes>(?: +--hash=[^\n]*\n)+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Target:
    """A CPython on Linux.

    Attributes:
        python: Its version, such as "3.12".
        glibc: Minor version of the oldest glibc 2 there.
        machine: What the kernel calls its processor, such as "x86_64".
    """

    python: str
    glibc: int
    machine: str = "x86_64"

    @property
    def environment(self) -> Mapping[str, str]:
        """What markers of the lock ask about."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that wheels for it may name."""
        old = ("2014", "2010", "1") if self.machine == "x86_64" else ("2014",)
        return (
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 4, -1)),
            *(f"manylinux{year}_{self.machine}" for year in old),
        )


def needed(lock: str, target: Target) -> Iterator[str]:
    """Give the entries of a lock that a Python needs, with their hashes and without markers."""
    for found in _PINNED.finditer(lock):
        requirement = Requirement(found["requirement"])
        if requirement.marker is None or requirement.marker.evaluate(dict(target.environment)):
            hashes = " ".join(found["hashes"].replace("\\", "").split())
            yield f"{requirement.name}{requirement.specifier} {hashes}"


def download(requirements: Iterable[str], directory: Path, target: Target) -> None:
    """Download the wheels of requirements with hashes into a directory."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(requirements))
        listed.flush()
        tag = f"cp{target.python.replace('.', '')}"
        kinds = [option for abi in (tag, "abi3", "none") for option in ("--abi", abi)]
        kinds += [option for platform in target.platforms for option in ("--platform", platform)]
        _run(
            *("-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--requirement", listed.name),
            *("--implementation", "cp", "--python-version", target.python, *kinds, "--dest", str(directory)),
        )


def build_own(directory: Path) -> None:
    """Build the project's wheel into a directory."""
    _run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=sys.stderr)
