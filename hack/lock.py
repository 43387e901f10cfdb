"""Writes the lock files in requirements/, and says whether they still fit pyproject.toml.

Started by hack/lock and hack/check-lock. A lock's first lines hold a digest of the requirements that it was
made from, so that a check needs no network.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"

_DIGEST = re.compile(r"^# requirements sha256:([0-9a-f]{64})$", flags=re.MULTILINE)
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", flags=re.MULTILINE)
_PLACE = re.compile(r"^.*://.*$|^\s*-(?!-hash=).*$", flags=re.MULTILINE)
"""A line with an address, or with an option that names where packages come from."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file.

    Attributes:
        group: The dependency group that it is made from; None for what the project itself runs with.
        with_project: Whether the project's own dependencies and its build backend are in it too.
        extras: Extras of the project whose dependencies are in it too.
        constraints: A lock file whose versions it must share.
        purpose: What is installed from it, for its first line.
    """

    path: str
    group: str | None
    with_project: bool = False
    extras: tuple[str, ...] = ()
    constraints: str | None = None
    purpose: str = "hack/venv installs"


LOCKS = (
    Lock("requirements/dev.txt", "dev", with_project=True),
    Lock("requirements/docs.txt", "docs", constraints="requirements/dev.txt"),
    Lock(
        "requirements/run.txt",
        None,
        extras=("ecr", "mysql", "postgresql"),
        constraints="requirements/dev.txt",
        purpose="the daemon runs with",
    ),
)


def declared(pyproject: Mapping[str, Any], lock: Lock) -> tuple[str, ...]:
    """List the requirements of pyproject.toml that a lock must satisfy."""
    project = pyproject["project"]
    if lock.group is None:
        extras = (each for extra in lock.extras for each in project["optional-dependencies"][extra])
        return tuple(sorted({*project["dependencies"], *extras}))
    own = [*project["dependencies"], *pyproject["build-system"]["requires"]] if lock.with_project else []
    return tuple(sorted({*own, *pyproject["dependency-groups"][lock.group]}))


def digest_of(pyproject: Mapping[str, Any], lock: Lock) -> str:
    """Return the digest of the requirements that a lock is made from."""
    parts = [pyproject["project"]["requires-python"], *declared(pyproject, lock)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def problems_of(pyproject: Mapping[str, Any], lock: Lock, text: str) -> Iterator[str]:
    """Say why a lock with this text is not current."""
    found = _DIGEST.search(text)
    if found is None or found[1] != digest_of(pyproject, lock):
        yield "it was made from other requirements"
    if place := _PLACE.search(text):
        yield f"it names a place: {place[0].strip()}"
    pinned: dict[str, list[str]] = {}  # a package has several versions where they depend on the Python
    for name, version in _PINNED.findall(text):
        pinned.setdefault(canonicalize_name(name), []).append(version)
    for requirement in map(Requirement, declared(pyproject, lock)):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        if not versions:
            yield f"{requirement.name} is missing"
        for version in versions:
            if version not in requirement.specifier:
                yield f"{requirement.name} {version} is not {requirement.specifier}"


def check() -> int:
    """Check every lock, and give the exit status."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    status = 0
    for lock in LOCKS:
        for problem in problems_of(pyproject, lock, (ROOT / lock.path).read_text()):
            print(f"{lock.path}: {problem}: run hack/lock and commit", file=sys.stderr)
            status = 1
    return status


def write(options: Sequence[str]) -> int:
    """Write every lock anew, and give the exit status."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for lock in LOCKS:
        path = ROOT / lock.path
        sources = _sources_of(lock)
        command = [str(UV), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header"]
        python = pyproject["project"]["requires-python"].removeprefix(">=")
        command += ["--python-version", python, "--output-file", lock.path, *sources, *options]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if ended.returncode:
            return ended.returncode
        path.write_text(_header(pyproject, lock) + path.read_text())
        print(f"wrote {lock.path}")
    return check()


def _sources_of(lock: Lock) -> list[str]:
    """Write the options that say what a lock is made from."""
    constraints = [] if lock.constraints is None else ["--constraints", lock.constraints]
    if lock.group is None:
        extras = [option for extra in lock.extras for option in ("--extra", extra)]
        return ["pyproject.toml", *extras, *constraints]
    if lock.with_project:
        return ["pyproject.toml", "--group", lock.group, *constraints]
    return ["--group", f"pyproject.toml:{lock.group}", *constraints]


def _header(pyproject: Mapping[str, Any], lock: Lock) -> str:
    return (
        f"# Versions and hashes of everything that {lock.purpose}. Written by hack/lock; do not edit.\n"
        f"# requirements sha256:{digest_of(pyproject, lock)}\n"
    )


def main() -> None:
    """Read the arguments and run."""
    match sys.argv[1:]:
        case ["check"]:
            sys.exit(check())
        case ["write", *options]:
            sys.exit(write(options))
        case _:
            sys.exit("usage: python -m hack.lock check | write [OPTION...]")


if __name__ == "__main__":
    main()
