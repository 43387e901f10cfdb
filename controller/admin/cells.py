"""Tells operators what is known of the cells, and what keeps a plan from being carried out for now."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from controller.admin.listing import AdminFailures
from controller.admin.reason_names import named
from protos.admin import admin_pb2 as pb
from reconcile.pull_proof import CanaryLogin, ProofState, PullProof

_FROM_DROPLETS = (CanaryLogin.NONE, CanaryLogin.MADE_UP)
"""The logins with which cells may pull a copy for an LRP that Cloud Controller desired from a droplet."""

PULLS_STATE_NAMES = MappingProxyType({state: named("CELL_PULLS_STATE", state) for state in ProofState})


class AdminCells(Protocol):
    """What is known of the cells."""

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """What is known of the cells, by placement tags."""

    def problem_of(
        self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        """Say what is known to be wrong with cells, without asking them; None while nothing is known."""

    def is_refuted(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        """Whether a canary has shown that cells cannot pull."""


class PlannedRegistry(Protocol):
    """The private registry, as far as it keeps plans from being carried out."""

    def problem_of_pulls(self) -> str | None:
        """Say what is known to be wrong with pulls from it; None while nothing is."""


class Obstacles:
    """What keeps the daemon from starting migrations to copies now, beside what is said of single LRPs."""

    def __init__(self, failures: AdminFailures, cells: AdminCells, registry: PlannedRegistry) -> None:
        self._failures, self._cells, self._registry = failures, cells, registry

    def to_copies(self, placement_tags: Iterable[frozenset[str]]) -> tuple[str, ...]:
        """List what keeps LRPs with these placement tags from being migrated to their copies."""
        unhealthy = self._registry.problem_of_pulls()
        found = [] if unhealthy is None else [unhealthy]
        for tags in sorted(set(placement_tags), key=sorted):
            problem = self._cells.problem_of(tags)
            if problem is not None:
                where = f" (placement tags {', '.join(sorted(tags))})" if tags else ""
                found.append(f"{problem}{where}")
        breaker = self._failures.overall
        if breaker.is_open:
            found.append(f"the circuit breaker is open: {breaker}")
        found += [f"set aside for now: {each}" for each in self._failures.set_aside]
        return tuple(found)


def cells_messages(cells: AdminCells) -> list[pb.CellPulls]:
    """Write what is known of the cells; shared cells first."""
    return [
        pb.CellPulls(
            placement_tags=sorted(tags),
            state=PULLS_STATE_NAMES[proof.state],
            since=proof.since,
            detail=proof.detail,
            retry_at=0.0 if proof.due_at is None or proof.running_since is not None else proof.due_at,
            canary_runs=proof.running_since is not None,
            droplets_detail=_problem_of_droplets(cells, tags),
        )
        for tags, proof in sorted(cells.proofs.items(), key=lambda each: sorted(each[0]))
    ]


def _problem_of_droplets(cells: AdminCells, tags: frozenset[str]) -> str:
    refuted = (login for login in _FROM_DROPLETS if cells.is_refuted(tags, login))
    return "; ".join(cells.problem_of(tags, login) or "" for login in refuted)
