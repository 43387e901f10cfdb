"""What whoever is on the machine may see of the process, and the log level."""

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from controller import debug_server, running_code
from controller.debug_server import serve_debug
from controller.log_level import LogLevel
from reconcile.errors import Invalid

pytestmark = pytest.mark.usefixtures("servers")


class Debugged:
    """A server and its event loop."""

    def __init__(self, port: int, level: LogLevel) -> None:
        self.port, self.level = port, level

    def ask_now(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode().rstrip("\n")
        finally:
            connection.close()

    async def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
        return await asyncio.to_thread(self.ask_now, method, path, body)


@pytest.fixture
async def server() -> AsyncIterator[Debugged]:
    level, stack = LogLevel("info"), ExitStack()
    serving = serve_debug("127.0.0.1:0", level, asyncio.get_running_loop())
    port = await asyncio.to_thread(stack.enter_context, serving)
    yield Debugged(port, level)
    await asyncio.to_thread(stack.close)


async def sleeps_until(event: asyncio.Event) -> None:
    await event.wait()


async def holds(secret: str, event: asyncio.Event) -> None:
    await sleeps_until(event)
    assert secret


async def test_tasks_are_shown_with_where_they_stand_and_without_values(server: Debugged) -> None:
    event = asyncio.Event()
    task = asyncio.create_task(holds("marker-password", event), name="holder")
    await asyncio.sleep(0)

    status, text = await server.ask("/debug/tasks?now")
    event.set()
    await task

    assert status == 200
    (part,) = (each for each in text.split("\n\n") if each.startswith("task holder:"))
    places = [line.split()[-1] for line in part.splitlines()[1:]]
    assert places == ["holds", "sleeps_until", "Event.wait", "FutureIter"]
    assert "tests/controller/test_debug_server.py:" in part
    assert "marker-password" not in text


async def test_threads_are_shown_with_where_they_stand(server: Debugged) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="worker-7")
    thread.start()

    status, text = await server.ask("/debug/threads")
    release.set()
    thread.join()

    assert status == 200
    (part,) = (each for each in text.split("\n\n") if each.startswith("thread worker-7:"))
    assert "Condition.wait" in part


async def test_an_event_loop_that_stands_still_is_said_to(
    server: Debugged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread shows where."""
    monkeypatch.setattr(debug_server, "LOOP_ANSWERS_WITHIN", 0.05)
    answers = list[tuple[int, str]]()

    def ask() -> None:
        answers.extend(server.ask_now("GET", path) for path in ("/debug/tasks", "/debug/threads"))

    asking = threading.Thread(target=ask)
    asking.start()
    stands_still(asking)

    (_, tasks), (_, threads) = answers
    assert tasks == "the event loop has not answered for 0.05 s: see /debug/threads"
    assert "stands_still" in threads


def stands_still(until_ended: threading.Thread) -> None:
    until_ended.join()


async def test_a_dump_is_bounded(server: Debugged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_code, "MOST_TASKS", 2)
    monkeypatch.setattr(running_code, "MOST_FRAMES", 1)
    event = asyncio.Event()
    tasks = [asyncio.create_task(sleeps_until(event), name=f"a-{n}") for n in range(5)]
    await asyncio.sleep(0)

    _, text = await server.ask("/debug/tasks")
    event.set()
    await asyncio.gather(*tasks)

    assert text.count("\ntask ") == 2
    assert text.splitlines()[-1].endswith("more are left out")
    assert "  2 outer frames are left out" in text


async def test_the_log_level_is_set_as_at_diegos_components(server: Debugged) -> None:
    spellings = {
        "debug": "debug",
        "ERROR": "error",
        "f": "fatal",
        "I": "info",
        "0": "debug",
        "error": "error",
    }
    for spelling, level in spellings.items():
        for method in ("PUT", "POST"):
            server.level.set("info")
            assert await server.ask("/log-level", method, f"{spelling}\n".encode()) == (200, level)
            assert server.level.name == level
    assert await server.ask("/log-level") == (200, "error")


async def test_another_level_is_refused(server: Debugged) -> None:
    for body in (b"", b"loud", b"debug" * 1000, b"\xff", b"4"):
        assert await server.ask("/log-level", "PUT", body) == (
            400,
            "the levels are debug, info, error, fatal",
        )
        assert server.level.name == "info"


async def test_other_paths_are_refused(server: Debugged) -> None:
    assert (await server.ask("/"))[0] == 404
    assert (await server.ask("/debug/tasks", "PUT", b"debug"))[0] == 404
    assert (await server.ask("/log-level", "DELETE"))[0] == 501


async def test_an_address_in_use_is_refused(server: Debugged) -> None:
    again = serve_debug(f"127.0.0.1:{server.port}", LogLevel("info"), asyncio.get_running_loop())
    with pytest.raises(Invalid, match="debug_address: cannot listen on"):
        await asyncio.to_thread(ExitStack().enter_context, again)
