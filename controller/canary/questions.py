"""Names what canaries ask: whether the cells that some placement tags reach can pull with some login."""

from dataclasses import dataclass
from typing import assert_never

from reconcile.pull_proof import CanaryLogin


@dataclass(frozen=True, slots=True)
class PullQuestion:
    """Whether the cells that some placement tags reach can pull with some login."""

    placement_tags: frozenset[str]
    login: CanaryLogin = CanaryLogin.CELLS

    @property
    def rank(self) -> tuple[bool, list[str], str]:
        """Order questions: those that migrations wait for come first."""
        return self.login is not CanaryLogin.CELLS, sorted(self.placement_tags), self.login


def pulled_with(login: CanaryLogin) -> str:
    """Say after "pull" with which login; empty for the one of the cells."""
    match login:
        case CanaryLogin.CELLS:
            return ""
        case CanaryLogin.NONE:
            return " without a login"
        case CanaryLogin.MADE_UP:
            return " with a login that the registry does not know"
        case _:
            assert_never(login)
