"""Runs canaries when they are due, and keeps what they and migrations show of the cells.

Only one canary runs at a time. Without a need for a proof none runs, and while they prove nothing they pause.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from controller.backoff import Backoff, backoff
from controller.process import Process
from reconcile.errors import DockerCacheError
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials
from reconcile.pull_proof import LONGEST_PAUSE, CanaryKind, CanaryResult, ProofState, PullProof
from reconcile.start_failures import StartFailure

log = structlog.get_logger(scope="canary")

PAUSES: Mapping[CanaryKind, Backoff] = {
    CanaryKind.TASK: backoff(1.0, 60.0),
    CanaryKind.EVERY_CELL: backoff(5.0, LONGEST_PAUSE),
}
"""Seconds until the next canary, by how many in a row have proven nothing."""

ROUNDING = 0.001
"""Seconds by which a canary may run early: timers and clocks differ by less."""

SHARED_CELLS = frozenset[str]()
"""The placement tags of LRPs without an isolation segment."""


class CanaryProber(Protocol):
    """Runs one canary."""

    async def run(self, kind: CanaryKind, placement_tags: frozenset[str]) -> CanaryResult:
        """Run a canary of some kind."""

    async def remove_leftovers(self) -> None:
        """Remove the canaries that an earlier process has left."""

    def use_login(self, credentials: Credentials) -> None:
        """Let the next canaries pull with another login."""


class CanaryPause(Protocol):
    """Whether an operator has paused the daemon."""

    @property
    def is_paused(self) -> bool:
        """Whether only ordered work is started."""


class ProofListener(Protocol):
    """Whoever waits for proofs."""

    def note_proven_cells(self, *, is_mended: bool) -> None:
        """Note that cells are known to pull, and whether migrations had met some that could not."""

    def note_unproven_cells(self) -> None:
        """Note that a canary has not proven it, so that more is known of why not."""


class CanaryLoop:
    """What is known of the cells, for each set of placement tags that somebody has asked for.

    Args:
        prober: Runs the canaries.
        pause: While the daemon is paused, no canary runs before an order needs it.
        process: Clock and metrics.
        pauses: See `PAUSES`.
    """

    def __init__(
        self,
        prober: CanaryProber,
        *,
        pause: CanaryPause,
        process: Process,
        pauses: Mapping[CanaryKind, Backoff] = PAUSES,
    ) -> None:
        self._prober, self._pause, self._process, self._pauses = prober, pause, process, pauses
        self._proofs: dict[frozenset[str], PullProof] = {}
        self._changed = asyncio.Event()
        self._logins = 0
        """How often the login with which cells pull has changed."""
        self._listener: ProofListener | None = None
        process.metrics.cells_not_proven.set_function(self._count_not_proven)

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """What is known of the cells, by placement tags."""
        return dict(self._proofs)

    def listen(self, listener: ProofListener) -> None:
        """Let somebody know of proofs, and of canaries that do not prove it."""
        self._listener = listener

    def use_login(self, credentials: Credentials) -> None:
        """Let cells show again whether they can pull, with another login."""
        self._logins += 1
        self._prober.use_login(credentials)
        now = self._process.clock()
        for placement_tags in self._proofs:
            self._set(placement_tags, PullProof(since=now).asked(now))

    def why_not(self, placement_tags: frozenset[str]) -> str | None:
        """Say why cells are not known to pull; None when they are. Whoever asks makes a canary due."""
        proof = self._proof_of(placement_tags)
        if proof.is_proven:
            return None
        self._set(placement_tags, proof.asked(self._process.clock()))
        return self.problem_of(placement_tags) or "a canary is to show whether cells can pull"

    def problem_of(self, placement_tags: frozenset[str]) -> str | None:
        """Say what is known to be wrong with cells, without asking them; None while nothing is known."""
        proof = self._proof_of(placement_tags)
        if proof.state is ProofState.REFUTED:
            return f"cells cannot pull from the private registry: {proof.detail}"
        if proof.said:
            return f"perhaps cells cannot pull from the private registry: {proof.detail}"
        return f"no canary could show whether cells can pull: {proof.detail}" if proof.detail else None

    def is_refuted(self, placement_tags: frozenset[str]) -> bool:
        """Whether a canary has shown that cells cannot pull."""
        return self._proof_of(placement_tags).state is ProofState.REFUTED

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Note that an instance could not be created from a copy."""
        before = self._proof_of(placement_tags)
        after = before.failed(cell_id, failure, self._process.clock(), cause=cause)
        if before.is_proven and not after.is_proven:
            log.error(
                "cells-may-not-pull",
                placement_tags=sorted(placement_tags),
                cell_id=cell_id,
                reason=failure.blame,
                error=failure.detail,
            )
        self._set(placement_tags, after)

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Note that an instance runs from a copy."""
        if placement_tags in self._proofs:
            proof = self._proofs[placement_tags]
            self._set(placement_tags, proof.succeeded(cell_id, self._process.clock()))

    async def run(self) -> None:
        """Run canaries forever."""
        await self._remove_leftovers()
        if not self._pause.is_paused:  # the first app need not wait for it
            self._set(SHARED_CELLS, self._proof_of(SHARED_CELLS).asked(self._process.clock()))
        while True:
            placement_tags = await self._wait_until_due()
            await self._run_one(placement_tags)

    async def _remove_leftovers(self) -> None:
        try:
            await self._prober.remove_leftovers()
        except DockerCacheError as error:
            log.info("failed-to-remove-canary", error=str(error))

    async def _wait_until_due(self) -> frozenset[str]:
        while True:
            self._changed.clear()
            now = self._process.clock()
            waits = {tags: proof.seconds_until_due(now) for tags, proof in self._proofs.items()}
            known = {tags: seconds for tags, seconds in waits.items() if seconds is not None}
            if known:
                next_tags = min(known, key=lambda tags: (known[tags], sorted(tags)))
                if known[next_tags] <= ROUNDING:
                    return next_tags
            try:
                async with asyncio.timeout(min(known.values(), default=None)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _run_one(self, placement_tags: frozenset[str]) -> None:
        before = self._proofs[placement_tags]
        kind, logins = before.next_kind, self._logins
        self._set(placement_tags, before.started(self._process.clock()))
        result = await self._prober.run(kind, placement_tags)
        if logins != self._logins:  # it says nothing of the present login
            return
        before = self._proofs[placement_tags]  # with what was noted meanwhile
        pause = self._pauses[kind](before.failures + 1)
        after = before.ended(result, self._process.clock(), pause=pause)
        self._set(placement_tags, after)
        self._log(placement_tags, before, after, result)
        if self._listener is None:
            return
        if after.is_proven:
            self._listener.note_proven_cells(is_mended=before.is_spoiled)
        elif after.state is not before.state or not before.detail:
            self._listener.note_unproven_cells()

    def _log(
        self, placement_tags: frozenset[str], before: PullProof, after: PullProof, result: CanaryResult
    ) -> None:
        fields: dict[str, object] = {"kind": result.kind, "placement_tags": sorted(placement_tags)}
        self._process.metrics.canaries.labels(outcome=_outcome_of(after, result)).inc()
        retry_after = after.seconds_until_due(self._process.clock())
        if retry_after is not None:
            fields["retry_after_s"] = round(retry_after, 1)
        if after.is_proven:
            log.info("cells-can-pull", **fields, cells=sorted(result.pulled), after_failures=before.failures)
        elif after.asks_every_cell:
            log.info("asking-every-cell", **fields, cells=sorted(after.accused), error=after.detail)
        elif after.state is ProofState.REFUTED and (after.state, after.said) != (before.state, before.said):
            log.error("cells-cannot-pull", **fields, error=after.detail)
        else:
            log.info("canary-proved-nothing", **fields, error=after.detail)

    def _proof_of(self, placement_tags: frozenset[str]) -> PullProof:
        return self._proofs.get(placement_tags) or PullProof(since=self._process.clock())

    def _set(self, placement_tags: frozenset[str], proof: PullProof) -> None:
        self._proofs[placement_tags] = proof
        self._changed.set()

    def _count_not_proven(self) -> int:
        """Count the sets of placement tags whose cells no canary has shown to pull, although one has run."""
        return sum(
            not proof.is_proven and (proof.failures > 0 or proof.is_spoiled)
            for proof in self._proofs.values()
        )


def _outcome_of(proof: PullProof, result: CanaryResult) -> str:
    if proof.is_proven:
        return "proven"
    return "refuted" if result.failures or result.is_silent else "nothing"


class UnaskedCells:
    """Cells for which no canary can be made, and that are taken to pull."""

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """Nothing is known of them."""
        return {}

    def is_refuted(self, _placement_tags: frozenset[str]) -> bool:
        """Take it that cells can pull."""
        return False

    def why_not(self, _placement_tags: frozenset[str]) -> None:
        """Take it that cells can pull."""

    def problem_of(self, _placement_tags: frozenset[str]) -> None:
        """Take it that cells can pull."""

    def use_login(self, credentials: Credentials) -> None:
        """Keep nothing: cells are not asked."""

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Keep nothing: nothing could show that the cell was mended."""

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Keep nothing."""
