"""Answers whether cells can pull what Cloud Controller desires from a droplet that names a copy.

Cloud Controller gives the cells no login for the image of a public source, and that of the source registry
for any other. No API of it changes either. A private registry that asks for a login, and does not know that
one, refuses the pull: so no droplet is updated before a canary has shown that cells can pull with such a
login. It uses one that is made up, since no login of an app is ever tried.
"""

from collections.abc import Callable
from typing import Protocol

from reconcile.pull_proof import CanaryLogin


class AskedCells(Protocol):
    """What canaries have shown of the cells."""

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin) -> str | None:
        """Say why cells are not known to pull; None when they are. Whoever asks makes a canary due."""

    def problem_of(self, placement_tags: frozenset[str], login: CanaryLogin) -> str | None:
        """Say what is known to be wrong with cells, without asking them; None while nothing is known."""

    def is_refuted(self, placement_tags: frozenset[str], login: CanaryLogin) -> bool:
        """Whether a canary has shown that cells cannot pull."""

    def listen_for_droplets(self, listener: Callable[[], None]) -> None:
        """Let somebody know when more is known of what cells can pull for what comes from droplets."""


class DropletPulls:
    """Whether cells can pull with the login that an LRP gets from a droplet.

    Args:
        cells: Asked by canaries.
        cells_have_login: Whether the config gives the cells a login for the private registry. Where it gives
            none, what is desired from the droplet of a public image is pulled as what was migrated is.
    """

    def __init__(self, cells: AskedCells, *, cells_have_login: bool) -> None:
        self._cells, self._cells_have_login = cells, cells_have_login

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        """Say why cells are not known to pull; None when they are. Whoever asks makes canaries due.

        Args:
            placement_tags: Reach the cells of the app; empty for those without an isolation segment.
            username: Of the source registry, as the app's package has it; empty for none.
        """
        answers = [self._cells.why_not(placement_tags, login) for login in self._logins(username)]
        return next((answer for answer in answers if answer is not None), None)

    def problem_of(self, placement_tags: frozenset[str], username: str) -> str | None:
        """Say what is known to be wrong, without asking the cells; None while nothing is known."""
        answers = [self._cells.problem_of(placement_tags, login) for login in self._logins(username)]
        return next((answer for answer in answers if answer is not None), None)

    def is_refuted(self, placement_tags: frozenset[str], username: str) -> bool:
        """Whether a canary has shown that cells cannot pull."""
        return any(self._cells.is_refuted(placement_tags, login) for login in self._logins(username))

    def listen(self, listener: Callable[[], None]) -> None:
        """Let somebody know when the answers may be others."""
        self._cells.listen_for_droplets(listener)

    def _logins(self, username: str) -> tuple[CanaryLogin, ...]:
        """Name what must be shown: what holds for migrations, and the login that comes from the droplet."""
        if username:
            return CanaryLogin.CELLS, CanaryLogin.MADE_UP
        return (CanaryLogin.CELLS, CanaryLogin.NONE) if self._cells_have_login else (CanaryLogin.CELLS,)
