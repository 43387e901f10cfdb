import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.store.inspection import check_database, check_schema
from controller.store.lock import find_holder, hold_lock
from reconcile.errors import Conflict, Invalid
from tests.stores import at, open_store

HOLD = """
import sys
from pathlib import Path
from controller.store.lock import hold_lock
with hold_lock(Path(sys.argv[1]), run_id="other"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_holder(database: Path) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", HOLD, str(database)]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


@pytest.mark.usefixtures("servers")
async def test_a_second_process_is_told_who_holds_the_store(url: str, tmp_path: Path) -> None:
    async with open_store(url, journal_key=None, run_id="r"):
        pass
    with other_holder(tmp_path / "state/store.db") as holder:
        with pytest.raises(Conflict) as caught:
            async with open_store(url, journal_key=None, run_id="r"):
                pass
        assert caught.value.code == "store-in-use"
        assert f"process {holder.pid} since 20" in caught.value.detail

        await asyncio.to_thread(at, check_database, url)
        await asyncio.to_thread(at, check_schema, url)


@pytest.mark.usefixtures("servers")
async def test_a_killed_holder_holds_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with other_holder(tmp_path / "state/store.db") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=60)

        async with open_store(url, journal_key=None, run_id="r"):
            note = json.loads((tmp_path / "state/store.db.lock").read_bytes())

    assert note["pid"] == os.getpid()
    assert note["run_id"] == "r"


async def test_a_store_is_opened_once_in_a_process_too(url: str) -> None:
    async with open_store(url, journal_key=None, run_id="r"):
        with pytest.raises(Conflict):
            async with open_store(url, journal_key=None, run_id="r"):
                pass
    async with open_store(url, journal_key=None, run_id="r"):
        pass


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b"\xff"])
def test_a_holder_that_left_no_note_is_still_respected(tmp_path: Path, note: bytes) -> None:
    database = tmp_path / "store.db"
    with hold_lock(database, run_id="r"):
        (tmp_path / "store.db.lock").write_bytes(note)
        with pytest.raises(Conflict, match="held by another process"), hold_lock(database, run_id="r"):
            pass


def test_who_asks_for_the_holder_is_told_of_it_and_takes_nothing(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    assert find_holder(database) is None
    assert list(tmp_path.iterdir()) == []

    with hold_lock(database, run_id="r"):
        holder = find_holder(database)
        assert holder is not None
        assert holder.startswith(f"process {os.getpid()} since 20")

    assert find_holder(database) is None  # its note is still there
    with hold_lock(database, run_id="r"):
        pass


def test_one_who_asks_is_no_holder_to_another_who_asks(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    with hold_lock(database, run_id="r"):
        pass

    descriptor = os.open(tmp_path / "store.db.lock", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert find_holder(database) is None
    finally:
        os.close(descriptor)


def test_a_lock_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "store.db.lock").symlink_to(tmp_path / "store.db.lock")

    with pytest.raises(Invalid, match=r"cannot read .*store\.db\.lock"):
        find_holder(tmp_path / "store.db")
