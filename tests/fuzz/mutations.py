"""Makes inputs from valid ones: single bytes, pieces, numbers and words are changed, and pieces are repeated."""

import random
import re
from collections.abc import Callable, Sequence

_NUMBER = re.compile(rb"[0-9]+")
_NUMBERS = (b"0", b"-1", b"1e999", b"9" * 20, b"9" * 5000, b"0x10", b"00", b"18446744073709551616", b"NaN")
_ODD = (
    b"\x00",
    b"\x1b[2J",
    b"\xc2\x9b31m",
    b"\xe2\x80\xae",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\r\n",
    b"\n",
    b"\r",
    b'"',
    b"\\",
    b"<",
    b">",
    b"{",
    b"[",
    b":",
    b";",
    b",",
    b"=",
    b" ",
    b"\t",
)
_MOST_CHANGES = 6


class Mutator:
    """Changes inputs at random.

    Args:
        chance: Where chance comes from.
        words: What has a meaning in such inputs.
        largest: Bytes that an input may have.
    """

    def __init__(self, chance: random.Random, words: Sequence[bytes], largest: int) -> None:
        self._chance, self._words, self._largest = chance, [*words, *_ODD], largest

    def mutate(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """Change an input a few times.

        Args:
            data: What to begin with.
            others: Whose pieces may be put into it.
        """
        kinds: list[Callable[[bytes], bytes]] = [
            self._flip,
            self._delete,
            self._insert,
            self._insert,
            self._double,
            self._repeat,
            self._number,
            self._cut,
            lambda each: self._splice(each, self._chance.choice(others)),
        ]
        for _ in range(min(self._chance.randint(1, _MOST_CHANGES), self._chance.randint(1, _MOST_CHANGES))):
            data = self._chance.choice(kinds)(data)[: self._largest]
        return data

    def _at(self, data: bytes) -> int:
        return self._chance.randint(0, len(data))

    def _range(self, data: bytes) -> tuple[int, int]:
        begin = self._at(data)
        return begin, min(len(data), begin + self._chance.choice([1, 4, 16, 64, 256]))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._chance.randrange(8)]) + data[at + 1 :]

    def _delete(self, data: bytes) -> bytes:
        begin, end = self._range(data)
        return data[:begin] + data[end:]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._chance.choice(self._words) + data[at:]

    def _double(self, data: bytes) -> bytes:
        begin, end = self._range(data)
        return data[:end] + data[begin:end] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        """Repeat a piece or a word until the input is large: what costs a reader more than its length shows here."""
        begin, end = self._range(data)
        piece = data[begin:end] if self._chance.random() < 0.5 else self._chance.choice(self._words)
        if not piece:
            return data
        largest = self._chance.choices([1 << 10, 1 << 14, 1 << 16, self._largest], [6, 3, 2, 1])[0]
        count = max(1, (min(largest, self._largest) - len(data)) // len(piece))
        return data[:begin] + piece * count + data[begin:]

    def _number(self, data: bytes) -> bytes:
        found = list(_NUMBER.finditer(data[:100_000]))
        if not found:
            return data
        match = self._chance.choice(found)
        return data[: match.start()] + self._chance.choice(_NUMBERS) + data[match.end() :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        return data[: self._at(data)] + other[self._at(other) :]
