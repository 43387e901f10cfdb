"""What a check has found, in words for an operator: one line of what came of it, one of what to do."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum

_LOGIN = re.compile(r"(?<=//)[^/\s@]*@")


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    """It may be meant so, or will matter later."""
    PROBLEM = "problem"
    """The daemon cannot do its work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: A short constant, such as "bbs".
        text: What was tried on what, and what came of it.
        advice: What to do; empty when all is well.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


Findings = AsyncGenerator[Finding, None]
"""What a check gives, as it finds it."""


def ok(check: str, text: str) -> Finding:
    """Say that all is well."""
    return Finding(check, Level.OK, _line(text))


def warning(check: str, text: str, advice: str) -> Finding:
    """Say what may be a mistake."""
    return finding_of(check, Level.WARNING, text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """Say what does not work."""
    return finding_of(check, Level.PROBLEM, text, advice)


def finding_of(check: str, level: Level, text: str, advice: str) -> Finding:
    """Say something at a level that was decided elsewhere."""
    return Finding(check, level, _line(text), _line(advice))


def without_login(address: str) -> str:
    """Name a host by its address, without a login that somebody has written into it."""
    return address.rpartition("@")[2]


def _line(text: str) -> str:
    """Make one line of a text, without a login that somebody has written into an address."""
    return _LOGIN.sub("***@", " ".join(text.split()))
