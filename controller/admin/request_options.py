"""What a command asks of the admin API, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filters:
    """The LRPs that a command is about; see `reconcile.selection`."""

    orgs: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    process_guids: tuple[str, ...] = ()

    @property
    def selects_all(self) -> bool:
        """Whether all LRPs are chosen."""
        return not (self.orgs or self.spaces or self.apps or self.images or self.process_guids)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is about; see `controller.admin.planner`."""

    goal: str = "cache"
    strategy: str | None = None
    only_cached: bool = False
    include_pinned: bool = False
