"""Rewrites the JSON of a route as Go's encoder does when it passes a raw message on.

Source: Go encoding/json, `compact` with HTML escaping; bbs models/routes.go.
"""

import json
import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^"\s]+|\s+')
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def normalise(value: bytes) -> bytes:
    """Compact a JSON text and escape what Go escapes.

    Raises:
        ValueError: The text is not JSON.
    """
    text = value.decode("utf-8", "surrogateescape")
    json.loads(text, parse_constant=_refuse, parse_int=str)
    tokens = (token for token in _TOKEN.findall(text) if not token.isspace())
    return "".join(tokens).translate(_ESCAPES).encode("utf-8", "surrogateescape")
