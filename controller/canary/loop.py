"""Runs canaries when they are due, and keeps what they and migrations show of the cells.

Only one canary runs at a time. Without a need for a proof none runs, and while they prove nothing they pause.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from controller.backoff import Backoff, backoff
from controller.canary.dependencies import CanaryPause, ProofListener
from controller.canary.questions import PullQuestion, pulled_with
from controller.process import Process
from controller.tracing import tracing
from reconcile.errors import DockerCacheError
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials
from reconcile.pull_proof import (
    LONGEST_PAUSE,
    CanaryKind,
    CanaryLogin,
    CanaryResult,
    ProofState,
    PullProof,
)
from reconcile.start_failures import StartFailure

log = structlog.get_logger(scope="canary")

PAUSES: Mapping[CanaryKind, Backoff] = {
    CanaryKind.TASK: backoff(1.0, 60.0),
    CanaryKind.EVERY_CELL: backoff(5.0, LONGEST_PAUSE),
}
"""Seconds until the next canary, by how many in a row have proven nothing."""

FOREIGN_PAUSE = backoff(2.0, LONGEST_PAUSE)
"""The same for canaries without the login of the cells: a registry that refuses them mostly means to."""

FOREIGN_GOOD_FOR = 3600.0
"""Seconds after which cells are asked again whether they can pull without their own login. Nobody else would
notice that the private registry asks for logins since then, before an app is started or runs a task."""

LEFTOVERS_PAUSE = 10.0
"""Seconds until canaries that could not be removed are removed again."""

ROUNDING = 0.001
"""Seconds by which a canary may run early: timers and clocks differ by less."""

SHARED_CELLS = frozenset[str]()
"""The placement tags of LRPs without an isolation segment."""


class CanaryProber(Protocol):
    """Runs one canary."""

    async def run(self, kind: CanaryKind, placement_tags: frozenset[str], login: CanaryLogin) -> CanaryResult:
        """Run a canary of some kind."""

    @property
    def has_leftovers(self) -> bool:
        """Whether canaries may be left, of an earlier process or because a removal failed."""

    async def remove_leftovers(self) -> None:
        """Remove the canaries that are left; only while none of this process runs."""

    def use_login(self, credentials: Credentials) -> None:
        """Let the next canaries pull with another login."""


class CanaryLoop:
    """What is known of the cells, for each set of placement tags and login that somebody has asked for.

    Args:
        prober: Runs the canaries.
        pause: While the daemon is paused, no canary runs before an order needs it.
        process: Clock and metrics.
    """

    def __init__(
        self,
        prober: CanaryProber,
        *,
        pause: CanaryPause,
        process: Process,
    ) -> None:
        self._prober, self._pause, self._process = prober, pause, process
        self._proofs: dict[PullQuestion, PullProof] = {}
        self._changed = asyncio.Event()
        self._leftovers_due = 0.0
        self._logins = 0
        """How often the login with which cells pull has changed."""
        self._listener: ProofListener | None = None
        self._droplet_listeners: list[Callable[[], None]] = []
        process.metrics.migrations.cells_not_proven.set_function(lambda: self.not_proven)
        process.metrics.migrations.foreign_logins_not_proven.set_function(
            lambda: self._count_not_proven(lambda login: login is not CanaryLogin.CELLS)
        )

    @property
    def not_proven(self) -> int:
        """The number of sets of placement tags whose cells are not known to pull, though a canary has run."""
        return self._count_not_proven(lambda login: login is CanaryLogin.CELLS)

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """What is known of the cells with their own login, by placement tags."""
        return self.proofs_with(CanaryLogin.CELLS)

    def proofs_with(self, login: CanaryLogin) -> Mapping[frozenset[str], PullProof]:
        """Return what is known of the cells with some login, by placement tags."""
        return {
            question.placement_tags: proof
            for question, proof in self._proofs.items()
            if question.login is login
        }

    def listen(self, listener: ProofListener) -> None:
        """Let somebody know of proofs with the login of the cells, and of canaries that do not prove it."""
        self._listener = listener

    def listen_for_droplets(self, listener: Callable[[], None]) -> None:
        """Let somebody know when more is known of what cells can pull for what comes from droplets."""
        self._droplet_listeners.append(listener)

    def use_login(self, credentials: Credentials) -> None:
        """Let cells show again whether they can pull, with another login."""
        self._logins += 1
        self._prober.use_login(credentials)
        now = self._process.clock()
        for question in self._proofs:
            self._set(question, PullProof(since=now).asked(now))

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> str | None:
        """Say why cells are not known to pull; None when they are. Whoever asks makes a canary due."""
        proof = self._proof_of(placement_tags, login)
        if proof.is_proven:
            return None
        self._set(PullQuestion(placement_tags, login), proof.asked(self._process.clock()))
        asked = "a canary is to show whether cells can pull"
        return self.problem_of(placement_tags, login) or f"{asked}{pulled_with(login)}"

    def problem_of(
        self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        """Say what is known to be wrong with cells, without asking them; None while nothing is known."""
        proof = self._proof_of(placement_tags, login)
        pull = f"pull from the private registry{pulled_with(login)}"
        if proof.state is ProofState.REFUTED:
            return f"cells cannot {pull}: {proof.detail}"
        if proof.said:
            return f"perhaps cells cannot {pull}: {proof.detail}"
        if not proof.detail:
            return None
        return f"no canary could show whether cells can pull{pulled_with(login)}: {proof.detail}"

    def is_refuted(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        """Whether a canary has shown that cells cannot pull."""
        return self._proof_of(placement_tags, login).state is ProofState.REFUTED

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Note that an instance could not be created from a copy."""
        before = self._proof_of(placement_tags)
        after = before.failed(cell_id, failure, self._process.clock(), cause=cause)
        if before.is_proven and not after.is_proven:
            log.error(
                "instance-failed-to-pull",
                placement_tags=sorted(placement_tags),
                cell_id=cell_id,
                reason=failure.blame,
                error=failure.detail,
            )
        self._set(PullQuestion(placement_tags), after)
        if not after.is_proven:
            self._forget_foreign(placement_tags)

    def _forget_foreign(self, placement_tags: frozenset[str]) -> None:
        """Let cells show again what they can pull without their own login, once somebody needs it."""
        now = self._process.clock()
        for question, proof in tuple(self._proofs.items()):
            is_foreign = question.login is not CanaryLogin.CELLS
            if is_foreign and question.placement_tags == placement_tags and proof.is_proven:
                self._set(question, PullProof(since=now))

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Note that an instance runs from a copy."""
        question = PullQuestion(placement_tags)
        if question in self._proofs:
            self._set(question, self._proofs[question].succeeded(cell_id, self._process.clock()))

    async def run(self) -> None:
        """Run canaries forever."""
        await self._remove_leftovers()
        if not self._pause.is_paused:  # the first app need not wait for it
            proof = self._proof_of(SHARED_CELLS).asked(self._process.clock())
            self._set(PullQuestion(SHARED_CELLS), proof)
        while True:
            question = await self._wait_until_due()
            with tracing():
                await self._run_one(question)

    async def _remove_leftovers(self) -> float | None:
        """Remove the canaries that are left, if any; return the seconds until that is due again."""
        now = self._process.monotonic()
        if self._prober.has_leftovers and now >= self._leftovers_due:
            self._leftovers_due = now + LEFTOVERS_PAUSE
            try:
                await self._prober.remove_leftovers()
            except DockerCacheError as error:
                log.info("failed-to-remove-canary", error=str(error))
        return max(0.0, self._leftovers_due - now) if self._prober.has_leftovers else None

    async def _wait_until_due(self) -> PullQuestion:
        while True:
            self._changed.clear()
            until_removal = await self._remove_leftovers()
            now = self._process.clock()
            waits = {question: self._seconds_until_due(question, now) for question in self._proofs}
            known = {question: seconds for question, seconds in waits.items() if seconds is not None}
            due = [question for question, seconds in known.items() if seconds <= ROUNDING]
            if due:
                return min(due, key=lambda each: (each.rank[0], known[each], each.rank))
            try:
                pauses = [*known.values(), *([] if until_removal is None else [until_removal])]
                async with asyncio.timeout(min(pauses, default=None)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _seconds_until_due(self, question: PullQuestion, now: float) -> float | None:
        proof = self._proofs[question]
        is_open = proof.running_since is not None or proof.due_at is not None or not proof.is_proven
        if is_open or question.login is CanaryLogin.CELLS:
            return proof.seconds_until_due(now)
        if self._pause.is_paused:
            return FOREIGN_GOOD_FOR
        return min(max(0.0, proof.since + FOREIGN_GOOD_FOR - now), FOREIGN_GOOD_FOR)

    async def _run_one(self, question: PullQuestion) -> None:
        before = self._proofs[question]
        kind, logins = before.next_kind, self._logins
        self._set(question, before.started(self._process.clock()))
        result = await self._prober.run(kind, question.placement_tags, question.login)
        if logins != self._logins:  # it says nothing of the present login
            return
        before = self._proofs[question]  # with what was noted meanwhile
        pauses = PAUSES[kind] if question.login is CanaryLogin.CELLS else FOREIGN_PAUSE
        after = before.ended(result, self._process.clock(), pause=pauses(before.failures + 1))
        self._set(question, after)
        self._log(question, before, after, result)
        self._report(question, before, after)

    def _report(self, question: PullQuestion, before: PullProof, after: PullProof) -> None:
        """Report an answer to those who wait for it: droplets for any login, LRPs for that of the cells."""
        has_changed = after.state is not before.state or not before.detail
        if after.is_proven or has_changed:
            for listener in self._droplet_listeners:
                listener()
        if question.login is not CanaryLogin.CELLS or self._listener is None:
            return
        if after.is_proven:
            self._listener.note_proven_cells(is_mended=before.is_spoiled)
        elif has_changed:
            self._listener.note_unproven_cells()

    def _log(self, question: PullQuestion, before: PullProof, after: PullProof, result: CanaryResult) -> None:
        fields: dict[str, object] = {
            "kind": result.kind,
            "placement_tags": sorted(question.placement_tags),
            "login": question.login,
        }
        self._process.metrics.migrations.canaries.labels(outcome=_outcome_of(after, result)).inc()
        retry_after = after.seconds_until_due(self._process.clock())
        if retry_after is not None:
            fields["retry_after_s"] = round(retry_after, 1)
        if after.is_proven:
            log.info("cells-can-pull", **fields, cells=sorted(result.pulled), after_failures=before.failures)
        elif after.asks_every_cell:
            log.info("asking-every-cell", **fields, cells=sorted(after.accused), error=after.detail)
        elif question.login is not CanaryLogin.CELLS:
            if after.state is ProofState.REFUTED and after.state is not before.state:
                log.error("cells-cannot-pull-for-droplets", **fields, error=after.detail)
        elif after.state is ProofState.REFUTED and (after.state, after.said) != (before.state, before.said):
            log.error("cells-cannot-pull", **fields, error=after.detail)
        else:
            log.info("canary-proved-nothing", **fields, error=after.detail)

    def _proof_of(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> PullProof:
        known = self._proofs.get(PullQuestion(placement_tags, login))
        return known or PullProof(since=self._process.clock())

    def _set(self, question: PullQuestion, proof: PullProof) -> None:
        self._proofs[question] = proof
        self._changed.set()

    def _count_not_proven(self, is_counted: Callable[[CanaryLogin], bool]) -> int:
        """Count the questions that no canary has answered with yes, although one has run."""
        return sum(
            is_counted(question.login) and not proof.is_proven and (proof.failures > 0 or proof.is_spoiled)
            for question, proof in tuple(self._proofs.items())  # read by scrapes, too
        )


def _outcome_of(proof: PullProof, result: CanaryResult) -> str:
    if proof.is_proven:
        return "proven"
    return "refuted" if result.failures or result.is_silent else "nothing"
