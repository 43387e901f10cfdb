"""What the BBS's event streams tell, as values: where to look, never what to do.

Source: cloudfoundry/bbs models/events.proto.
"""

from dataclasses import dataclass, field

from reconcile.lrps import ActualLrp, DesiredLrp, ProcessGuid, Task


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """A task was desired."""

    task: Task


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A task went on; `before` may be empty."""

    before: Task
    after: Task


@dataclass(frozen=True, slots=True)
class TaskRemoved:
    """A task is gone."""

    task: Task


@dataclass(frozen=True, slots=True)
class DesiredLrpCreated:
    """An LRP was desired."""

    lrp: DesiredLrp


@dataclass(frozen=True, slots=True)
class DesiredLrpChanged:
    """An LRP was updated; `after` may already hold later changes."""

    before: DesiredLrp
    after: DesiredLrp


@dataclass(frozen=True, slots=True)
class DesiredLrpRemoved:
    """An LRP is no longer desired; its instances may still run."""

    lrp: DesiredLrp


@dataclass(frozen=True, slots=True)
class ActualLrpCreated:
    """An instance row was made."""

    lrp: ActualLrp


@dataclass(frozen=True, slots=True)
class ActualLrpChanged:
    """An instance row changed; both sides carry the keys of one of them."""

    before: ActualLrp
    after: ActualLrp


@dataclass(frozen=True, slots=True)
class ActualLrpRemoved:
    """An instance is being removed; after a retire its row may still be there."""

    lrp: ActualLrp


@dataclass(frozen=True, slots=True)
class ActualLrpCrashed:
    """An instance crashed; the keys are those it had before."""

    process_guid: ProcessGuid
    index: int
    domain: str
    instance_guid: str
    cell_id: str
    crash_count: int
    crash_reason: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a name that we do not know: skip it."""

    name: str


@dataclass(frozen=True, slots=True)
class BrokenEvent:
    """An event that cannot be read: log it, skip it, and let the sweep find what it was about."""

    name: str
    reason: str


TaskEvent = TaskCreated | TaskChanged | TaskRemoved
DesiredLrpEvent = DesiredLrpCreated | DesiredLrpChanged | DesiredLrpRemoved
ActualLrpEvent = ActualLrpCreated | ActualLrpChanged | ActualLrpRemoved | ActualLrpCrashed
Event = TaskEvent | DesiredLrpEvent | ActualLrpEvent | UnknownEvent | BrokenEvent
