"""The part of a plan that is about droplets of Cloud Controller: what is written into which, and why not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplets import DropletGuid, DropletRecord
from reconcile.errors import Invalid
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.references import ImageReference, parse_image_reference, without_login
from reconcile.selection import Owner


class DropletChange(StrEnum):
    """What is to be done about a droplet."""

    PATCH = "patch"
    """The image of its copy is written into it."""
    RESTORE = "restore"
    """Its original image is written into it."""
    PIN = "pin"
    """Nothing is written: its app is pinned to its source."""


@dataclass(frozen=True, slots=True)
class DropletSubject:
    """A droplet with its owner, as plans name it.

    Attributes:
        owner: With empty names for an app that does not run and whose names Cloud Controller did not say.
        image: What the droplet has now. It may contain a login.
        is_newest: Whether it is the newest of its app; a rollback to an earlier revision uses an older one.
        is_running: Whether LRPs of its app are desired.
    """

    droplet_guid: DropletGuid
    app_guid: AppGuid
    owner: Owner
    image: str = field(repr=False)
    is_newest: bool = True
    is_running: bool = True

    @property
    def shown_image(self) -> str:
        """The image without a login."""
        return without_login(self.image)


@dataclass(frozen=True, slots=True)
class PlannedDroplet:
    """A droplet that would be changed.

    Attributes:
        to_image: What would be written into it; None while that is not known, since it has no copy.
        copy: The image that is copied first; None when it has a copy.
        is_pinned: Whether an operator restored its app to its source, and it would be changed nevertheless.
    """

    subject: DropletSubject
    change: DropletChange
    to_image: str | None
    reason: Reason
    copy: ImageReference | None = None
    is_pinned: bool = False

    @property
    def shown_target(self) -> str:
        """What would be written into it, without a login; empty while that is not known."""
        return "" if self.to_image is None else without_login(self.to_image)


@dataclass(frozen=True, slots=True)
class SkippedDroplet:
    """A droplet that would stay as it is, with the reason."""

    subject: DropletSubject
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DropletPlan:
    """What would be done about droplets.

    Attributes:
        considered: The number of droplets that were considered.
        problems: Why droplets may be missing. LRPs are migrated nevertheless.
    """

    changes: tuple[PlannedDroplet, ...] = ()
    skipped: tuple[SkippedDroplet, ...] = ()
    considered: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecidedDroplet:
    """A droplet with the decision about it.

    Attributes:
        image: What it has now; empty when it has none. It may contain a login.
        names_copy: Whether it names a copy, in the present private registry or a former one, or may do so.
        waits_for: The image whose copy it waits for; None when it waits for none.
        is_newest: Whether it is the newest of its app.
        is_pinned: Whether an operator restored its app to its source.
        record: What is known of it; None for nothing.
    """

    guid: DropletGuid
    app_guid: AppGuid
    image: str = field(repr=False)
    action: DropletAction
    names_copy: bool = False
    waits_for: ImageReference | None = None
    is_newest: bool = True
    is_pinned: bool = False
    record: DropletRecord | None = None

    @property
    def original(self) -> str:
        """The image text of its source, as far as it is known."""
        return self.image if self.record is None else self.record.original


@dataclass(frozen=True, slots=True)
class DropletScope:
    """The droplets that a plan is about.

    Attributes:
        apps: None for those of all apps.
        chooses: Tells from app and original image text whether a droplet is meant.
    """

    apps: frozenset[AppGuid] | None
    chooses: Callable[[AppGuid, str], bool]


@dataclass(frozen=True, slots=True)
class DropletCriteria:
    """What the part of a plan for droplets is about.

    Attributes:
        covered_apps: Apps that the plan pins anyway, since it restores or pins LRPs of theirs.
        include_pinned: Include apps that an operator pinned to their sources.
    """

    goal: Goal
    covered_apps: frozenset[AppGuid] = frozenset()
    include_pinned: bool = False


def plan_droplet(
    decided: DecidedDroplet, subject: DropletSubject, criteria: DropletCriteria
) -> PlannedDroplet | SkippedDroplet | None:
    """Write what the decision about a droplet leads to; None when it is not worth a line.

    A droplet that is on its source already is named in a plan to the sources only where nothing else of the
    plan pins its app there.
    """
    if criteria.goal is Goal.SOURCE and not decided.names_copy:
        if decided.is_pinned or not decided.app_guid or decided.app_guid in criteria.covered_apps:
            return None
        return PlannedDroplet(subject, DropletChange.PIN, subject.image, Reason.RESTORE_REQUESTED)
    planned = _change_of(decided, subject)
    stays = decided.is_pinned and criteria.goal is Goal.CACHE and not criteria.include_pinned
    if stays and isinstance(planned, PlannedDroplet):
        return SkippedDroplet(subject, Reason.PINNED_TO_SOURCE, "an operator restored the app to its source")
    return planned


def _change_of(decided: DecidedDroplet, subject: DropletSubject) -> PlannedDroplet | SkippedDroplet | None:
    action, is_pinned = decided.action, decided.is_pinned
    match action:
        case PatchDroplet():
            return PlannedDroplet(
                subject, DropletChange.PATCH, action.text, action.reason, is_pinned=is_pinned
            )
        case VerifyDropletCopy(_, text, reason):
            return PlannedDroplet(subject, DropletChange.PATCH, text, reason, is_pinned=is_pinned)
        case RestoreDroplet():
            return PlannedDroplet(subject, DropletChange.RESTORE, action.text, action.reason)
        case RequestCopy(request):
            return PlannedDroplet(
                subject, DropletChange.PATCH, None, action.reason, request.job_source, is_pinned
            )
        case Leave(Reason.WAITING_FOR_COPY):
            return PlannedDroplet(
                subject, DropletChange.PATCH, None, action.reason, decided.waits_for, is_pinned
            )
        case Leave(reason, detail):
            return SkippedDroplet(subject, reason, detail)
        case SaveDropletRecord():
            return SkippedDroplet(subject, action.reason)
        case ForgetDroplet():
            return None


def references_of(text: str) -> tuple[ImageReference, ...]:
    """Read an image text for filters; a text that is no reference matches none."""
    try:
        return (parse_image_reference(text).canonical(),)
    except Invalid:
        return ()


NO_DROPLETS = DropletPlan()
"""The plan for droplets where no Cloud Controller is configured."""
