"""Finds files with secrets, and the database, that any user of the machine may read or change.

Only what is open to everybody counts: a group may be meant to have access.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.certificate_files import certificate_files
from controller.config import Config, RegistryConfig
from controller.database_location import location_of

_BESIDE_DATABASE = ("", "-wal", "-shm", ".lock")
"""Endings of the SQLite database itself, its write-ahead log, the log's index, and the daemon's lock."""


@dataclass(frozen=True, slots=True)
class ExposedFile:
    """A file or directory that any user of the machine may read or change.

    Attributes:
        name: Config key that names the file, or names a file in the directory.
        what: What is wrong, as the end of a sentence whose subject is the path.
        advice: What an operator can do about it.
    """

    name: str
    path: Path
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.path} {self.what}"


def exposed_files(config: Config) -> tuple[ExposedFile, ...]:
    """Find the files and directories that are open to everybody; blocks.

    A file that does not exist, or whose mode cannot be read, is left out.
    """
    found: dict[Path, ExposedFile] = {}
    for name, path in _files_of(config):
        for exposed in _look_at(name, path):
            found.setdefault(exposed.path, exposed)
    return tuple(found.values())


def _files_of(config: Config) -> Iterator[tuple[str, Path]]:
    database = location_of(config).path
    if database is not None:
        for ending in _BESIDE_DATABASE:
            yield "database_url", database.with_name(f"{database.name}{ending}")
    named: list[tuple[str, Path | None]] = [
        ("database_password_file", config.database_password_file),
        ("journal_key_file", config.journal_key_file),
        ("uaa_client_secret_file", config.uaa_client_secret_file),
        ("cache_pull_password_file", config.cache_pull_password_file),
        ("registry_auth_file", config.registry_auth_file),
        *_secrets_of("cache_registry", config.cache_registry),
    ]
    for registry in config.registries:
        named += _secrets_of("registries", registry)
    for former in config.former_cache_registries:
        named += _secrets_of("former_cache_registries", former)
    named += [(file.key_name, file.key_path) for file in certificate_files(config)]
    yield from ((name, path) for name, path in named if path is not None)


def _secrets_of(key: str, registry: RegistryConfig) -> list[tuple[str, Path | None]]:
    return [
        (f"{key}.password_file", registry.password_file),
        (f"{key}.client_key_file", registry.client_key_file),
    ]


def _look_at(name: str, path: Path) -> Iterator[ExposedFile]:
    mode = _mode_of(path)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        can = "changed" if mode & stat.S_IWOTH else "read"
        what = f"can be {can} by any user of this machine (mode {stat.S_IMODE(mode):04o})"
        yield ExposedFile(
            name, path, what, f"`chmod o-rwx {path}`, and replace what is in it if it is secret"
        )
    # Of the file, and of a symbolic link to it; a loop of links, which nothing can open, is left as it is.
    own, linked = Path(os.path.realpath(path)).parent, Path(os.path.realpath(path.parent))
    for directory in dict.fromkeys((own, *own.parents, linked, *linked.parents)):
        mode = _mode_of(directory)
        is_sticky = bool(mode & stat.S_ISVTX)  # in a sticky directory nobody may rename another user's files
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and (directory in {own, linked} or not is_sticky):
            what = f"is a directory that any user may change, and with it {path.name}"
            yield ExposedFile(name, directory, what, f"`chmod o-w {directory}`, or use another directory")


def _mode_of(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
