"""What libraries and the interpreter write, in our shape."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from controller.library_logs import LibraryLines, capture_library_lines


class Lines:
    """The lines that were written to standard output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().out

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Capture what is written, and give back to the test run afterwards what it listens with."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        capture_library_lines()
        yield Lines(capsys)
        logging.captureWarnings(capture=False)
    root.handlers[:], root.level = before


def test_an_error_of_a_library_is_an_error_of_ours(lines: Lines) -> None:
    logging.getLogger("asyncio").error("Task %s was destroyed\nbut it is pending", "t-1")

    (line,) = lines.written()
    assert (line["level"], line["message"]) == ("error", "docker-cache.process.library-failed")
    assert line["data"] == {"logger-name": "asyncio", "text": "Task t-1 was destroyed but it is pending"}


def test_a_warning_of_a_library_is_for_whoever_looks_for_a_fault(lines: Lines) -> None:
    logging.getLogger("urllib3.connectionpool").warning("Connection pool is full")
    warnings.warn("old", DeprecationWarning, stacklevel=1)

    levels = [(line["level"], line["data"]["logger-name"]) for line in lines.written()]
    assert levels == [("debug", "urllib3.connectionpool"), ("debug", "py.warnings")]


def test_what_libraries_say_below_that_is_left_out_at_each_level(lines: Lines) -> None:
    """HTTP libraries write headers there."""
    logging.getLogger("httpx").info("HTTP Request: POST https://uaa.example/oauth/token")
    logging.getLogger("httpcore").debug("authorization: bearer marker-token")

    assert lines.text() == ""


def test_logins_in_a_librarys_lines_are_masked(lines: Lines) -> None:
    logging.getLogger("x").error("cannot reach https://robot:marker-password@registry.example/v2/")

    assert "marker-password" not in lines.text()


@pytest.mark.parametrize(("text", "values"), [("%d of %d", (1,)), ("%(count)d", ({"number": 1},))])
def test_a_line_that_a_library_words_wrongly_is_written_as_it_is(
    lines: Lines, text: str, values: tuple[object, ...]
) -> None:
    LibraryLines().emit(logging.LogRecord("x", logging.ERROR, "x.py", 1, text, values, None))

    (line,) = lines.written()
    assert line["data"]["text"] == text


def test_an_exception_that_nobody_has_caught_is_logged(lines: Lines) -> None:
    def fail() -> None:
        raise ValueError("why")

    thread = threading.Thread(target=fail, name="worker-1")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)

    ended, crashed = lines.written()
    assert (ended["level"], ended["message"]) == ("error", "docker-cache.process.thread-ended")
    assert ended["data"]["thread"] == "worker-1"
    assert (crashed["level"], crashed["message"]) == ("fatal", "docker-cache.process.crashed")
    assert crashed["data"]["error"] == "ValueError: why"


def test_an_exception_in_a_finalizer_is_logged(lines: Lines) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("why")

    Failing()

    (line,) = lines.written()
    assert line["message"] == "docker-cache.process.ignored-exception"
    assert line["data"]["error"] == "ValueError: why"
