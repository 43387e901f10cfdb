"""Decides whether cells are known to pull from the private registry, and when and how they are asked next.

A canary is a task or an LRP of the program's own, from a tiny image in the private registry. What it shows
holds for one process: address, login and certificates are read at its start, so a change begins unproven.
Pure: the caller brings the clock and the pauses.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from reconcile.failure_spread import Cause, spread, with_cause
from reconcile.start_failures import Blame, StartFailure
from reconcile.times import seconds_until

UNKNOWN_CELL = ""
"""Stands for the cell of an instance whose row does not name it any more."""

COPIES_THAT_ACCUSE = 2
"""Copies of different organizations that cells cannot pull, after which not the copies but cells or the
registry are suspected."""

DISPROVED_FOR = 3600.0
"""Seconds for which an app that has spoken against cells is not enough alone, after a canary has shown that
it was wrong."""

WRONG_IMAGES = 3
"""Copies with which an organization was wrong, after which that is held against all of its copies."""

_MOST_DISPROVED = 200
"""Maximum number of organizations and images that are remembered as wrong."""

LONGEST_PAUSE = 300.0
"""Seconds until the next canary, at most."""

NAMED_CELLS = 5
"""Cells that a text names of those that say the same."""


class CanaryKind(StrEnum):
    """How cells are asked."""

    TASK = "task"
    """A task, which comes to one cell."""
    EVERY_CELL = "every-cell"
    """An LRP with an instance for each cell."""


class CanaryLogin(StrEnum):
    """Whose login cells give to the private registry, when it asks for one."""

    CELLS = "cells"
    """The one that the config gives them, as LRPs have it that were migrated; none where it gives none."""
    NONE = "none"
    """None at all, as what is desired from the droplet of a public image has it."""
    MADE_UP = "made-up"
    """One that no registry knows, as the private registry does not know the logins of source registries."""


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """What one cell has shown.

    Attributes:
        cell_id: Empty where the BBS does not name the cell.
        failure: Why it cannot pull; None when it has pulled.
    """

    cell_id: str
    failure: StartFailure | None = None


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What came of a canary.

    Attributes:
        answers: At most one for each cell.
        problem: Why not every cell that was asked has answered, for people; empty when all have.
        is_silent: Whether the problem is that nothing answered in time, although a cell had taken the canary.
        cells: The registered cells that the canary was for.
    """

    kind: CanaryKind
    answers: tuple[CellAnswer, ...] = ()
    problem: str = ""
    is_silent: bool = False
    cells: frozenset[str] = frozenset()

    @property
    def failures(self) -> tuple[CellAnswer, ...]:
        """The answers of cells that cannot pull."""
        return tuple(answer for answer in self.answers if answer.failure is not None)

    @property
    def pulled(self) -> frozenset[str]:
        """The cells that have pulled."""
        return frozenset(answer.cell_id for answer in self.answers if answer.failure is None)

    @property
    def said(self) -> str:
        """What cells have said that cannot pull, in one line; many cells mostly say the same."""
        by_text: dict[str, list[str]] = {}
        for answer in self.failures:
            by_text.setdefault(answer.failure.detail if answer.failure else "", []).append(answer.cell_id)
        return "; ".join(f"{_names_of(cells)}: {text}" for text, cells in by_text.items())


def name_of(cell_id: str) -> str:
    """Name a cell for people."""
    return f"cell {cell_id}" if cell_id else "a cell"


def _names_of(cell_ids: list[str]) -> str:
    first = ", ".join(map(name_of, sorted(cell_ids)[:NAMED_CELLS]))
    more = len(cell_ids) - NAMED_CELLS
    return f"{first} and {more} more" if more > 0 else first


class ProofState(StrEnum):
    """What is known of the cells that some placement tags reach."""

    UNPROVEN = "unproven"
    """Nothing has shown that they can pull, or what was seen since then speaks against it."""
    PROVEN = "proven"
    """A canary has shown that they can pull."""
    REFUTED = "refuted"
    """A canary has shown that they cannot pull."""


