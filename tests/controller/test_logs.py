"""The shape of a log line, as Diego's components write it."""

import errno
import io
import json
import re
import time
from typing import Any

import pytest
import structlog

from controller.logs import TimeFormat, configure_logs
from controller.tracing import request_id, trace_id, tracing
from reconcile.lrps import Credentials, Secret


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logs("info", stream)
    return stream


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def only_line(stream: io.StringIO) -> Any:
    text = stream.getvalue()
    assert text.count("\n") == 1
    return json.loads(text)


def test_a_line_has_lagers_keys_and_kebab_case_data(lines: io.StringIO) -> None:
    structlog.get_logger(scope="cacher").info("cached-image", source_image="a/b:1", duration_s=4.2)

    line = only_line(lines)
    assert list(line) == ["timestamp", "level", "source", "message", "data"]
    assert line["level"] == "info"
    assert line["source"] == "docker-cache"
    assert line["message"] == "docker-cache.cacher.cached-image"
    assert line["data"] == {"source-image": "a/b:1", "duration-s": 4.2}


def test_a_timestamp_has_nine_digits_and_utc(lines: io.StringIO) -> None:
    structlog.get_logger(scope="x").error("failed-to-list")

    line = only_line(lines)
    assert line["level"] == "error"
    assert len(line["timestamp"]) == len("2026-01-05T10:00:00.123456000Z")
    assert line["timestamp"].endswith("Z")


def test_a_level_below_the_set_one_is_not_written(lines: io.StringIO) -> None:
    structlog.get_logger(scope="x").debug("ignored-task")

    assert lines.getvalue() == ""


def test_a_log_that_cannot_be_written_costs_the_line_and_not_the_process() -> None:
    configure_logs("info", FullDisk())

    structlog.get_logger(scope="x").info("event")


def test_a_secret_is_not_shown(lines: io.StringIO) -> None:
    credentials = Credentials("robot", Secret("marker-password"))
    structlog.get_logger(scope="x").info("event", credentials=credentials, password=credentials.password)

    assert "marker-password" not in lines.getvalue()


def test_an_exception_stays_on_one_line_with_its_traceback(lines: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError("why")

    try:
        fail()
    except ValueError:
        structlog.get_logger(scope="x").exception("failed-to-reconcile")

    line = only_line(lines)
    assert line["level"] == "error"
    assert line["data"]["error"] == "ValueError: why"
    assert line["data"]["trace"].startswith("Traceback")
    assert line["data"]["trace"].endswith("ValueError: why")


@pytest.mark.parametrize(
    "character", ["\x9b", "\u202e", "\u2066", "\u2028", "\x7f", "\x1b", "\ud800", "\U000e0001"]
)
def test_what_a_terminal_obeys_is_written_as_an_escape(lines: io.StringIO, character: str) -> None:
    structlog.get_logger(scope="x").info("event", app_name=f"a{character}b", **{f"k{character}": 1})

    assert lines.getvalue().rstrip("\n").isprintable()
    assert lines.getvalue().encode(), "it can be written"
    assert only_line(lines)["data"] == {"app-name": f"a{character}b", f"k{character}": 1}


def test_a_text_without_a_bound_does_not_fill_the_disk(lines: io.StringIO) -> None:
    structlog.get_logger(scope="x").info("event", error="x" * 4_000_000)

    assert len(lines.getvalue()) < 20_000


def test_with_unix_time_the_level_is_a_number() -> None:
    """Lager's other form: other keys in another order, and the time in a text."""
    stream = io.StringIO()
    configure_logs("debug", stream, time_format=TimeFormat.UNIX_EPOCH)
    before = time.time()
    for level in ("debug", "info", "error", "fatal"):
        getattr(structlog.get_logger(scope="x"), level)("event", b=1)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [list(each) for each in lines] == [["timestamp", "source", "message", "log_level", "data"]] * 4
    assert [each["log_level"] for each in lines] == [0, 1, 2, 3]
    assert all(re.fullmatch(r"[0-9]{10}\.[0-9]{9}", each["timestamp"]) for each in lines)
    assert before - 0.001 <= float(lines[0]["timestamp"]) <= time.time()


def test_the_level_can_be_changed_while_lines_are_written() -> None:
    stream = io.StringIO()
    level, log = configure_logs("error", stream), structlog.get_logger(scope="x")
    log.info("left-out")
    level.set("debug")
    log.debug("written")
    level.set("fatal")
    log.error("left-out")
    log.fatal("written-too")

    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages == ["docker-cache.x.written", "docker-cache.x.written-too"]
    assert (level.name, level.configured) == ("fatal", "error")


def test_lines_of_one_piece_of_work_have_one_trace_id(lines: io.StringIO) -> None:
    """It is the one that the BBS is sent, and has in its own lines under the same key."""
    log = structlog.get_logger(scope="x")
    with tracing() as first:
        assert request_id() == trace_id() == first
        log.info("event")
    with tracing() as second:
        log.info("event")
    log.info("event")

    found = [json.loads(line)["data"].get("trace-id") for line in lines.getvalue().splitlines()]
    assert found == [first, second, None]
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert len({first, second, request_id(), request_id()}) == 4
