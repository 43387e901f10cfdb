"""Parses untrusted JSON, after its cost was counted: how many values, and how deep they lie.

The parser holds the interpreter until it is done, and makes objects of a hundred bytes out of two. So the
bytes are counted first, by operations of which each takes one quick look at them.
"""

import json
import re
from collections.abc import Callable
from typing import Any

MAX_VALUES = 100_000
"""Values in one document, in which an index of a thousand entries has some ten thousand."""

MAX_DEPTH = 64
"""Objects and lists within one another."""

_MAX_QUOTES = 4 * MAX_VALUES
"""Quotation marks in a document: two for each text, and those within texts."""

_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def load_json(raw: bytes, *, pairs_hook: Callable[[list[tuple[str, object]]], object] | None = None) -> Any:
    """Parse a document; `NaN` and infinities are refused, which are not JSON.

    Args:
        raw: In UTF-8.
        pairs_hook: Makes an object of its pairs.

    Raises:
        ValueError: It is not JSON, or costs too much.
    """
    check_cost(raw)
    return json.loads(raw.decode("utf-8"), object_pairs_hook=pairs_hook, parse_constant=_no_constant)


def check_cost(raw: bytes) -> None:
    """Refuse a document whose values are too many, or too deep, before anything is made of them.

    Raises:
        ValueError: It has more than `MAX_VALUES` values, or more than `MAX_DEPTH` levels.
    """
    opened = raw.count(b"{") + raw.count(b"[")
    if opened <= MAX_DEPTH and opened + raw.count(b",") <= MAX_VALUES:
        return
    if raw.count(b'"') > _MAX_QUOTES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    bare = _TEXT.sub(b"", raw)
    # Each object, list or pair after the first of its kind adds one of these.
    values = bare.count(b"{") + bare.count(b"[") + bare.count(b",")
    if values > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
