"""Stands for cells that no canary can ask, since none can be made for their platform."""

from collections.abc import Callable, Mapping

from controller.canary.questions import pulled_with
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials
from reconcile.pull_proof import CanaryLogin, PullProof
from reconcile.start_failures import StartFailure


class UnaskedCells:
    """Cells for which no canary can be made, and that are taken to pull."""

    @property
    def not_proven(self) -> int:
        """No cells are known that cannot pull."""
        return 0

    @property
    def proofs(self) -> Mapping[frozenset[str], PullProof]:
        """Nothing is known of them."""
        return {}

    def is_refuted(self, _placement_tags: frozenset[str], _login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        """Take it that cells can pull."""
        return False

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> str | None:
        """Take it that cells can pull with their own login, and say that nothing shows it of any other."""
        return self.problem_of(placement_tags, login)

    def problem_of(
        self, _placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        """Take it that cells can pull with their own login, and say that nothing shows it of any other."""
        if login is CanaryLogin.CELLS:
            return None
        return f"no canary can be made that shows whether cells can pull{pulled_with(login)}"

    def listen_for_droplets(self, listener: Callable[[], None]) -> None:
        """Keep nobody: nothing will ever be known."""

    def use_login(self, credentials: Credentials) -> None:
        """Keep nothing: cells are not asked."""

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        """Keep nothing: nothing could show that the cell was mended."""

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        """Keep nothing."""
