"""The readers of foreign bytes stand a little fuzzing, and the fuzzing finds what is planted."""

import contextlib
import re
from collections.abc import Callable

import pytest

from reconcile.errors import DockerCacheError, Invalid
from tests.examples import examples
from tests.fuzz.campaign import Campaign, smaller
from tests.fuzz.limits import Bounds, weighed
from tests.fuzz.readers import READERS, Reader, chunks

_QUADRATIC = re.compile(rb"<([^>]*)>")


def planted(read: Callable[[bytes, int], object]) -> Reader:
    return Reader("planted", read, (b"<a>",), (b"<", b">"))


def slow(data: bytes, _split: int) -> None:
    _QUADRATIC.findall(data)


def escaping(data: bytes, _split: int) -> None:
    if b"<<" in data:
        raise KeyError(data[:1])


def heavy(data: bytes, _split: int) -> None:
    if b">>" in data:
        bytearray(64 << 20)


def talkative(data: bytes, _split: int) -> None:
    error = Invalid("registry", "x", "")
    error.detail = data.decode("latin-1") * 100  # the constructor would bound it
    raise error


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (slow, "too slow"),
        (escaping, "escaped KeyError"),
        (heavy, "too much memory"),
        (talkative, "long error"),
    ],
)
def test_a_planted_fault_is_found_and_made_small(read: Callable[[bytes, int], object], kind: str) -> None:
    campaign = Campaign([planted(read)], seed=1, shrinking=0.5)
    for _ in range(300):
        campaign.feed(10)
        if any(each.problem.startswith(kind) for each in campaign.findings):
            break

    found = next(each for each in campaign.findings if each.problem.startswith(kind))
    assert kind != "escaped KeyError" or found.data == b"<<"


def test_an_input_is_made_as_small_as_the_fault_allows() -> None:
    data = b"x" * 300 + b"<<" + b"y" * 300

    assert smaller(planted(escaping), data, 0, "escaped KeyError") == b"<<"


@pytest.mark.parametrize("reader", READERS, ids=lambda each: each.name)
def test_a_reader_takes_its_seeds(reader: Reader) -> None:
    refuses = pytest.raises(DockerCacheError) if reader.name == "refusal" else contextlib.nullcontext()
    for seed in reader.seeds:
        with refuses:
            reader.read(seed, 0)


@pytest.mark.parametrize("reader", READERS, ids=lambda each: each.name)
def test_a_reader_stands_some_inputs(reader: Reader) -> None:
    campaign = Campaign([reader], seed=7, shrinking=0.5, leniency=10.0)
    campaign.feed(examples(gate=15, long=60))

    assert [str(each) for each in campaign.findings] == []


@pytest.mark.parametrize("name", ["sse", "docker-stream"])
def test_a_line_that_comes_byte_by_byte_takes_no_more_memory(name: str) -> None:
    reader = next(each for each in READERS if each.name == name)
    byte_by_byte = next(each for each in range(100) if len(list(chunks(b"x" * 50, each))) == 50)

    line = b"tail" * 25_000

    memory = weighed(lambda: reader.read(line, byte_by_byte), at_most=60.0)

    assert len(line) / 2 < memory <= reader.bounds.most_bytes(len(line))


def test_bounds_grow_with_the_input() -> None:
    bounds = Bounds(seconds=0.1, seconds_per_mib=1.0, memory=10, memory_per_byte=2)

    assert bounds.most_seconds(1 << 20) == pytest.approx(1.1)
    assert bounds.most_bytes(5) == 20


def test_the_same_seed_gives_the_same_inputs() -> None:
    def inputs() -> list[bytes]:
        taken = list[bytes]()
        Campaign([planted(lambda data, _split: taken.append(data))], seed=3).feed(20)
        return taken

    first, second = inputs(), inputs()

    assert len(first) >= 20
    assert first == second


def test_a_fault_that_does_not_come_again_is_told_as_it_was_seen() -> None:
    seen = set[bytes]()

    def once(data: bytes, _split: int) -> None:
        if not seen:
            seen.add(data)
            raise KeyError(data)

    campaign = Campaign([planted(once)], seed=1, shrinking=0.1)
    campaign.feed(3)

    (found,) = campaign.findings
    assert found.problem.startswith("escaped KeyError")
    assert {found.data} == seen
