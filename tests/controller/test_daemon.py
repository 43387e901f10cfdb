"""The order in which the daemon says what it does; the scenarios of its process show the rest."""

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from controller import daemon
from controller.leadership.lease import lease_without_lock
from controller.leadership.standing import Standing
from controller.signals import StopRequested
from reconcile.errors import LeaseLost
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


async def test_a_loop_that_fails_is_logged_before_the_others_have_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And they may not hold up the end: whoever has the lock meanwhile does nothing with it."""
    limited = list[int]()
    monkeypatch.setattr(daemon, "limit_ending", limited.append)

    async def fail() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await asyncio.create_task(daemon._run_forever(fail()), name="watcher")

    (line,) = written_lines(capsys)
    assert limited == [5]
    assert (line["level"], line["message"]) == ("error", "docker-cache.daemon.loop-failed")
    assert (line["data"]["loop"], line["data"]["error"]) == ("watcher", "ValueError: why")


@pytest.mark.parametrize("is_of_many", [False, True])
async def test_a_loop_that_meets_the_loss_of_the_lock_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_of_many: bool
) -> None:
    """Whoever has noticed it has said so."""
    limited = list[int]()
    monkeypatch.setattr(daemon, "limit_ending", limited.append)
    lost = LeaseLost("another instance is active")

    async def fail() -> None:
        raise ExceptionGroup("loops of a loop", [lost]) if is_of_many else lost

    with pytest.raises((LeaseLost, ExceptionGroup)):
        await daemon._run_forever(fail())

    assert written_lines(capsys) == []
    assert limited == [1]
