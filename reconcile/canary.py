"""Canaries as values: what is desired of the BBS, and what tasks and instances say about their cells.

A canary is a task, or an LRP, whose image is in the private registry under a name of its own. Its GUID and
its domain tell it from the work of apps: no sweep and no Cloud Controller looks at the domain.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from reconcile.lrps import ActualLrp, ActualLrpState, Cell, Credentials, Pull, Secret, Task, TaskState
from reconcile.pull_proof import CanaryKind, CanaryResult, CellAnswer
from reconcile.references import CacheGuid
from reconcile.start_failures import Blame, StartFailure, placement_failure, start_failure

CANARY_DOMAIN = "docker-cache-canary"

TASK_IMAGE = CacheGuid("ca9a4700-0000-4000-8000-000000000001")
"""Names the image of tasks in the private registry: always the same name, so that old ones do not pile up."""

LRP_IMAGE = CacheGuid("ca9a4700-0000-4000-8000-000000000002")
"""Names the image of LRPs, whose process does not end."""

PROGRAM = "/canary"
"""The program in the image."""

MEMORY_MB = 16
DISK_MB = 32
MAX_PIDS = 20
"""Processes of the container; a cell starts some of its own in it."""

_HAS_PULLED = frozenset({Blame.PROCESS, Blame.APP})
_CRASHES_BEFORE_PAUSE = 3
"""Crashes after which the BBS restarts an instance only after a pause."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary.

    Attributes:
        guid: Of the task, or of the LRP.
        placement_tags: Reach the cells that are asked.
    """

    guid: str
    pull: Pull
    placement_tags: frozenset[str] = frozenset()
    instances: int = 1


def new_guid() -> str:
    """Make the GUID of a canary."""
    return f"{CANARY_DOMAIN}-{uuid4()}"


def make_up_login() -> Credentials:
    """Make a login that no registry knows; it is another one each time, so that none is ever locked out."""
    return Credentials(f"docker-cache-canary-{secrets.token_hex(8)}", Secret(secrets.token_urlsafe(24)))


def cells_for(cells: Iterable[Cell], placement_tags: frozenset[str]) -> tuple[Cell, ...]:
    """Choose the cells that an LRP with some placement tags may run on."""
    return tuple(cell for cell in cells if cell.runs_docker(placement_tags))


def instances_for(cells: Sequence[Cell]) -> int:
    """Count the instances of which one comes to every cell.

    An auction fills zones evenly, and the cells of a zone in turn: a zone with fewer cells gets as many.

    Source: cloudfoundry/auction auctionrunner/scheduler.go and zone.go.
    """
    zones: dict[str, int] = {}
    for cell in cells:
        zones[cell.zone] = zones.get(cell.zone, 0) + 1
    return len(zones) * max(zones.values(), default=0)


def result_of_task(before: Task, after: Task, cells: frozenset[str]) -> CanaryResult | None:
    """Read what came of a canary's task from one of its changes; None while nothing is known.

    A task whose image cannot be pulled does not end: it goes back to Pending, with a rejection reason.
    """
    cell_id = after.cell_id or before.cell_id
    if after.state is TaskState.PENDING:
        failure = start_failure(after.rejection_reason)
    elif after.state is TaskState.COMPLETED and not after.failed:
        return CanaryResult(CanaryKind.TASK, (CellAnswer(cell_id),), cells=cells)
    elif after.state is TaskState.COMPLETED:
        failure = start_failure(after.failure_reason)
    else:
        return None
    if failure is None:
        return None
    answer = _answer(cell_id, failure)
    if answer is None:
        return CanaryResult(CanaryKind.TASK, problem=failure.detail, cells=cells)
    return CanaryResult(CanaryKind.TASK, (answer,), cells=cells)


def _answer(cell_id: str, failure: StartFailure) -> CellAnswer | None:
    """Read what a failure says of its cell; None where it says nothing of pulling.

    A process that could not be started, or that ended by itself, was pulled. So the program in the image need
    not be one that the cell's processor runs.
    """
    if failure.is_pull_failure:
        return CellAnswer(cell_id, failure)
    if failure.blame in _HAS_PULLED and _names_process(failure.detail):
        return CellAnswer(cell_id)
    return None


def _names_process(text: str) -> bool:
    return any(sign in text for sign in ("Exited with status", "exec failed", "exec format error"))


def answers_of(
    rows: Iterable[ActualLrp], crashes: Mapping[str, str], cells: Iterable[str]
) -> tuple[CellAnswer, ...]:
    """Read what each cell says of a canary's LRP.

    Args:
        rows: The instance rows of the LRP.
        crashes: Cell to the reason of the last crash of an instance on it, from events: the row of a crashed
            instance does not name its cell.
        cells: The cells that are asked.
    """
    running = {row.cell_id for row in rows if row.state is ActualLrpState.RUNNING}
    found = dict[str, CellAnswer]()
    for cell_id, reason in crashes.items():
        failure = start_failure(reason)
        answer = None if failure is None else _answer(cell_id, failure)
        if answer is not None:
            found[cell_id] = answer
    for cell_id in running:
        if cell_id and (cell_id not in found):
            found[cell_id] = CellAnswer(cell_id)
    order = {cell_id: at for at, cell_id in enumerate(cells)}
    return tuple(sorted(found.values(), key=lambda each: (order.get(each.cell_id, len(order)), each.cell_id)))


def is_settled(rows: Sequence[ActualLrp], instances: int) -> bool:
    """Whether nothing more is to be expected of a canary's LRP for now."""
    return len(rows) >= instances and all(
        row.state is ActualLrpState.RUNNING
        or bool(row.placement_error)
        or row.crash_count >= _CRASHES_BEFORE_PAUSE
        for row in rows
    )


def problem_of(rows: Iterable[ActualLrp], asked: Iterable[str], answers: Iterable[CellAnswer]) -> str:
    """Say why some cells have not answered; empty when all have."""
    silent = sorted(set(asked) - {answer.cell_id for answer in answers})
    if not silent:
        return ""
    found = filter(None, (placement_failure(row.placement_error) for row in rows))
    reasons = sorted({failure.detail for failure in found})
    return f"no answer from {', '.join(silent)}" + (f": {'; '.join(reasons)}" if reasons else "")
