"""What every test gets: a detector of blocking calls on the event loop, and the log as the process writes it.

Sizes of a run: all tests but those marked `thorough` or `long`, which is the gate; with --fast of these only
those that start no process and no server of their own; with --thorough those that CI runs after the gate; with
--long all of them.
"""

import asyncio
import functools
import gc
import io
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc.aio
import hypothesis
import pytest
from blockbuster import BlockBuster

from controller.logs import configure_logs
from tests import databases
from tests.authorities import trust_one_authority
from tests.examples import draw_no_constants_of_modules
from tests.order import Scheduler, in_order

# Before Python 3.12 pytest-asyncio's first look for a running loop makes one and never closes it,
# unless it was said that there is none.
asyncio.set_event_loop(None)

IDLE_ROUNDS = pytest.mark.looptime(noop_cycles=1)
"""How often a loop with virtual time asks for something ready before its time moves on: by default 42 times."""

WITH_SERVERS = tuple(Path(__file__).parent / name for name in ("contracts", "daemon"))
"""Where each test starts processes and servers; --fast does not even import them."""

STARTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"})
"""What the interpreter calls the start of a process."""

hypothesis.settings.register_profile("gate", derandomize=True, database=None, deadline=None, max_examples=50)
"""The same examples in each run: what fails has a reason in the change."""
hypothesis.settings.register_profile("long", print_blob=True, deadline=None, max_examples=200)
"""Other examples in each run, and how to see one again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    sizes = parser.getgroup("sizes")
    sizes.addoption("--fast", action="store_true", help="only tests that start no process and no server")
    sizes.addoption(
        "--thorough", action="store_true", help="those marked thorough, which CI runs after the gate"
    )
    sizes.addoption("--long", action="store_true", help="all of them, and new random examples")


def pytest_configure(config: pytest.Config) -> None:
    if sum(map(config.getoption, ("--fast", "--thorough", "--long"))) > 1:
        raise pytest.UsageError("--fast, --thorough and --long exclude each other")
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "gate")
    if not config.getoption("--long"):
        draw_no_constants_of_modules(pytest.MonkeyPatch())
    # A run that a shell has put in the background ignores Ctrl-C, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(guard.see)
    databases.begin_run()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        trust_one_authority(Path(os.environ[databases.RUN_DIRECTORY]))
    asyncio.run(hold_grpc())


def pytest_unconfigure() -> None:
    detector.is_on = False
    databases.disconnect()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        databases.end_run()


async def hold_grpc() -> None:
    """Keep gRPC going until the process ends.

    Whenever it has no channel left it would join its thread and leave sockets to the garbage collector, in
    whichever test is running then.
    """
    grpc.aio.init_grpc_aio()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, which would walk ten thousand tests again and again.

    What was collected stays until the end, so the collector does not look at it later either.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--fast") and collection_path in WITH_SERVERS else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Whoever names a file or a test wants its thorough ones too.
    is_whole = [Path(each).resolve() for each in config.args] == [config.rootpath / "tests"]

    def is_left_out(item: pytest.Item) -> bool:
        is_long, is_thorough = (item.get_closest_marker(name) is not None for name in ("long", "thorough"))
        if config.getoption("--long"):
            return False
        if config.getoption("--thorough"):
            return is_long or not is_thorough
        is_fast = config.getoption("--fast")
        return is_long or (is_thorough and (is_whole or is_fast)) or (is_fast and has_servers(item))

    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = in_order([item for item in items if not is_left_out(item)])
    for item in items:
        if item.get_closest_marker("looptime") is not None:
            item.add_marker(IDLE_ROUNDS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., None]) -> Scheduler | None:
    return Scheduler(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests counted: they are what a reader of a run wants to see."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid}: {text}")


def has_servers(item: pytest.Item) -> bool:
    """Whether a test may start processes and servers."""
    asked = "servers" in getattr(item, "fixturenames", ())
    return asked or item.get_closest_marker("starts_servers") is not None


class Guard:
    """Fails a test that starts a process or a server and does not ask for the fixture `servers`."""

    is_on = False

    def see(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.is_on:
            return
        if event in STARTS or (event == "socket.bind" and is_server(arguments[0])):
            raise RuntimeError(f"{event}: what starts a process or a server asks for the fixture `servers`")


def is_server(bound: object) -> bool:
    return isinstance(bound, socket.socket) and bound.type & socket.SOCK_STREAM == socket.SOCK_STREAM


guard = Guard()


class Detector:
    """Fails a test whose event loop waits inside our code; on or off for many tests, since that takes a moment.

    It is off where the program is another process: then the event loop is that of simulators.
    """

    def __init__(self) -> None:
        self._is_on = False

    @functools.cached_property
    def _of_calls(self) -> BlockBuster:
        found = BlockBuster(scanned_modules=["controller", "reconcile"])
        # A traceback in a log line quotes the source.
        for call in ("os.stat", "io.BufferedReader.read", "io.TextIOWrapper.read"):
            found.functions[call].can_block_in("linecache.py", {"checkcache", "updatecache"})
        return found

    @property
    def is_on(self) -> bool:
        return self._is_on

    @is_on.setter
    def is_on(self, on: bool) -> None:
        if on != self._is_on:
            (self._of_calls.activate if on else self._of_calls.deactivate)()
            self._is_on = on


detector = Detector()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    guard.is_on = not has_servers(item)
    detector.is_on = not item.nodeid.startswith("tests/daemon/")
    configure_logs("debug", CapturedOutput())
    try:
        return (yield)
    finally:
        guard.is_on = False


@pytest.fixture(scope="session")
def servers() -> None:
    """Say that a test, or a fixture of it, starts processes or servers; --fast leaves it out."""


PassTime = Callable[[float], Awaitable[None]]


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> PassTime:
    """Let seconds pass on the clock of the running event loop, when all of its tasks wait for something.

    A test of a time limit takes a long one and lets it pass: then nothing but silence can reach it, however
    busy the machine is.
    """

    async def pass_seconds(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time
        await asyncio.sleep(0.05)  # for what others have sent already
        monkeypatch.setattr(loop, "time", lambda: before() + seconds)
        for _ in range(10):
            await asyncio.sleep(0)

    return pass_seconds


class CapturedOutput(io.StringIO):
    """Standard output as it is when something is written, since pytest has another one for each test."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)
