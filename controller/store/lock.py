"""Keeps a database to one process: an exclusive flock beside the file, freed by the kernel at any death.

The lock file is never deleted: a process that waits at the old file and one that creates
a new one would both hold "the" lock.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reconcile.errors import Conflict, Invalid

_MAX_NOTE = 4096


@contextmanager
def hold_lock(database: Path, *, run_id: str) -> Iterator[None]:
    """Hold the lock of a database file.

    Raises:
        Conflict: `store-in-use`; it names the process that holds it.
        Invalid: `database-path`: the lock file cannot be created.
    """
    path = database.with_name(f"{database.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Invalid(
            "store",
            "database-path",
            f"cannot create {path} ({error.strerror}); give this user access to it and its directory",
        ) from error
    try:
        _take(descriptor, database)
        _write_note(descriptor, run_id)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, database: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(
            "store",
            "store-in-use",
            f"{database} is held by {_holder(descriptor)}; "
            "stop it or give this instance another database_url",
        ) from error
    except OSError as error:
        raise Invalid(
            "store",
            "database-path",
            f"cannot lock {database} ({error.strerror}): put it on a local disk",
        ) from error


def _write_note(descriptor: int, run_id: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = json.dumps({"pid": os.getpid(), "since": now, "run_id": run_id}).encode()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note, 0)
    except OSError:
        # The note is for people; on a full disk the lock holds without it.
        return


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, _MAX_NOTE, 0))
        return f"process {note['pid']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and has not written yet
        return "another process"
