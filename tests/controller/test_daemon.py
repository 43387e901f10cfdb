"""The order in which the daemon says what it does; the scenarios of its process show the rest."""

import asyncio
import os
import re
import threading
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from controller import daemon
from controller.leadership.lease import lease_without_lock
from controller.leadership.standing import Standing
from controller.signals import StopRequested
from tests.written_lines import written_lines


async def never() -> None:
    await asyncio.Event().wait()


async def test_it_takes_signals_before_it_says_that_it_has_started() -> None:
    """Whoever has read that may send SIGTERM at once, and the process ends in good order."""

    async def nothing() -> None:
        """Find nothing that was removed."""

    loop = SimpleNamespace(
        slots=1, run=never, keep_bridges_fresh=never, desire_removed_lrps=nothing, save=nothing
    )
    config: Any = SimpleNamespace(workers=1)
    names = (
        "watcher",
        "cacher",
        "reconciler",
        "health",
        "store_counts",
        "presence",
        "unknown_copies",
        "unused",
    )
    running = dict.fromkeys(
        (
            *names,
            "pull_login",
            "certificates",
            "uploads",
            "retention",
            "store_marker",
            "failures",
            "database_watch",
        ),
        loop,
    )
    loops: Any = SimpleNamespace(
        **running, app_logs=None, optional_loops=lambda: iter(()), close=lambda: None
    )
    said_before, standing = list[str](), Standing("a", lease_without_lock())

    async def take_signals() -> NoReturn:
        said_before.extend(entry["event"] for entry in logs)
        await asyncio.sleep(0)
        raise StopRequested

    with capture_logs() as logs:
        assert not await daemon._run_loops(config, loops, take_signals(), standing)

    assert standing.position.obstacle == ""

    assert said_before == []
    assert [entry["event"] for entry in logs] == ["started", "stopping", "loops-ended"]


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
    monkeypatch.setattr(daemon, "END_WITHIN", 0.01)
    monkeypatch.setattr(daemon, "SAY_WITHIN", 60.0)
    held = threading.Thread(target=resolve, name="resolver-1")
    held.start()
    daemon._limit_ending(daemon.HELD_UP)
    assert has_ended.wait(60)
    release.set()
    held.join()

    (line,) = written_lines(capsys)
    assert statuses == [5]
    assert (line["level"], line["message"]) == ("error", "docker-cache.daemon.ended-by-force")
    assert re.search(
        r"thread resolver-1:\n(  .*\n)*  \S+test_daemon.py:[0-9]+ \S*resolve\n", line["data"]["threads"]
    )


def test_a_process_ends_itself_although_nobody_reads_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is full holds up whoever writes a line."""
    is_read, has_ended, statuses = threading.Event(), threading.Event(), list[int]()

    def end(status: int) -> None:
        statuses.append(status)
        has_ended.set()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(daemon, "END_WITHIN", 0.01)
    monkeypatch.setattr(daemon, "SAY_WITHIN", 0.01)
    monkeypatch.setattr(daemon, "log", SimpleNamespace(error=lambda *_, **__: is_read.wait()))
    daemon._limit_ending(daemon.LOST_LOCK)
    ended_in_time = has_ended.wait(60)
    is_read.set()

    assert ended_in_time
    assert statuses == [1]
