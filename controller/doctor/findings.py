"""Defines findings: one line that says what a check found, and one that says what to do."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum

from reconcile.foreign_text import mask_logins, shown


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It may be intended, or will matter later."""
    PROBLEM = "problem"
    """The daemon cannot do its work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: A short constant, such as "bbs".
        text: What was checked, and the result.
        advice: What to do; empty where the level is OK.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


Findings = AsyncGenerator[Finding, None]
"""The findings of a check, as it finds them."""


def ok(check: str, text: str) -> Finding:
    """Make a finding without a problem."""
    return Finding(check, Level.OK, _line(text))


def warning(check: str, text: str, advice: str) -> Finding:
    """Make a finding of what may be a mistake."""
    return finding_of(check, Level.WARNING, text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """Make a finding of what does not work."""
    return finding_of(check, Level.PROBLEM, text, advice)


def finding_of(check: str, level: Level, text: str, advice: str) -> Finding:
    """Make a finding of any level."""
    return Finding(check, level, _line(text), _line(advice))


def without_login(address: str) -> str:
    """Remove a login from an address of a host."""
    return address.rpartition("@")[2]


def _line(text: str) -> str:
    """Make one line of a text, without logins in URLs."""
    return mask_logins(" ".join(shown(text).split()))
