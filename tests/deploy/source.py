"""Copies the source, as somebody has it who builds the container image, the package or the release."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from controller import __version__
from tests.authorities import environment_of_downloads
from tests.deploy.bosh import ROOT

BUILD = "hack/image"
"""Builds the image from packages that it downloads."""

_CHANGED = "1760000000"
"""When the source was changed, which a copy without git does not know."""


@dataclass(frozen=True, slots=True)
class Source:
    """A copy of the project's source.

    Attributes:
        directory: Where it lies.
        said: What the build of the image in it has printed; empty before.
    """

    directory: Path
    said: str = ""

    @classmethod
    def copied(cls, directory: Path) -> "Source":
        """Copy the source, without what git ignores, to a place that does not exist."""
        ignored = [line.rstrip("/").rpartition("/")[2] for line in (ROOT / ".gitignore").read_text().split()]
        leave_out = shutil.ignore_patterns(".git", ".venv", *ignored)
        shutil.copytree(ROOT, directory, ignore=leave_out, copy_function=shutil.copy)
        _give_interpreter(directory)
        return cls(directory)

    def built(self) -> "Source":
        """Build the image from packages that are downloaded."""
        return Source(self.directory, self.type(BUILD))

    def type(self, command: str, *, before: tuple[str, ...] = ()) -> str:
        """Run a command in it, and give what it prints.

        Args:
            command: As somebody types it.
            before: The words of a program that runs it.
        """
        ended = subprocess.run(
            [*before, "bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=environment_of_downloads() | {"SOURCE_DATE_EPOCH": _CHANGED},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    @property
    def archive(self) -> Path:
        """The file of the image."""
        return self.directory / "dist" / "image" / f"diego-docker-cache-{__version__}.tar"

    @property
    def packages(self) -> Path:
        """Where the packages lie that it was built from."""
        return self.directory / "dist" / "image" / "packages"


def _give_interpreter(directory: Path) -> None:
    """Give a copy of the source the environment of this interpreter, so that `hack/venv` has nothing to install."""
    environment = directory / ".venv"
    environment.mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("installed-"):
            (environment / path.name).symlink_to(path)
    shutil.copy(directory / "requirements" / "dev.txt", environment / "installed-lock")
    shutil.copy(directory / "pyproject.toml", environment / "installed-pyproject.toml")
