"""What Cloud Controller's database holds of apps, as rows that change in place.

Source: cloud_controller_ng app/models/runtime/{package,build,droplet,process,revision,deployment,task}_model.rb.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulators.recipes import Image

DOCKER = "docker"
BUILDPACK = "buildpack"


class BuildState(StrEnum):
    """How far a staging is."""

    STAGING = "STAGING"
    STAGED = "STAGED"
    FAILED = "FAILED"


class DropletState(StrEnum):
    """What has become of the result of a staging."""

    STAGING = "STAGING"
    COPYING = "COPYING"
    STAGED = "STAGED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether a build names its droplet then."""
        return self in {DropletState.STAGED, DropletState.FAILED, DropletState.EXPIRED}


class DeploymentState(StrEnum):
    """How far a rolling deployment is."""

    DEPLOYING = "DEPLOYING"
    DEPLOYED = "DEPLOYED"
    CANCELED = "CANCELED"


class TaskState(StrEnum):
    """How far a one-off task is."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(slots=True)
class Row:
    """What every row has; times are seconds since 1970, and no two rows of one database have the same."""

    guid: str
    app_guid: str
    created_at: float
    updated_at: float


@dataclass(slots=True)
class Package(Row):
    """What a user pushed: an image with its login, or bits."""

    image: Image = field(default_factory=lambda: Image(""))
    kind: str = DOCKER


@dataclass(slots=True)
class Droplet(Row):
    """The result of a staging.

    Attributes:
        image: Cloud Controller's `docker_receipt_image`; None when it is null.
        password: Cloud Controller's `docker_receipt_password`, which its API never shows.
    """

    image: str | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    state: DropletState = DropletState.STAGED
    lifecycle: str = DOCKER
    package_guid: str | None = None
    build_guid: str | None = None
    command: str = "/srv/app"
    error: str = ""

    @property
    def login(self) -> Image:
        """Its image as a recipe wants it."""
        return Image(self.image or "", self.username, self.password)


@dataclass(slots=True)
class Build(Row):
    """One staging, whose GUID is that of its task."""

    package: Package
    state: BuildState = BuildState.STAGING
    error: str = ""
    droplet: Droplet | None = None


@dataclass(slots=True)
class Revision(Row):
    """A droplet that an app was started from."""

    droplet_guid: str
    version: int
    description: str = ""


@dataclass(slots=True)
class Process(Row):
    """A process of an app.

    Attributes:
        version: Changes with each start, push and restart, and so does the key of the desired LRP.
        annotation: When it was last changed, as the text that becomes the LRP's annotation.
        revision: Whose droplet its LRP is desired from; None: the app's current droplet is taken.
    """

    kind: str = "web"
    version: str = ""
    annotation: str = ""
    instances: int = 1
    is_started: bool = False
    revision: Revision | None = None

    @property
    def process_guid(self) -> str:
        """The key of its desired LRP."""
        return f"{self.guid}-{self.version}"


@dataclass(slots=True)
class Deployment(Row):
    """A change of an app's web process from one to another, some instances at a time."""

    former: Process
    process: Process
    droplet_guid: str
    instances: int
    strategy: str = "rolling"
    state: DeploymentState = DeploymentState.DEPLOYING


@dataclass(slots=True)
class AppTask(Row):
    """A one-off task, whose GUID is that of its task in Diego."""

    sequence: int
    name: str
    command: str
    droplet_guid: str
    state: TaskState = TaskState.RUNNING
    error: str = ""
