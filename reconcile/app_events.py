"""What happens to the image of an app, as far as the app's developers are told."""

from dataclasses import dataclass

from reconcile.migrations import Goal
from reconcile.reasons import Reason


@dataclass(frozen=True, slots=True)
class CopyBegun:
    """An attempt to copy the image of a staging begins; the first is worth a line."""

    source: str


@dataclass(frozen=True, slots=True)
class CopyProgressed:
    """The copy takes long.

    Attributes:
        done: Bytes that are there.
        total: Bytes in all.
    """

    source: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CopyPostponed:
    """The copy is attempted again later.

    Attributes:
        failure: "code: detail", as a job has it.
        retry_after: Seconds.
        is_private: Whether the failure is of the platform's own registry.
    """

    source: str
    failure: str
    retry_after: float
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class ImageCached:
    """The copy is there.

    Attributes:
        copy: Reference of the copy.
        size: Bytes of the image.
        transferred: Bytes that were transferred for it; None when the copy was there already.
        seconds: How long the attempt took.
    """

    source: str
    copy: str
    size: int
    transferred: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """There will be no copy, unless somebody asks anew.

    Attributes:
        failure: "code: detail", as a job has it.
        is_private: Whether the failure is of the platform's own registry.
    """

    source: str
    failure: str
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class MigrationBegun:
    """Instances are about to be replaced.

    Attributes:
        image: The image that the instances run from until then.
        process_type: Empty where it is not known.
        has_bridge: Whether a temporary second set serves meanwhile.
        reason: Why they are replaced.
    """

    image: str
    process_type: str
    goal: Goal
    has_bridge: bool
    reason: Reason
    renews_login: bool = False


@dataclass(frozen=True, slots=True)
class MigrationEnded:
    """A migration has ended, well or not.

    Attributes:
        image: What the instances ran from when it began.
        copy: Reference of the copy.
        seconds: Since it began.
    """

    image: str
    copy: str
    process_type: str
    goal: Goal
    reason: Reason
    seconds: float
    renews_login: bool = False


@dataclass(frozen=True, slots=True)
class DropletChanged:
    """Cloud Controller starts the app from another name of the same image from now on.

    Attributes:
        image: What the droplet names now.
        is_copy: Whether that is the copy.
    """

    image: str
    is_copy: bool


CopyEvent = CopyBegun | CopyProgressed | CopyPostponed | ImageCached | CopyFailed
"""An event of the copy for a staging."""

AppEvent = CopyEvent | MigrationBegun | MigrationEnded | DropletChanged
"""An event that is reported to the developers of an app."""
