"""Desired LRPs, actual LRPs and tasks of the BBS as read-only values.

The adapter of the BBS builds them from its messages. A desired LRP keeps the received message as opaque
bytes, since what is sent back must be that message with few fields changed, never a rebuilt one.

Source: cloudfoundry/bbs models/{desired_lrp,actual_lrp,task,actions}.proto.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from reconcile.references import ImageReference, Rootfs, image_from_rootfs

ProcessGuid = NewType("ProcessGuid", str)
AppGuid = NewType("AppGuid", str)
TaskGuid = NewType("TaskGuid", str)


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is never shown or logged."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login at a registry."""

    username: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Pull:
    """What cells pull for an LRP.

    Attributes:
        credentials: The login that cells pull with; None when they need none.
    """

    rootfs: Rootfs
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class ModificationTag:
    """Orders two versions of one record: by index within an epoch, not at all across epochs.

    Source: cloudfoundry/bbs models/modification_tag.go.
    """

    epoch: str
    index: int


@dataclass(frozen=True, slots=True)
class RunAction:
    """A program to run; `env` maps names to values."""

    path: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class WrapperAction:
    """An action around others: timeout, emit-progress, try, parallel, serial or codependent."""

    actions: tuple["Action", ...] = ()


@dataclass(frozen=True, slots=True)
class OtherAction:
    """A download, an upload, or an unknown action."""


Action = RunAction | WrapperAction | OtherAction


def run_actions(action: Action | None) -> Iterator[RunAction]:
    """Walk a tree of actions and give the programs in it, in order."""
    match action:
        case RunAction():
            yield action
        case WrapperAction(actions):
            for inner in actions:
                yield from run_actions(inner)
        case _:
            return


class TaskState(StrEnum):
    """A task's state in the BBS's own words."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    RESOLVING = "Resolving"
    INVALID = "Invalid"


@dataclass(frozen=True, slots=True)
class Task:
    """A task: one-off work of the BBS.

    Attributes:
        created_at: Nanoseconds since 1970, by the BBS's clock.
        metric_tags: Tag name to static value; dynamic tags are left out.
        credentials: From `image_username` and `image_password`; None when there are none.
        cell_id: Empty where no cell has it.
        rejection_reason: Why it was not started at the last attempt; empty while there was none.
        placement_tags: The tags that a cell must have.
    """

    task_guid: TaskGuid
    domain: str
    state: TaskState
    created_at: int
    rootfs: Rootfs
    log_guid: str
    action: Action | None = None
    failed: bool = False
    failure_reason: str = ""
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    cell_id: str = ""
    rejection_reason: str = ""
    placement_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SchedulingInfo:
    """The light view of a desired LRP that a sweep lists.

    Attributes:
        placement_tags: As those of a desired LRP.
    """

    process_guid: ProcessGuid
    domain: str
    app_guid: AppGuid
    rootfs: Rootfs
    instances: int
    tag: ModificationTag
    placement_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DesiredLrp:
    """A desired LRP: what Diego keeps running.

    Attributes:
        app_guid: The log GUID, else the metric tag `app_id`; never a part of the process GUID.
        definition: The received message, for the BBS adapter alone.
        metric_tags: Tag name to static value; dynamic tags are left out.
        credentials: From `image_username` and `image_password`; None when there are none.
        routes: Route key to JSON text, secrets of `diego-ssh` included.
        placement_tags: The tags that a cell must have, such as the name of an isolation segment.
        annotation: What its owner notes in each change; Cloud Controller notes the time of it.
    """

    process_guid: ProcessGuid
    domain: str
    app_guid: AppGuid
    rootfs: Rootfs
    instances: int
    tag: ModificationTag
    definition: bytes = field(repr=False)
    action: Action | None = field(default=None, repr=False)
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    routes: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    placement_tags: frozenset[str] = frozenset()
    annotation: str = ""


def organization_of(lrp: DesiredLrp) -> str:
    """Name the organization of an LRP's app by its GUID; empty where no metric tag names it."""
    return lrp.metric_tags.get("organization_id", "")


def source_of(lrp: DesiredLrp) -> ImageReference:
    """Read an LRP's image in its canonical spelling.

    Raises:
        Invalid: No registry would know such an image.
    """
    return image_from_rootfs(lrp.rootfs).canonical()


class ActualLrpState(StrEnum):
    """An instance's state in the BBS's own words."""

    UNCLAIMED = "UNCLAIMED"
    CLAIMED = "CLAIMED"
    RUNNING = "RUNNING"
    CRASHED = "CRASHED"


class Presence(StrEnum):
    """Which of the up to three rows of an index this is."""

    ORDINARY = "ORDINARY"
    EVACUATING = "EVACUATING"
    SUSPECT = "SUSPECT"


@dataclass(frozen=True, slots=True)
class ActualLrp:
    """An actual LRP: one instance row; instance GUID and cell are empty while UNCLAIMED or CRASHED.

    Attributes:
        crash_count: Crashes in a row; one that ran for five minutes begins to count anew.
        placement_error: Why no cell runs it; empty when one does or none was asked yet.
        crash_reason: Why it crashed last, as `reconcile.start_failures` reads it; it stays when it is started
            again.
        since: When its state changed last: seconds since 1970 by the BBS's clock, 0 when that is not known.
    """

    process_guid: ProcessGuid
    index: int
    domain: str
    state: ActualLrpState
    presence: Presence
    instance_guid: str
    cell_id: str
    tag: ModificationTag
    routable: bool = True
    crash_count: int = 0
    placement_error: str = ""
    crash_reason: str = field(default="", repr=False)
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A host that runs instances.

    Attributes:
        rootfs_schemes: The providers without stacks, such as "docker".
        placement_tags: Tags that an LRP must have to run on it.
        optional_placement_tags: Further tags that an LRP may have.
    """

    cell_id: str
    zone: str
    rootfs_schemes: tuple[str, ...]
    placement_tags: frozenset[str] = frozenset()
    optional_placement_tags: frozenset[str] = frozenset()

    def runs_docker(self, placement_tags: frozenset[str]) -> bool:
        """Whether it may run a Docker app with some placement tags.

        Source: cloudfoundry/rep resources.go, MatchPlacementTags.
        """
        allowed = self.placement_tags | self.optional_placement_tags
        return "docker" in self.rootfs_schemes and self.placement_tags <= placement_tags <= allowed