@dataclass(frozen=True, slots=True)
class PullProof:
    """What is known of the cells that some placement tags reach, and when they are asked again.

    Attributes:
        since: When the state began, UTC seconds since 1970.
        said: What cells have said that speaks against them, in one line; empty once it is proven.
        problem: Why the last canary has told nothing of some cells; empty when it has.
        accused: Cells that could not pull, and that have not pulled since; "" for one that is not known.
        failed_copies: Whose copies cells could not pull, as long as one of them alone may be the cause.
        accusers: Whose instances have spoken against cells since the last proof.
        disproved: Those of whom a canary has shown that they were wrong, and when.
        failures: Canaries in a row that have proven nothing.
        due_at: When the next canary is due; None when none is.
        running_since: When the canary that is under way was started; None when there is none.
        is_spoiled: Whether an app's instance has spoken against it since it was last proven.
        is_spoiled_meanwhile: Whether one has since the canary that is under way was started.
        asks_every_cell: Whether a task has shown that some cells can pull, so that each is asked next.
    """

    since: float
    state: ProofState = ProofState.UNPROVEN
    said: str = ""
    problem: str = ""
    accused: frozenset[str] = frozenset()
    failed_copies: frozenset[Cause] = frozenset()
    accusers: frozenset[Cause] = frozenset()
    disproved: tuple[tuple[Cause, float], ...] = ()
    failures: int = 0
    due_at: float | None = None
    running_since: float | None = None
    is_spoiled: bool = False
    is_spoiled_meanwhile: bool = False
    asks_every_cell: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether cells are known to pull."""
        return self.state is ProofState.PROVEN

    @property
    def next_kind(self) -> CanaryKind:
        """How cells are asked next: a task is cheap, but cannot be sent to the cell that could not pull."""
        return CanaryKind.EVERY_CELL if self.asks_every_cell else CanaryKind.TASK

    @property
    def detail(self) -> str:
        """Say in one line what speaks against it, or why nothing is known."""
        return "; ".join(filter(None, (self.said, self.problem)))

    def seconds_until_due(self, now: float) -> float | None:
        """Count the seconds until a canary is due; None when none is, or one is under way."""
        if self.due_at is None or self.running_since is not None:
            return None
        return seconds_until(self.due_at, now, longest=LONGEST_PAUSE)

    def asked(self, now: float) -> "PullProof":
        """Note that somebody needs the proof: the first canary is due at once."""
        return self if self.is_proven or self.due_at is not None else replace(self, due_at=now)

    def started(self, now: float) -> "PullProof":
        """Note that a canary is started."""
        return replace(self, running_since=now, is_spoiled_meanwhile=False)

    def ended(self, result: CanaryResult, now: float, *, pause: float) -> "PullProof":
        """Note what came of a canary.

        Args:
            result: Of the canary that was started.
            now: UTC seconds since 1970.
            pause: Seconds until the next canary, where this one proves nothing.
        """
        accused = self._still_accused(result) | {answer.cell_id for answer in result.failures}
        ended = replace(self, accused=accused, running_since=None, asks_every_cell=False)
        state, said = self.state, self.said
        if result.failures or result.is_silent:
            state, said = ProofState.REFUTED, result.said
        elif result.answers:
            if self.is_spoiled_meanwhile:  # what an app met is newer
                return replace(ended, due_at=now)
            if not accused or (result.kind is CanaryKind.EVERY_CELL and not result.problem):
                disproved = ((cause, now) for cause in sorted(self.accusers))
                return PullProof(
                    since=now,
                    state=ProofState.PROVEN,
                    disproved=(*self.disproved, *disproved)[-_MOST_DISPROVED:],
                )
            if result.kind is CanaryKind.TASK:
                return replace(ended, asks_every_cell=True, due_at=now)
        return replace(
            ended,
            state=state,
            since=self.since if state is self.state else now,
            said=said,
            problem=result.problem,
            failures=self.failures + 1,
            due_at=now + pause,
        )

    def _still_accused(self, result: CanaryResult) -> frozenset[str]:
        """Return the cells of which a canary has not shown that they pull, and that still exist."""
        known = self.accused & result.cells if result.cells else self.accused
        has_asked_all = result.kind is CanaryKind.EVERY_CELL and bool(result.answers)
        unknown = frozenset[str]() if has_asked_all else self.accused & {UNKNOWN_CELL}
        return (known - result.pulled) | unknown

    def failed(self, cell_id: str, failure: StartFailure, now: float, *, cause: Cause) -> "PullProof":
        """Note that an instance could not be created from a copy.

        A failure that speaks against the registry, and those of two copies of two organizations, make a
        canary due at once, unless canaries fail already. One that a canary has disproved lately is like that
        of a copy.

        Args:
            cell_id: Empty where it is not known.
            failure: What the cell said.
            now: UTC seconds since 1970.
            cause: The organization and the copy.
        """
        copies = self.failed_copies
        if failure.blame is Blame.COPY or (failure.blame is Blame.REGISTRY and self._was_wrong(cause, now)):
            copies = with_cause(copies, cause, most=COPIES_THAT_ACCUSE)
            if spread(copies) < COPIES_THAT_ACCUSE:
                return replace(self, failed_copies=copies)
        elif failure.blame is not Blame.REGISTRY:
            return self
        state = ProofState.UNPROVEN if self.is_proven else self.state
        return replace(
            self,
            state=state,
            since=self.since if state is self.state else now,
            said=f"{name_of(cell_id)}: {failure.detail}",
            accused=self.accused | {cell_id},
            failed_copies=copies,
            accusers=with_cause(self.accusers, cause, most=COPIES_THAT_ACCUSE) | copies,
            due_at=now if self.failures == 0 else self.due_at,
            is_spoiled=True,
            is_spoiled_meanwhile=True,
        )

    def _was_wrong(self, cause: Cause, now: float) -> bool:
        """Whether a canary has lately disproved what apps of the same copy, or organization, had shown."""
        lately = [known for known, at in self.disproved if 0 <= now - at < DISPROVED_FOR]
        of_organization = {known.other for known in lately if known.one == cause.one}
        return cause.other in {known.other for known in lately} or len(of_organization) >= WRONG_IMAGES

    def succeeded(self, cell_id: str, now: float) -> "PullProof":
        """Note that an instance runs from a copy; where its cell could not pull, a canary is due at once."""
        if cell_id not in self.accused:
            return replace(self, failed_copies=frozenset()) if self.is_proven else self
        return replace(self, accused=self.accused - {cell_id}, due_at=now)
