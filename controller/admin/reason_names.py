"""Names of reasons on the wire."""

import re
from types import MappingProxyType

from reconcile.reasons import Reason

_NOT_LETTERS = re.compile("[^a-z]+")


def named(prefix: str, text: str) -> str:
    """Write a value of the program as the enum of that prefix names it."""
    return f"{prefix}_{_NOT_LETTERS.sub('_', text).upper()}"


REASON_NAMES = MappingProxyType({reason: named("REASON", reason) for reason in Reason})
"""Reason to its name on the wire."""
