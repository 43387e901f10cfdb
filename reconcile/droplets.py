"""Builds, droplets and packages of Cloud Controller as read-only values, and the records of droplets.

A droplet is what Cloud Controller desires LRPs and one-off tasks from. Its image text is the one place where
a cached URL outlives restarts. Whoever changes it must know what it was: the record of a droplet holds that.

Source: cloud_controller_ng app/presenters/v3/{build,droplet,package}_presenter.rb.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from reconcile.lrps import AppGuid, TaskGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.references import CacheGuid
from reconcile.times import is_recent

BuildGuid = NewType("BuildGuid", str)
"""The GUID of a build, which its staging task has too."""

DropletGuid = NewType("DropletGuid", str)
PackageGuid = NewType("PackageGuid", str)

STAGED = "STAGED"
"""The only state of a droplet in which it can be started, rolled back to or patched."""

LATE_EFFECT = 60.0
"""Seconds within which a request whose answer was lost may still take effect."""


def build_of_task(task_guid: TaskGuid) -> BuildGuid:
    """Name the build of a staging task."""
    return BuildGuid(task_guid)


def task_of_build(build_guid: BuildGuid) -> TaskGuid:
    """Name the staging task of a build."""
    return TaskGuid(build_guid)


class BuildState(StrEnum):
    """A build's state in Cloud Controller's own words."""

    STAGING = "STAGING"
    STAGED = "STAGED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Build:
    """A build: one staging of an app.

    Attributes:
        droplet_guid: What it led to; None until the droplet is in a final state, a moment after the build is.
        package_guid: None when its package was deleted.
        created_at: UTC seconds since 1970.
    """

    guid: BuildGuid
    state: BuildState
    droplet_guid: DropletGuid | None
    app_guid: AppGuid
    package_guid: PackageGuid | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Droplet:
    """A droplet: what an app was staged to.

    Attributes:
        state: In Cloud Controller's own words, such as "STAGED" or "EXPIRED".
        image: The text that rootfs are made of; None when it has none. It may hold a login.
        package_guid: What it was staged from; None when that was deleted, and for a copy of another droplet.
        created_at: UTC seconds since 1970.
        updated_at: UTC seconds since 1970.
    """

    guid: DropletGuid
    state: str
    is_docker: bool
    image: str | None = field(repr=False)
    app_guid: AppGuid
    package_guid: PackageGuid | None
    created_at: float
    updated_at: float

    @property
    def is_staged(self) -> bool:
        """Whether it can be started and patched; Cloud Controller answers a patch of any other with 500."""
        return self.state == STAGED


@dataclass(frozen=True, slots=True)
class Package:
    """A package: what a user pushed.

    Attributes:
        image: The text that the user gave; None for a package that is no Docker image. It may hold a login.
        username: Of the login at the source registry; empty for none. The password is never shown.
    """

    guid: PackageGuid
    is_docker: bool
    image: str | None = field(repr=False)
    username: str = ""


class DropletPhase(StrEnum):
    """How far the change of a droplet has come; written before the effect that it names."""

    PATCHING = "patching"
    """The text of the copy is being written, or may have been: the droplet says which."""
    PATCHED = "patched"
    """It names its copy."""
    RESTORING = "restoring"
    """Its original text is being written, or may have been: the droplet says which."""
    RESTORED = "restored"
    """It has its original text again."""
    LEFT = "left"
    """Nothing is to be done now; the reason says why. It names no copy because of this program."""


@dataclass(frozen=True, slots=True)
class DropletRecord:
    """What is known of one droplet that is to name a copy, names one, or did.

    Attributes:
        build_guid: Of the staging that it came from; None where that is not known.
        original: Its image text before the first change of this program; never a URL of a private registry.
        username: Of the login at the source registry; empty when there is none, or it is not known.
        cache_guid: The copy that it names, is to name, or named last; None while none was chosen.
        registry: Address of the private registry that the copy is in; empty while none was chosen.
        target: The text that names the copy; empty while none was chosen.
        reason: Of the last outcome.
        detail: More of it for people; never holds credentials.
        attempts: Requests in a row that were sent, and of which no effect is known.
        rounds: Changes to the copy that took effect lately; grows when somebody keeps reverting them.
        not_before: UTC seconds since 1970 before which nothing is sent; 0 when it is due.
        created_at: UTC seconds since 1970.
        updated_at: UTC seconds since 1970.
    """

    droplet_guid: DropletGuid
    app_guid: AppGuid
    build_guid: BuildGuid | None
    original: str = field(repr=False)
    username: str
    cache_guid: CacheGuid | None
    registry: str
    target: str
    phase: DropletPhase
    reason: Reason
    created_at: float
    updated_at: float
    detail: str = ""
    attempts: int = 0
    rounds: int = 0
    not_before: float = 0.0

    @property
    def may_name_copy(self) -> bool:
        """Whether the droplet names its copy, or may name it because of a request that was sent."""
        return self.cache_guid is not None and self.phase in _MAY_NAME_COPY

    def needs_copy(self, now: float) -> bool:
        """Whether its copy must stay: the droplet may name it, or come to do so by a request from before."""
        is_fresh = is_recent(self.updated_at, now, LATE_EFFECT)
        return self.cache_guid is not None and (self.phase in _MAY_NAME_COPY or is_fresh)


_MAY_NAME_COPY = frozenset({DropletPhase.PATCHING, DropletPhase.PATCHED, DropletPhase.RESTORING})


@dataclass(frozen=True, slots=True)
class DropletOrder:
    """An operator's request to change one droplet now, even where the daemon would wait or leave it.

    An order is one attempt: failures from before it do not count, later ones do.

    Attributes:
        goal: Whether the droplet is to name its copy, or to have its original text.
        since: When the order was given, UTC seconds since 1970.
        image: The text that the plan showed and that the droplet must still have; None accepts any.
        target: The text that the plan said would be written; None accepts any.
        only_cached: Whether the order covers only a droplet that has a copy, and requests no copy.
    """

    goal: Goal
    since: float
    image: str | None = field(default=None, repr=False)
    target: str | None = field(default=None, repr=False)
    only_cached: bool = False
