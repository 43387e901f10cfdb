"""Collects Debian's packages with the machine's apt, and reads them.

apt verifies what it downloads by the keys of Debian. It works in a directory of its own here, with a status
in which nothing is installed, so it needs no root and finds all that a package needs.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RELEASE = "bookworm"
PYTHON = "3.11"
"""The Python of that release."""

GLIBC = 36
"""Minor version of its glibc 2."""

_WITH_NEEDS = (f"python{PYTHON}", "libstdc++6")
"""Python, and what wheels are linked against."""

_FILES_ONLY = ("base-files", "ca-certificates", "netbase")
"""Directories and the release's name, CA certificates, names of protocols: nothing of them runs."""

_NOT_NEEDED = ("dpkg",)
"""What packages need for being installed on a machine, such as for registering their manuals."""

_PINS = f"""\
Package: *
Pin: release o=Debian, n=/^{RELEASE}/
Pin-Priority: 990

Package: *
Pin: release o=*
Pin-Priority: -1
"""
"""Whatever else the machine's apt knows, only this release of Debian and its updates are taken."""


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A package, as its control file tells of it.

    Attributes:
        source: The source package, which has the name of the package where it is not said.
        control: The whole of the control file.
    """

    file: Path
    name: str
    version: str
    architecture: str
    source: str
    control: str


class Missing(Exception):
    """A tool of Debian is not there; the message says which."""


def need_tools() -> None:
    """See that Debian's tools are there.

    Raises:
        Missing: One of them is not.
    """
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Missing(f"there is no {tool} here: build the image on Debian, or in a container of it")


def architecture() -> str:
    """Give Debian's name of this machine's architecture, such as "amd64"."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def download(
    directory: Path,
    scratch: Path,
    *,
    with_needs: Sequence[str] = _WITH_NEEDS,
    files_only: Sequence[str] = _FILES_ONLY,
) -> None:
    """Download the image's packages, or others, into a directory.

    Args:
        directory: Where they go.
        scratch: For apt's state.
        with_needs: Those that are downloaded with all that they need.
        files_only: Those that are downloaded by themselves.
    """
    environment = {**os.environ, "APT_CONFIG": str(_configured(scratch))}
    apt = ["apt-get", "--quiet=2"]
    for command in (
        ["update"],
        ["--yes", "--download-only", "install", *with_needs],
        *(["download", name] for name in files_only),
    ):
        subprocess.run([*apt, *command], cwd=scratch / "archives", env=environment, check=True)
    directory.mkdir(parents=True, exist_ok=True)
    for package in (scratch / "archives").glob("*.deb"):
        package.replace(directory / package.name)


def _configured(scratch: Path) -> Path:
    for needed in ("lists/partial", "archives/partial"):
        (scratch / needed).mkdir(parents=True)
    (scratch / "preferences").write_text(_PINS)
    known = (
        f"Package: {each}\nStatus: install ok installed\nArchitecture: {architecture()}\nVersion: 9999\n"
        "Maintainer: nobody\nDescription: not in the image\n"
        for each in _NOT_NEEDED
    )
    (scratch / "status").write_text("\n".join(known) + "\n")
    settings = {
        "Dir::State": scratch,
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch,
        "Dir::Cache::archives": scratch / "archives",
        "Dir::Etc::preferences": scratch / "preferences",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",  # the directory is this user's alone
        "Acquire::Languages": "none",
    }
    written = scratch / "apt.conf"
    written.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return written


def packages_in(directory: Path) -> Iterator[DebianPackage]:
    """Read the packages of a directory, by name."""
    read = (_read(file) for file in directory.glob("*.deb"))
    yield from sorted(read, key=lambda package: package.name)


def _read(file: Path) -> DebianPackage:
    command = ["dpkg-deb", "--field", str(file)]
    control = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = _fields(control)
    source = fields.get("Source", fields["Package"]).partition(" ")[0]
    return DebianPackage(
        file, fields["Package"], fields["Version"], fields["Architecture"], source, control.strip() + "\n"
    )


def _fields(control: str) -> Mapping[str, str]:
    lines = (line.partition(":") for line in control.splitlines() if line[:1].strip())
    return {key: value.strip() for key, _, value in lines}
