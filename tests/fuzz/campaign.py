"""Feeds mutated inputs to readers until the time is up, and makes what it finds small."""

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tests.fuzz.limits import StoppedError, timed, weighed
from tests.fuzz.mutations import Mutator
from tests.fuzz.readers import Reader

_KEPT = 64
"""Inputs of a reader that are mutated further: those that cost the most for their length."""
_WEIGHED = 20
"""Every so manieth input is weighed, and more often a large one."""
_LARGE = 1 << 16
_LARGE_WEIGHED = 3
_TRIES = 3
"""How often a costly input is measured: the least counts, since a first call may build what later ones use."""

_LONGEST_ERROR = 2048
"""Characters of an error's text."""

_STOPPED_AFTER = 4.0
"""How many times as long as it may take a reader is let work on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a reader must not have answered so; the seed of its chunks shows it again."""

    reader: str
    problem: str
    data: bytes
    split: int

    def __str__(self) -> str:
        shown = repr(self.data) if len(self.data) <= 200 else f"{self.data[:200]!r} … {len(self.data)} bytes"
        return f"{self.reader}: {self.problem}: {shown}"


@dataclass(slots=True)
class Tally:
    """What was seen of one reader.

    Attributes:
        inputs: How many it was fed.
        accepted: How many of them it took.
        seconds: The most processor time that one took.
        memory: The most bytes that one took.
    """

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    memory: int = 0


class Campaign:
    """Feeds readers from one seed.

    Args:
        readers: Which ones.
        seed: The same seed gives the same inputs in the same order, as far as the time goes.
        shrinking: Seconds that are spent on making a finding small.
        leniency: How many times as long as its bounds say a reader may take, for machines of any speed.

    Attributes:
        tallies: By the name of the reader.
        findings: The first of each kind and reader, made small.
    """

    def __init__(
        self, readers: Iterable[Reader], seed: int, *, shrinking: float = 10.0, leniency: float = 1.0
    ) -> None:
        self._chance, self._shrinking = random.Random(seed), shrinking
        self._readers = [_lenient(each, leniency) for each in readers]
        self._corpora = {each.name: list(each.seeds) for each in self._readers}
        self._seen: set[tuple[str, str]] = set()
        self.tallies = {each.name: Tally() for each in self._readers}
        self.findings: list[Finding] = []

    def run(self, seconds: float) -> None:
        """Feed all readers in turn."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.feed(1)

    def feed(self, rounds: int) -> None:
        """Feed each reader a number of inputs."""
        for _ in range(rounds):
            for reader in self._readers:
                self._feed(reader)

    def _feed(self, reader: Reader) -> None:
        corpus, tally = self._corpora[reader.name], self.tallies[reader.name]
        mutator = Mutator(self._chance, reader.words, reader.largest)
        data = mutator.mutate(self._chance.choice(corpus), reader.seeds)
        split = self._chance.randrange(1 << 32)
        is_weighed = tally.inputs % (_LARGE_WEIGHED if len(data) > _LARGE else _WEIGHED) == 0
        problem, seconds = judge(reader, data, split, is_weighed=is_weighed, tally=tally)
        if not problem and seconds > self._costs_of(reader, data) and len(data) < _LARGE:
            corpus.append(data)
            if len(corpus) > _KEPT:
                corpus.pop(self._chance.randrange(len(reader.seeds), len(corpus)))
        kind = (reader.name, problem.partition(":")[0])
        if problem and kind not in self._seen:
            self._seen.add(kind)
            small = smaller(reader, data, split, kind[1], seconds=self._shrinking)
            again, _ = judge(reader, small, split, is_weighed=True, tally=Tally())
            is_same = again.partition(":")[0] == kind[1]  # one about time may come and go
            shown = (again, small) if is_same else (problem, data)
            self.findings.append(Finding(reader.name, *shown, split))

    def _costs_of(self, reader: Reader, data: bytes) -> float:
        return 0.05 * reader.bounds.most_seconds(len(data))


def _lenient(reader: Reader, leniency: float) -> Reader:
    bounds = reader.bounds
    seconds, per_mib = leniency * bounds.seconds, leniency * bounds.seconds_per_mib
    return replace(reader, bounds=replace(bounds, seconds=seconds, seconds_per_mib=per_mib))


def judge(reader: Reader, data: bytes, split: int, *, is_weighed: bool, tally: Tally) -> tuple[str, float]:
    """Feed a reader one input.

    Args:
        reader: Who reads it.
        data: What it reads.
        split: Seed for where the input is divided into chunks.
        is_weighed: Whether its memory is measured as well.
        tally: Where to count it.

    Returns:
        What is wrong, empty when nothing is; and the processor time in seconds.
    """
    most = reader.bounds.most_seconds(len(data))
    cost = timed(lambda: reader.read(data, split), _STOPPED_AFTER * most)
    tally.inputs += 1
    tally.accepted += cost.error is None
    error = cost.error
    if isinstance(error, StoppedError):
        return f"too slow: more than {cost.seconds:.2f} s of {most:.2f} s", cost.seconds
    if error is not None and not isinstance(error, reader.errors):
        return f"escaped {type(error).__name__}: {str(error)[:200]!r}", cost.seconds
    seconds = cost.seconds
    for _ in range(_TRIES if seconds > most else 0):
        seconds = min(seconds, timed(lambda: reader.read(data, split), _STOPPED_AFTER * most).seconds)
    tally.seconds = max(tally.seconds, seconds)
    if seconds > most:
        return f"too slow: {seconds:.2f} s of {most:.2f} s", seconds
    text = "" if error is None else str(error)
    if len(text) > _LONGEST_ERROR:
        return f"long error: {len(text)} characters", seconds
    if not text.isprintable():
        return f"unprintable error: {text[:100]!r}", seconds
    if is_weighed:
        memory = weighed(lambda: reader.read(data, split), 10 * _STOPPED_AFTER * most)
        tally.memory = max(tally.memory, memory)
        if memory > (allowed := reader.bounds.most_bytes(len(data))):
            return f"too much memory: {memory} of {allowed} bytes", seconds
    return "", seconds


def smaller(reader: Reader, data: bytes, split: int, kind: str, *, seconds: float = 10.0) -> bytes:
    """Leave out pieces of an input as long as the same is wrong with it."""
    end = time.monotonic() + seconds

    def is_so(candidate: bytes) -> bool:
        problem, _ = judge(reader, candidate, split, is_weighed=kind == "too much memory", tally=Tally())
        return problem.partition(":")[0] == kind

    size = max(1, len(data) // 2)
    while size and time.monotonic() < end:
        for candidate in _without_pieces(data, size):
            if time.monotonic() > end:
                return data
            if is_so(candidate):
                data = candidate
                break
        else:
            size //= 2
    return data


def _without_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[:at] + data[at + size :] for at in range(0, len(data), size))
