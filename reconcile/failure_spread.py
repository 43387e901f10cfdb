"""Counts failures that have nothing in common, since those of one organization may be its own fault."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Cause:
    """Two things, either of which may be at fault for a failure, such as an organization and an image."""

    one: str
    other: str


def spread(causes: Iterable[Cause]) -> int:
    """Count the failures no two of which have anything in common: the largest number that can be chosen.

    It is also the smallest number of things that must be at fault to explain all of them (König's theorem),
    so one organization explains its own failures, whatever it has pushed, and one image those of whoever runs
    it.
    """
    others: dict[str, list[str]] = {}
    for cause in sorted(causes):
        others.setdefault(cause.one, []).append(cause.other)
    taken: dict[str, str] = {}  # the other thing to the one
    return sum(_find_place(one, others, taken) for one in others)


def with_cause(causes: frozenset[Cause], cause: Cause, *, most: int) -> frozenset[Cause]:
    """Add a failure; no more of one thing than can matter where the largest number of interest is `most`."""
    of_one = sum(known.one == cause.one for known in causes)
    of_other = sum(known.other == cause.other for known in causes)
    return causes if max(of_one, of_other) >= most else causes | {cause}


def _find_place(start: str, others: Mapping[str, list[str]], taken: dict[str, str]) -> bool:
    """Choose one more failure, of one thing, where need be by choosing others for those chosen before."""
    came_from: dict[str, str] = {}
    known = {one: other for other, one in taken.items()}
    ones = [start]
    for one in ones:
        for other in others[one]:
            if other in came_from:
                continue
            came_from[other] = one
            if other in taken:
                ones.append(taken[other])
                continue
            free: str | None = other
            while free is not None:
                taken[free] = came_from[free]
                free = known.get(came_from[free])
            return True
    return False
