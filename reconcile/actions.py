"""The actions that a pass over one LRP can come to, as values with their reasons."""

from dataclasses import dataclass

from reconcile.lrps import DesiredLrp, ProcessGuid, Pull
from reconcile.records import CachedImage, CacheRequest, Goal, Strategy
from reconcile.steps import Retire, Step


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Nothing to do until something changes."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Forget:
    """The LRP is gone."""

    reason: str = "not-desired"


@dataclass(frozen=True, slots=True)
class CacheImage:
    """Ask for a copy of the source image."""

    request: CacheRequest

    @property
    def reason(self) -> str:
        """Why the copy is wanted."""
        return self.request.reason


@dataclass(frozen=True, slots=True)
class VerifyImage:
    """Read a copy back that instances crashed from, before another app is moved to it."""

    lrp: DesiredLrp
    image: CachedImage
    reason: str = "image-suspect"


@dataclass(frozen=True, slots=True)
class BeginReplacement:
    """Verify the copy once more, write the journal, and begin.

    Attributes:
        image: To move to; None on the way back.
    """

    lrp: DesiredLrp
    image: CachedImage | None
    rounds: int
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    reason: str = "runs-from-source"


@dataclass(frozen=True, slots=True)
class GoOn:
    """Take the next step of a replacement."""

    step: Step
    target: Pull


@dataclass(frozen=True, slots=True)
class RemoveLeftBridge:
    """Remove a bridge that nobody needs."""

    process_guid: ProcessGuid
    reason: str = "bridge-left-behind"


Action = LeaveAlone | Forget | CacheImage | VerifyImage | BeginReplacement | GoOn | Retire | RemoveLeftBridge
