"""What a decision about one droplet rests on, and the actions that it can lead to, each with its reason."""

from dataclasses import dataclass, field

from reconcile.droplets import BuildGuid, Droplet, DropletGuid, DropletOrder, DropletRecord, Package
from reconcile.known_records import StagedCopy
from reconcile.lrps import Credentials
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, CacheRequest
from reconcile.staging import OwnerChoice


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the droplet as it is until something changes.

    Attributes:
        retry_after: Seconds until the droplet is looked at again even without a change; None when it waits
            for a change or the next sweep.
    """

    reason: Reason
    detail: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ForgetDroplet:
    """Delete the droplet's record, if there is one, since the droplet is gone."""

    reason: Reason = Reason.DROPLET_GONE


@dataclass(frozen=True, slots=True)
class RequestCopy:
    """Request a copy of the image that the droplet names."""

    request: CacheRequest

    @property
    def reason(self) -> Reason:
        """Why the copy is requested."""
        return self.request.reason


@dataclass(frozen=True, slots=True)
class VerifyDropletCopy:
    """Read a copy back that needs verification, then look at the droplet again.

    Attributes:
        text: The image text that is to be written once the copy is verified.
    """

    image: CachedImage
    text: str
    reason: Reason = Reason.COPY_NEEDS_VERIFICATION


@dataclass(frozen=True, slots=True)
class SaveDropletRecord:
    """Save what was seen of the droplet, then look at it again: nothing is sent.

    The droplet was found as an earlier request was to make it, or its source was found.
    """

    record: DropletRecord

    @property
    def reason(self) -> Reason:
        """The outcome that is saved."""
        return self.record.reason


@dataclass(frozen=True, slots=True)
class PatchDroplet:
    """Check that the copy is in the registry, save the record, then write the copy's name into the droplet.

    Attributes:
        record: In phase `patching`, with the text as its target.
        image: The copy.
    """

    record: DropletRecord
    image: CachedImage
    reason: Reason = Reason.PATCHING_DROPLET

    @property
    def text(self) -> str:
        """The image text that is to be written."""
        return self.record.target


@dataclass(frozen=True, slots=True)
class RestoreDroplet:
    """Save the record, then write the original image text into the droplet.

    Attributes:
        record: In phase `restoring`.
    """

    record: DropletRecord
    reason: Reason = Reason.RESTORING_DROPLET

    @property
    def text(self) -> str:
        """The image text that is to be written."""
        return self.record.original


DropletAction = (
    Leave
    | ForgetDroplet
    | RequestCopy
    | VerifyDropletCopy
    | SaveDropletRecord
    | PatchDroplet
    | RestoreDroplet
)


@dataclass(frozen=True, slots=True)
class ObservedDroplet:
    """All that a decision about one droplet rests on.

    Attributes:
        now: UTC seconds since 1970.
        droplet: None when Cloud Controller does not show it.
        record: What this program knows of it.
        build_guid: Of the staging that it came from; None where that is not known.
        binding: The first that exists of: the droplet's own, that of its build, the newest that its app has
            for the image that the droplet names, or named before its first change. None when there is none.
        job: The job of the binding.
        image: The copy that the job made.
        newest: The newest copy that the app is known to have staged from that image, or to have run.
        current_copy: The record of the copy that the droplet names; None when it names none, or there is no
            record.
        has_current_reference: Whether its app's current droplet is this one, or names the same image.
        package: What the droplet was staged from; read only when it names a copy and has no record.
        siblings: The records of other droplets with the copy that the droplet names; read only together with
            the package.
        username: Of the login at the source registry; empty when there is none, or it is not known.
        credentials: For the source registry, where an LRP of the app has shown them.
        organization_guid: Of its app; empty where it is not known.
        owner_choice: What its app's owner asks for; None where no LRP of the app has shown it.
        order: What an operator asks of it; None for nothing.
        is_pinned: Whether an operator restored its app to its source, where it is to stay.
        is_paused: Whether an operator paused the daemon, so that only orders start something.
        is_restoring: Whether everything goes back to its source, since the private registry does not answer.
        obstacle: Why no droplet is patched now, such as that cells are not known to pull with another login
            than theirs; None when droplets may be patched.
        failure: Why an LRP of its app could not start from the copy that the droplet names, in the registry
            where that is, and went back to its source; None when none failed.
    """

    guid: DropletGuid
    now: float
    droplet: Droplet | None
    record: DropletRecord | None = None
    build_guid: BuildGuid | None = None
    binding: Binding | None = None
    job: CacheJob | None = None
    image: CachedImage | None = None
    newest: StagedCopy | None = None
    current_copy: CachedImage | None = None
    has_current_reference: bool = False
    package: Package | None = None
    siblings: tuple[DropletRecord, ...] = ()
    username: str = ""
    credentials: Credentials | None = field(default=None, repr=False)
    organization_guid: str = ""
    owner_choice: OwnerChoice | None = None
    order: DropletOrder | None = None
    is_pinned: bool = False
    is_paused: bool = False
    is_restoring: bool = False
    obstacle: Leave | None = None
    failure: Leave | None = None

    @property
    def is_order_to_restore(self) -> bool:
        """Whether an operator asks for the original image text of this droplet."""
        return self.order is not None and self.order.goal is Goal.SOURCE
