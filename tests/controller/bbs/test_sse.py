"""Covers where events begin and end; what they mean is in test_events.py."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.bbs.sse import EventTooLarge, SseEvent, SseParser

BOM = b"\xef\xbb\xbf"


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def message(data: str, name: str = "message") -> SseEvent:
    return SseEvent(name, data)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", [message("a\nb")]),
        (b"data:  two spaces\n\n", [message(" two spaces")]),
        (b"data:none\n\n", [message("none")]),
        (b"data: a: b\n\n", [message("a: b")]),
        (BOM + b"data: x\n\n", [message("x")]),
        (BOM + BOM + b"data: x\n\n", []),
        (b"data: x\n\n" + BOM + b"data: y\n\n", [message("x")]),
        (b"event: t\ndata: x\n\ndata: y\n\n", [message("x", "t"), message("y")]),
        (b"event: t\n\ndata: y\n\n", [message("y")]),
        (b"data: x", []),
        (b"data: x\n", []),
        (b"id: 5\ndata: x\n\n", [message("x")]),
        (b"id: 5\ndata: x\n\nid\ndata: y\n\n", [message("x"), message("y")]),
        (b"id: 5\ndata: x\n\ndata: y\n\n", [message("x"), message("y")]),
        (b"id: 5\0\ndata: x\n\n", [message("x")]),
        (b"retry: 3000\n\n", []),
        (b"retry: 3000\ndata: x\n\n", [message("x")]),
        (b"data: x\r\rdata: y\r\n\r\ndata: z\n\n", [message("x"), message("y"), message("z")]),
        (b"data: x\r\n\r\ndata: y\r\n\r\n", [message("x"), message("y")]),
        (b"foo: bar\ndata: x\nfoo\n\n", [message("x")]),
        (b": a comment\ndata: x\n:\n\n", [message("x")]),
        (b"data\n\n", [message("")]),
        (b"data\ndata\n\n", [message("\n")]),
        (b"DATA: x\n\n", []),
        (b" data: x\n\n", []),
        (b"data: x\x0by\x0cz\xc2\x85\xe2\x80\xa8\n\n", [message("x\x0by\x0cz\x85\u2028")]),
        (b"data: \xff\n\n", [message("\ufffd")]),
        (b"\n\n\n", []),
        (b"", []),
        (BOM[:2], []),
        (b"\xef", []),
    ],
)
def test_the_rules_of_the_format(stream: bytes, expected: list[SseEvent]) -> None:
    assert parse(stream) == expected
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == expected


lines = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"event: t",
        b"id: 7",
        b"id",
        b":",
        b"retry: 5",
        b"data: \xc3\xa9",
        b"",
        b"",
        BOM,
    ]
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(stream=streams, cuts=st.lists(st.integers(0, 200)))
def test_any_cut_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]

    assert parse(*chunks) == parse(stream)


def test_an_event_without_an_end_is_refused_whether_in_one_line_or_in_many() -> None:
    parser = SseParser(max_event=100)
    with pytest.raises(EventTooLarge):
        list(parser.feed(b"data: " + b"x" * 100))

    parser = SseParser(max_event=100)
    with pytest.raises(EventTooLarge):
        list(parser.feed(b": c\n" * 100))


def test_events_before_a_too_large_one_are_given() -> None:
    parser = SseParser(max_event=20)
    events = parser.feed(b"data: a\n\ndata: " + b"x" * 100)

    assert next(events) == message("a")
    with pytest.raises(EventTooLarge):
        next(events)


def test_a_large_line_in_small_pieces_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        parser, piece = SseParser(), b"x" * 256
        begin = time.thread_time()  # nobody else's work counts
        for _ in range(size // len(piece)):
            list(parser.feed(piece))
        return time.thread_time() - begin

    seconds(1 << 20)
    assert seconds(1 << 24) < 100 * max(seconds(1 << 20), 1e-3)  # 16 times the bytes; quadratic is 256
