"""What a chaos run came to, for people."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """What a run came to.

    Attributes:
        told: The violations with what was done before them.
        figures: What else there is to say; empty for nothing.
        longest: The longest time that an app was down, and how long it could have been.
    """

    seed: int
    seconds: float
    happened: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    longest: tuple[float, float] = (0.0, 0.0)
    figures: str = ""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        down = "down for {:.1f} s of {:.1f} s at most".format(*self.longest)
        if self.figures:
            down += f"; {self.figures}"
        return f"seed {self.seed}, {self.seconds:.0f} s: {counts}; {down}; {len(self.violations)} violations"
