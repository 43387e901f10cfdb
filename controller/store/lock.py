"""Gives a database to one process at a time, by an exclusive flock that the kernel frees when it ends.

The lock file is never deleted: else one process could hold the lock of the deleted file, and another
the lock of a new one.
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
    path = _lock_file(database)
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


def find_holder(database: Path) -> str | None:
    """Name the process that holds the lock of a database file; None where no process does.

    The call itself takes a shared lock for a moment: two processes that call it at the same time do not
    take each other for a holder. It does not create the lock file.

    Raises:
        Invalid: `database-path`: the lock file cannot be read.
    """
    path = _lock_file(database)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(
            "store", "database-path", f"cannot read {path} ({error.strerror}); give this user access to it"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError as error:
        raise _unlockable(database, error) from error
    else:
        return None
    finally:
        os.close(descriptor)


def _lock_file(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def _unlockable(database: Path, error: OSError) -> Invalid:
    detail = f"cannot lock {database} ({error.strerror}): put it on a local disk"
    return Invalid("store", "database-path", detail)


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
        raise _unlockable(database, error) from error


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
    except (OSError, ValueError, KeyError, TypeError):  # it holds the lock and has not written its note yet
        return "another process"
