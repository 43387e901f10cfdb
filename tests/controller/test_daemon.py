"""The order in which the daemon says what it does; the scenarios of its process show the rest."""

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

from structlog.testing import capture_logs

from controller import daemon
from controller.leadership.lease import lease_without_lock
from controller.leadership.standing import Standing
from controller.signals import StopRequested


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
