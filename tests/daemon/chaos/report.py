"""What a chaos run came to, for people."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LAST_LINES = 25


@dataclass
class Report:
    """What a run came to.

    Attributes:
        details: The violations with what was done before them.
        figures: What else there is to say; empty for nothing.
        logged: What daemons have logged last of what the violations name.
        longest: The longest time that an app was down, and how long it could have been.
    """

    seed: int
    seconds: float
    happened: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    longest: tuple[float, float] = (0.0, 0.0)
    figures: str = ""
    logged: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong, what daemons said of it, and all that happened; empty if nothing went wrong."""
        found = [*self.violations, *self.details]
        return [*found, *self.logged, str(self)] if found else []

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        down = "down for {:.1f} s of {:.1f} s at most".format(*self.longest)
        if self.figures:
            down += f"; {self.figures}"
        return f"seed {self.seed}, {self.seconds:.0f} s: {counts}; {down}; {len(self.violations)} violations"


def find_last_lines(directory: Path, violations: Iterable[str]) -> list[str]:
    """Find what daemons have logged last of the app that each violation names first."""
    guids = [found[0] for each in violations if (found := _GUID.search(each)) is not None]
    logs = [path.read_text().splitlines() for path in sorted(directory.rglob("daemon*.log"))]
    return [line for guid in dict.fromkeys(guids) for log in logs for line in _last_of(log, guid)]


def _last_of(log: list[str], guid: str) -> list[str]:
    return [line for line in log if guid in line][-_LAST_LINES:]
