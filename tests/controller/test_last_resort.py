"""The end of a process that does not end by itself."""

import os
import re
import threading
from types import SimpleNamespace

import pytest

from controller import last_resort
from tests.written_lines import written_lines


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
