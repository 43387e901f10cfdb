"""An app with its packages, builds, droplets, processes, revisions, deployments and tasks.

It is changed by the simulated Cloud Controller and by tests, which may give it a droplet as by a hand in the
database. It sends nothing to Diego.
"""

import time
import uuid
from collections.abc import Callable, Mapping

from tests.simulators.capi.records import (
    AppTask,
    Build,
    Deployment,
    Droplet,
    DropletState,
    Package,
    Process,
    Revision,
)
from tests.simulators.recipes import Image, Owner

MOST_DROPLETS = 5
"""How many staged droplets an app keeps besides its current one (`cc.droplets.max_staged_droplets_stored`)."""

MOST_BUILDS = 100
"""How many builds an app keeps."""


class Database:
    """Gives rows their GUIDs and times, and finds their apps.

    Attributes:
        owners: GUID of a package, build or droplet to that of its app.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self.owners: dict[str, str] = {}
        self._now = now
        self._last = 0

    def new(self, app_guid: str) -> tuple[str, str, float, float]:
        """Begin a row of an app: its GUID, that of its app, and its times."""
        guid, at = str(uuid.uuid4()), self.tick()
        self.owners[guid] = app_guid
        return guid, app_guid, at, at

    def tick(self) -> float:
        """Tell a time in seconds, to the microsecond, later than all before however coarse the clock is."""
        self._last = max(self._now() // 1000, self._last + 1)
        return self._last / 1_000_000


class App:
    """An app.

    Attributes:
        owner: Its GUID and name, its space and its organization.
        builds: Build GUID to build, each that of a staging task, the oldest first.
        droplets: Droplet GUID to droplet, the oldest first.
        processes: The web process that serves is the newest of them; a deployment makes a second one.
        current: Its current droplet, which it is started from next; None before the first.
        has_revisions: Whether its processes stay with the droplet that they were started from.
    """

    def __init__(
        self,
        owner: Owner,
        image: Image,
        database: Database,
        *,
        hostnames: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.owner = owner
        self.hostnames = hostnames
        self.env: Mapping[str, str] = env or {}
        self.private_key = "made-up private key"
        self.packages: dict[str, Package] = {}
        self.builds: dict[str, Build] = {}
        self.droplets: dict[str, Droplet] = {}
        self.revisions: list[Revision] = []
        self.deployments: list[Deployment] = []
        self.tasks: dict[str, AppTask] = {}
        self.current: Droplet | None = None
        self.has_revisions = True
        self.database = database
        self.created_at = self.changed_at = database.tick()
        self.processes = [Process(owner.app_guid, owner.app_guid, self.created_at, self.created_at)]
        self.add_package(image)
        self.renew(self.web)

    @property
    def guid(self) -> str:
        """The app's GUID, which is that of its first web process, too."""
        return self.owner.app_guid

    @property
    def web(self) -> Process:
        """The newest web process."""
        return [each for each in self.processes if each.kind == "web"][-1]

    @property
    def process_guid(self) -> str:
        """The key of the desired LRP of the newest web process."""
        return self.web.process_guid

    @property
    def version(self) -> str:
        """That of the newest web process."""
        return self.web.version

    @property
    def updated_at(self) -> str:
        """The text that becomes the annotation of the newest web process's LRP."""
        return self.web.annotation

    @property
    def instances(self) -> int:
        """How many instances the newest web process shall have."""
        return self.web.instances

    @instances.setter
    def instances(self, count: int) -> None:
        self.web.instances = count

    @property
    def is_started(self) -> bool:
        """Whether the newest web process shall run."""
        return self.web.is_started

    @is_started.setter
    def is_started(self, is_started: bool) -> None:
        self.web.is_started = is_started

    @property
    def is_runnable(self) -> bool:
        """Whether the sync wants an LRP for the newest web process."""
        return self.wants(self.web)

    @property
    def newest_package(self) -> Package:
        """What was pushed last."""
        return list(self.packages.values())[-1]

    @property
    def package(self) -> Image:
        """The image that was pushed last."""
        return self.newest_package.image

    @property
    def droplet(self) -> Image | None:
        """The image of the current droplet; None where there is no droplet."""
        return None if self.current is None else self.current.login

    @droplet.setter
    def droplet(self, image: Image) -> None:
        """Give the app a staged droplet without a build, and its web process, as by a hand in the database."""
        droplet = Droplet(
            *self.database.new(self.guid),
            image=image.text,
            username=image.username,
            password=image.password,
            package_guid=self.newest_package.guid,
        )
        self.droplets[droplet.guid] = droplet
        self.current = droplet
        self.web.revision = None

    def wants(self, process: Process) -> bool:
        """Whether the sync wants an LRP for a process."""
        return process.is_started and process.instances > 0 and self.current is not None

    def droplet_of(self, process: Process) -> Droplet | None:
        """Find the droplet that a process's rootfs is made from: its revision's, or the current one."""
        if process.revision is not None and self.has_revisions:
            return self.droplets.get(process.revision.droplet_guid, self.current)
        return self.current

    def add_package(self, image: Image) -> Package:
        """Push an image."""
        package = Package(*self.database.new(self.guid), image=image)
        self.packages[package.guid] = package
        return package

    def add_build(self, package: Package) -> Build:
        """Begin a staging."""
        build = Build(*self.database.new(self.guid), package=package)
        self.builds[build.guid] = build
        for guid in _surplus(self.builds, MOST_BUILDS):
            del self.builds[guid]
        return build

    def add_droplet(self, build: Build) -> Droplet:
        """Make the droplet of a build, which is not staged yet, with the login of its package."""
        login = build.package.image
        droplet = Droplet(
            *self.database.new(self.guid),
            username=login.username,
            password=login.password,
            state=DropletState.STAGING,
            package_guid=build.package.guid,
            build_guid=build.guid,
        )
        self.droplets[droplet.guid] = droplet
        build.droplet = droplet
        return droplet

    def copy_droplet(self, source: Droplet) -> Droplet:
        """Copy a droplet to this app, with its image and its login and without its package."""
        droplet = Droplet(
            *self.database.new(self.guid),
            image=source.image,
            username=source.username,
            password=source.password,
            lifecycle=source.lifecycle,
            command=source.command,
        )
        self.droplets[droplet.guid] = droplet
        return droplet

    def expire_droplets(self) -> None:
        """Expire the oldest staged droplets, but not the current one, when there are too many."""
        staged = {
            guid: each
            for guid, each in self.droplets.items()
            if each.state is DropletState.STAGED and each is not self.current
        }
        for guid in _surplus(staged, MOST_DROPLETS):
            self.droplets[guid].state = DropletState.EXPIRED
            self.droplets[guid].updated_at = self.database.tick()

    def revise(self, process: Process) -> None:
        """Give a process the revision of the current droplet, a new one unless the last one has that droplet."""
        if self.current is None:
            return
        if not self.revisions or self.revisions[-1].droplet_guid != self.current.guid:
            text = "New droplet deployed." if self.revisions else "Initial revision."
            self.add_revision(self.current.guid, text)
        process.revision = self.revisions[-1]

    def add_revision(self, droplet_guid: str, description: str) -> Revision:
        """Write down that the app is started from a droplet."""
        number = len(self.revisions) + 1
        revision = Revision(*self.database.new(self.guid), droplet_guid, number, description=description)
        self.revisions.append(revision)
        return revision

    def add_process(self, *, instances: int) -> Process:
        """Make a second web process, with a GUID of its own, as a deployment does."""
        process = Process(*self.database.new(self.guid), instances=instances)
        self.processes.append(process)
        self.renew(process)
        return process

    def renew(self, process: Process) -> None:
        """Give a process a new version, and so another LRP."""
        process.version = str(uuid.uuid4())
        self.touch(process)

    def touch(self, process: Process) -> None:
        """Note that a process was changed, so that the sync updates its LRP."""
        process.updated_at = self.database.tick()
        process.annotation = repr(process.updated_at)


def is_deployable(app: App, revision: Revision) -> bool:
    """Whether the droplet of a revision is still there to be started from."""
    droplet = app.droplets.get(revision.droplet_guid)
    return droplet is not None and droplet.state is DropletState.STAGED


def _surplus(kept: Mapping[str, object], most: int) -> list[str]:
    return list(kept)[: max(len(kept) - most, 0)]
