"""Replaces the canary loop where no canary can be made for the cells' platform: they are assumed to pull."""

from collections.abc import Callable, Mapping

from controller.canary.questions import pulled_with
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials
from reconcile.pull_proof import CanaryLogin, PullProof
from reconcile.start_failures import StartFailure


class NullCanaryLoop:
    """What is assumed of cells for which no canary can be made."""

    @property
    def not_proven(self) -> int:
        """The number of sets of placement tags whose cells are not known to pull: 0."""
        return 0

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """Placement tags to the proof that their cells can pull: none."""
        return {}

    def is_refuted(self, _placement_tags: frozenset[str], _login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        """Assume that cells can pull."""
        return False

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> str | None:
        """Assume that cells can pull with their own login; of any other, return that nothing shows it."""
        return self.problem_of(placement_tags, login)

    def problem_of(
        self, _placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        """Assume that cells can pull with their own login; of any other, return that nothing shows it."""
        if login is CanaryLogin.CELLS:
            return None
        return f"no canary can be made that shows whether cells can pull{pulled_with(login)}"

    def listen_for_droplets(self, listener: Callable[[], None]) -> None:
        """Ignore the listener: nothing will ever change."""

    def use_login(self, credentials: Credentials) -> None:
        """Ignore the login: cells are not asked."""

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Ignore the failure: no canary could show that the cell works again."""

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Ignore the success."""
