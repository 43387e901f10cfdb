"""The end of a process that does not end by itself."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from controller import last_resort
from tests.written_lines import written_lines

BEGIN = """
import ctypes, os, signal, sys, time
from controller import last_resort
last_resort.END_WITHIN, last_resort.DUMP_WITHIN, last_resort.KILL_WITHIN = 60.0, 2.0, 60.0
"""
"""Begins a program whose end the system limits to two seconds."""


@pytest.fixture(autouse=True)
def _no_limit_by_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what ends a whole process from the one that runs these tests."""
    monkeypatch.setattr(last_resort, "_limit_by_system", lambda: None)


@pytest.fixture(autouse=True)
def _no_limit_is_left() -> Iterator[None]:
    yield
    for each in threading.enumerate():
        if each.name == last_resort.THREAD:
            each.join(60)


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    arguments = [sys.executable, "-c", BEGIN + program]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.usefixtures("servers")
def test_a_process_in_which_no_python_can_run_is_ended_and_its_stacks_are_written() -> None:
    """A library may wait for something while it holds the interpreter's lock, or for ever for that lock."""
    ended = run("""
def calls_a_library():
    ctypes.PyDLL(None).sleep(50)

last_resort.limit_ending(last_resort.HELD_UP)
calls_a_library()
""")

    assert ended.returncode == 1
    assert ended.stderr.startswith("Timeout (0:00:02)!")
    assert " in calls_a_library" in ended.stderr


@pytest.mark.usefixtures("servers")
def test_such_a_process_is_ended_although_nobody_reads_what_is_written() -> None:
    ended = run("""
unread, full = os.pipe()
os.set_blocking(full, False)
try:
    while True:
        os.write(full, bytes(4096))
except BlockingIOError:
    os.set_blocking(full, True)
os.dup2(full, last_resort.STANDARD_ERROR)
last_resort.KILL_WITHIN = 3.0
last_resort.limit_ending(last_resort.HELD_UP)
ctypes.PyDLL(None).sleep(50)
""")

    assert ended.returncode == -signal.SIGALRM


@pytest.mark.usefixtures("servers")
def test_a_later_limit_moves_no_earlier_one() -> None:
    ended = run("""
last_resort.limit_ending(last_resort.HELD_UP)
before = signal.getitimer(signal.ITIMER_REAL)[0]
last_resort.DUMP_WITHIN = 50.0
last_resort.limit_ending(last_resort.HELD_UP)
print(signal.getitimer(signal.ITIMER_REAL)[0] <= before, flush=True)
ctypes.PyDLL(None).sleep(50)
""")

    assert (ended.returncode, ended.stdout) == (1, "True\n")
    assert ended.stderr.startswith("Timeout (0:00:02)!")


@pytest.mark.usefixtures("servers")
def test_the_status_is_that_of_the_first_limit() -> None:
    ended = run("""
last_resort.END_WITHIN = 0.3
last_resort.limit_ending(last_resort.LOST_LOCK)
for _ in range(20):
    last_resort.limit_ending(last_resort.HELD_UP)
time.sleep(50)
""")

    assert ended.returncode == last_resort.LOST_LOCK


@pytest.mark.usefixtures("servers")
def test_where_no_thread_can_be_started_the_system_ends_the_process() -> None:
    ended = run("""
import faulthandler, threading

def fail(*_, **__):
    raise RuntimeError("can't start new thread")

threading.Thread.start = faulthandler.dump_traceback_later = fail
last_resort.KILL_WITHIN = 1.0
last_resort.limit_ending(last_resort.LOST_LOCK)
time.sleep(50)
""")

    assert (ended.returncode, ended.stderr) == (-signal.SIGALRM, "")


@pytest.mark.usefixtures("servers")
def test_a_process_that_begins_anew_is_not_limited() -> None:
    ended = run("""
sys.orig_argv = [sys.executable, "-c", "import time; time.sleep(1); print('went on')"]
last_resort.KILL_WITHIN = 0.8
last_resort.limit_ending(last_resort.HELD_UP)
last_resort.begin_anew()
""")

    assert (ended.returncode, ended.stdout) == (0, "went on\n")


def test_a_process_that_something_holds_up_ends_itself_and_says_where_it_stood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a thread that a name server keeps waiting, which nothing can cancel."""
    release, has_ended, statuses = threading.Event(), threading.Event(), list[int]()

    def end(status: int) -> None:
        statuses.append(status)
        has_ended.set()

    def resolve() -> None:
        release.wait()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(last_resort, "END_WITHIN", 0.01)
    monkeypatch.setattr(last_resort, "SAY_WITHIN", 60.0)
    held = threading.Thread(target=resolve, name="resolver-1")
    held.start()
    last_resort.limit_ending(last_resort.HELD_UP)
    assert has_ended.wait(60)
    release.set()
    held.join()

    (line,) = written_lines(capsys)
    assert statuses == [5]
    assert (line["level"], line["message"]) == ("error", "docker-cache.daemon.ended-by-force")
    assert re.search(
        r"thread resolver-1:\n(  .*\n)*  \S+test_last_resort.py:[0-9]+ \S*resolve\n", line["data"]["threads"]
    )


def test_a_process_ends_itself_although_nobody_reads_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is full holds up whoever writes a line."""
    is_read, has_ended, statuses = threading.Event(), threading.Event(), list[int]()

    def end(status: int) -> None:
        statuses.append(status)
        has_ended.set()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(last_resort, "END_WITHIN", 0.01)
    monkeypatch.setattr(last_resort, "SAY_WITHIN", 0.01)
    monkeypatch.setattr(last_resort, "log", SimpleNamespace(error=lambda *_, **__: is_read.wait()))
    last_resort.limit_ending(last_resort.LOST_LOCK)
    ended_in_time = has_ended.wait(60)
    is_read.set()

    assert ended_in_time
    assert statuses == [1]
