"""Reads JSON objects out of answers; a large one is parsed in a thread."""

import asyncio
import json
from typing import Any

from controller.capi.capi_errors import SYSTEM, ApiAnswer, misunderstood

JsonObject = dict[str, Any]
"""A JSON object, whose values nobody has looked at yet."""

_SMALL = 64 * 1024  # bytes that are parsed within a millisecond


async def document_of(answer: ApiAnswer, *, system: str = SYSTEM) -> JsonObject:
    """Parse the body of an answer.

    Raises:
        Invalid: It is no JSON object.
    """
    try:
        if len(answer.body) <= _SMALL:
            document = json.loads(answer.body)
        else:
            document = await asyncio.to_thread(json.loads, answer.body)
    except (ValueError, RecursionError) as error:
        raise misunderstood(answer, system=system, what="the answer is not JSON") from error
    if not isinstance(document, dict):
        raise misunderstood(answer, system=system, what="the answer is no JSON object")
    return document


def within(document: object, *names: str) -> object:
    """Return the value at a path of names in nested objects; None where a part of the path is missing."""
    for name in names:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document
