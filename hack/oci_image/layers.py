"""Writes what is new in a directory as a layer, with the same bytes whenever the files are the same."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

TIME = 315_532_800
"""Of all files, in seconds since 1970: the first day of 1980, the earliest that archives can hold."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer.

    Attributes:
        digest: Of the compressed file.
        diff_id: The digest before it was compressed.
        comment: What is in it.
    """

    file: Path
    digest: str
    diff_id: str
    comment: str


@dataclass(frozen=True, slots=True)
class Access:
    """Who owns a file, where it is not root alone that may write.

    Attributes:
        user: Number of the user, and of the group.
    """

    user: int
    mode: int


def files_in(root: Path) -> frozenset[str]:
    """List everything below a directory, relative to it."""
    found = (
        os.path.join(parent, name)  # noqa: PTH118 - tens of thousands of them
        for parent, directories, files in os.walk(root)
        for name in (*directories, *files)
    )
    return frozenset(os.path.relpath(path, root) for path in found)


def write_layer(
    file: Path, root: Path, *, without: frozenset[str], access: Mapping[str, Access], comment: str
) -> Layer:
    """Write a layer with everything below a directory that was not there before.

    Args:
        file: Where it goes.
        root: The directory.
        without: What was there before, relative to the directory.
        access: Of files that not only root may write, by their path.
        comment: What is in it.
    """
    with file.open("wb") as output:
        compressed = _Hashing(output)
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=compressed, mtime=0) as packed:
            plain = _Hashing(packed)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for name in sorted(files_in(root) - without):
                    _add(archive, root, name, access.get(name))
    return Layer(file, compressed.digest, plain.digest, comment)


def _add(archive: tarfile.TarFile, root: Path, name: str, access: Access | None) -> None:
    path = root / name
    member = tarfile.TarInfo(name)
    member.mtime = TIME
    status = path.lstat()
    member.mode = _mode_of(status.st_mode)
    if access is not None:
        member.uid = member.gid = access.user
        member.mode = access.mode
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115 - as it is written
        archive.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = status.st_size
        with path.open("rb") as content:
            archive.addfile(member, content)


def _mode_of(mode: int) -> int:
    """Give a file's mode, whatever the umask was: it is run by everybody or by nobody."""
    if stat.S_ISLNK(mode):
        return 0o777
    return 0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644


class _Hashing(io.RawIOBase):
    """Writes on, and knows the digest of what it has written."""

    def __init__(self, output: "IO[bytes] | gzip.GzipFile") -> None:
        super().__init__()
        self._output = output
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._hash.update(data)
        return self._output.write(data)
