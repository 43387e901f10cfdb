"""The events of the BBS's streams, as values.

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
    """A task changed; `before` may be empty."""

    before: Task
    after: Task


@dataclass(frozen=True, slots=True)
class TaskRemoved:
    """A task was deleted."""

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
    """An instance row was created."""

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
    """An event with an unknown name, which is skipped."""

    name: str


@dataclass(frozen=True, slots=True)
class BrokenEvent:
    """An event that cannot be read: it is logged and skipped, and the sweep finds what it was about."""

    name: str
    reason: str


TaskEvent = TaskCreated | TaskChanged | TaskRemoved
DesiredLrpEvent = DesiredLrpCreated | DesiredLrpChanged | DesiredLrpRemoved
ActualLrpEvent = ActualLrpCreated | ActualLrpChanged | ActualLrpRemoved | ActualLrpCrashed
Event = TaskEvent | DesiredLrpEvent | ActualLrpEvent | UnknownEvent | BrokenEvent
