"""Apps that are pushed while their source is fast, slow or dead: how soon they serve, and what that costs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.pushes import LAYERS, all_on_copies, copy_of, staged, staged_and_cached
from tests.daemon.start_watch import Start, StartWatch, failed_creations, process_starts, stop_requests
from tests.simulators.bbs import Version
from tests.simulators.cell_network import Condition, Refused, Slow
from tests.simulators.cloud_controller import App

CELLS = 3
START_DELAY = 1.0
"""Seconds from a pull to RUNNING, which are in every figure."""
SLOW, VERY_SLOW = 8.0, 55.0
"""Seconds that the pull from a slow source takes: scaled, and as it was measured."""
UNAIDED = 3.0
"""Seconds after which an app without the daemon is not waited for, where its source is dead."""


@asynccontextmanager
async def opened(directory: Path, version: Version) -> AsyncIterator[Environment]:
    async with open_environment(
        directory,
        version=version,
        faulty_cache=True,
        start_delay=START_DELAY,
        cells=CELLS,
        sync_interval=30.0,
        converge_interval=30.0,
    ) as env:
        yield env


def is_in_order(_env: Environment, _copy: str) -> None:
    """Let nothing go wrong."""


def is_cut_off(env: Environment, _copy: str) -> None:
    """Let cells lose the way to the private registry, which they had when the canary ran."""
    env.impose(env.cache, Refused())


def lacks_its_config(env: Environment, copy: str) -> None:
    """Let the private registry lose the config of a copy, which cells fetch whatever they hold."""
    env.cache.lose_config(copy)


def lacks_its_layers(env: Environment, copy: str) -> None:
    """Let the private registry lose the layers of a copy."""
    env.cache.lose_layers(copy)


@dataclass(frozen=True, slots=True)
class Case:
    """What a push meets.

    Attributes:
        source: What cells meet at the source, when the pull of an image takes some seconds.
        cache: What goes wrong with a copy before the LRP is desired.
        ends_on: What it is desired from in the end.
        reason: Why it is back on its source; empty where it is not.
    """

    name: str
    source: Callable[[float], Condition | None] = lambda _seconds: None
    cache: Callable[[Environment, str], None] = is_in_order
    ends_on: str = "copy"
    reason: str = ""

    @property
    def is_unaided(self) -> bool:
        """Whether it is compared with a push without the daemon."""
        return self.cache is is_in_order


CASES = (
    Case("fast source"),
    Case("slow source", lambda seconds: Slow(seconds=seconds / LAYERS)),
    Case("dead source", lambda _seconds: Refused()),
    Case("config of the copy lost", cache=lacks_its_config, ends_on="source", reason="copy-not-pulled"),
    Case(
        "layers of the copy lost and slow source",
        lambda seconds: Slow(seconds=seconds / LAYERS),
        cache=lacks_its_layers,
        ends_on="source",
        reason="copy-not-pulled",
    ),
    Case("cells cannot pull the copy", cache=is_cut_off, ends_on="source", reason="not-pulled"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one push came to."""

    start: Start
    starts: Counter[str]
    stops: int
    failures: int

    def __str__(self) -> str:
        start = self.start
        starts = " + ".join(f"{count} from the {where}" for where, count in sorted(self.starts.items()))
        served = (
            "never"
            if start.served_at is None
            else f"after {start.seconds:.2f} s from its {start.served_from}"
        )
        return (
            f"served {served}, down later {start.down:.2f} s, process starts {starts or 'none'}, "
            f"{self.stops} stop requests, {self.failures} failed creations, ends on its {start.moves[-1]}"
        )


def row_of(env: Environment, watch: StartWatch, app: App, *, failures: int) -> Row:
    starts, stops = process_starts(env, app), stop_requests(env, app)
    return Row(watch.of(app), starts, stops, failed_creations(env) - failures)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)  # with --long the slow source alone takes longer than the limit of others
async def test_a_push_serves_in_seconds_whatever_its_source_and_its_copy_do(
    version: Version,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    seconds = VERY_SLOW if pytestconfig.getoption("--long") else SLOW
    rows = dict[str, Row]()
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(opened(tmp_path / "bare", version))
        env = await stack.enter_async_context(opened(tmp_path / "daemon", version))
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        unaided, aided = StartWatch(bare), StartWatch(env)
        with unaided.watching(), aided.watching():
            for case in CASES:
                if case.is_unaided:
                    rows[f"{case.name}, no daemon"] = await without_daemon(bare, unaided, case, seconds)
                rows[f"{case.name}, daemon"] = await with_daemon(env, daemon, aided, case, seconds)
    shown = "\n  ".join(f"{name}: {row}" for name, row in rows.items())
    record_property("figures", f"a slow source takes {seconds:g} s\n  {shown}")

    assert rows["dead source, no daemon"].start.served_at is None
    for case in CASES:
        row = rows[f"{case.name}, daemon"]
        assert row.start.moves[-1] == case.ends_on, case.name
        if case.ends_on == "source" or case.source(seconds) is not None:  # else both are as fast
            assert row.start.served_from == case.ends_on, case.name


def let_fail(env: Environment, case: Case, seconds: float) -> None:
    condition = case.source(seconds)
    if condition is not None:
        env.impose(env.source, condition)


async def without_daemon(env: Environment, watch: StartWatch, case: Case, seconds: float) -> Row:
    app, failures = await staged(env, case.name), failed_creations(env)
    let_fail(env, case, seconds)
    start = await watch.start(app)
    if case.source(seconds) == Refused():
        await asyncio.sleep(UNAIDED)
        await env.cloud.delete(app)  # or it serves after all once the source is mended
    else:
        await until(lambda: start.served_at is not None)
    env.mend(env.source)
    return row_of(env, watch, app, failures=failures)


async def with_daemon(
    env: Environment, daemon: DaemonProcess, watch: StartWatch, case: Case, seconds: float
) -> Row:
    app, failures = await staged_and_cached(env, daemon, case.name), failed_creations(env)
    let_fail(env, case, seconds)
    case.cache(env, copy_of(env, daemon, app))
    start = await watch.start(app)
    if case.ends_on == "copy":
        await all_on_copies(env, [app])
    else:
        await until(lambda: start.served_at is not None and not env.is_from_cache(app))
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason=case.reason)
    env.mend(env.source)
    return row_of(env, watch, app, failures=failures)
