"""Builds the observation that a decision about one droplet rests on, with as few requests as it needs."""

from collections.abc import Mapping
from dataclasses import replace

from controller.droplets.dependencies import DropletDependencies
from controller.droplets.known import KnownDroplets
from controller.droplets.obstacles import ANY_USERNAME, NamingCandidate
from controller.droplets.stagings import KnownStaging
from reconcile.droplet_actions import Leave, ObservedDroplet
from reconcile.droplet_choice import is_of_droplet
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import (
    BuildGuid,
    Droplet,
    DropletGuid,
    DropletRecord,
    build_of_task,
    task_of_build,
)
from reconcile.lrps import AppGuid, organization_of
from reconcile.policy import CacheMode
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    requester_of_droplet,
    requester_of_task,
    task_of_requester,
)
from reconcile.references import CacheGuid, CacheRepositories, ImageReference, source_from_rootfs
from reconcile.staging import owner_choice_of


class DropletObserver:
    """Observes droplets.

    Args:
        dependencies: What it reads from.
        known: What is remembered of droplets.
    """

    def __init__(self, dependencies: DropletDependencies, known: KnownDroplets) -> None:
        self._dependencies = dependencies
        self._orders, self._stagings, self._failing = known.orders, known.stagings, known.failing
        self._cache = dependencies.rules.cache
        self.only_images: Mapping[AppGuid, ImageReference] = {}
        """The apps of which the last listing showed one image only, which their current droplets have too."""

    async def waits(self, guid: DropletGuid) -> Leave | None:
        """Say what a droplet waits for, where Cloud Controller need not be asked for that; else None.

        Its staging is known, and so is what became of the copy that the staging requested. What keeps it from
        naming that copy is recorded at the first look, which asks for the droplet, so that operators see it.
        """
        staging = self._stagings.of(guid)
        if staging is None or self._orders.order_of(guid) is not None:
            return None
        dependencies = self._dependencies
        record = await dependencies.records.find_droplet(guid)
        if record is not None and record.may_name_copy:
            return None
        requester = requester_of_task(task_of_build(staging.build_guid))
        binding = await dependencies.bindings.find_binding(requester)
        job = None if binding is None else await dependencies.jobs.find_job(binding.job_id)
        if binding is None or job is None:
            return None
        if job.is_open:
            return Leave(Reason.WAITING_FOR_COPY, job.failure)
        username = _username(staging, record, job)
        if job.cache_guid is None or not (username or staging.is_seen):
            return None
        obstacle = await self._find_obstacle(binding.app_guid, job.cache_guid, staging, username)
        is_recorded = record is not None and obstacle is not None and record.reason is obstacle.reason
        return obstacle if is_recorded else None

    async def observe(
        self, guid: DropletGuid, api: CloudControllerApi, *, listed: Droplet | None = None
    ) -> ObservedDroplet:
        """Observe a droplet.

        Args:
            guid: Of the droplet.
            api: To ask Cloud Controller by.
            listed: The droplet as it was shown just now; None asks for it.
        """
        dependencies, staging = self._dependencies, self._stagings.of(guid)
        record = await dependencies.records.find_droplet(guid)
        droplet = await api.find_droplet(guid) if listed is None else listed
        overrides = dependencies.overrides
        observed = ObservedDroplet(
            guid,
            dependencies.process.clock(),
            droplet,
            record,
            build_guid=_build_guid(staging, record),
            username=_username(staging, record),
            order=self._orders.order_of(guid),
            is_paused=overrides.is_paused,
            is_restoring=dependencies.mode.is_restoring,
        )
        if droplet is None:
            return observed
        observed = replace(observed, is_pinned=overrides.is_pinned(droplet.app_guid))
        observed = await self._observe_named_copy(observed, droplet, api)
        source = self._source_of(observed, droplet)
        observed = await self._observe_job(observed, droplet, source, api)
        if source is not None:
            observed = await self._observe_image(observed, droplet, source, api)
        return await self._observe_obstacle(observed, droplet, api)

    async def _observe_obstacle(
        self, observed: ObservedDroplet, droplet: Droplet, api: CloudControllerApi
    ) -> ObservedDroplet:
        """Read what keeps a droplet from naming its copy, with the login that Cloud Controller gives cells.

        Where nobody has seen that, and it makes a difference, the package says whether there is one.
        """
        copy, staging = _copy_to_name(observed), self._stagings.of(observed.guid)
        if copy is None:
            return observed
        username = _username(staging, observed.record, observed.job) or observed.username
        obstacle = await self._find_obstacle(droplet.app_guid, copy.cache_guid, staging, username)
        if username or (staging is not None and staging.is_seen):
            return replace(observed, obstacle=obstacle)
        with_login = await self._find_obstacle(droplet.app_guid, copy.cache_guid, staging, ANY_USERNAME)
        if (obstacle is None) is (with_login is None):
            return replace(observed, obstacle=obstacle)
        package = None if droplet.package_guid is None else await api.find_package(droplet.package_guid)
        if package is None:
            return replace(observed, obstacle=obstacle or with_login)
        return replace(
            observed, username=package.username, obstacle=with_login if package.username else obstacle
        )

    async def _find_obstacle(
        self, app_guid: AppGuid, cache_guid: CacheGuid, staging: KnownStaging | None, username: str
    ) -> Leave | None:
        tags = None if staging is None else staging.placement_tags
        candidate = NamingCandidate(app_guid, cache_guid, username, tags)
        return await self._dependencies.obstacles.find(candidate)

    async def _observe_named_copy(
        self, observed: ObservedDroplet, droplet: Droplet, api: CloudControllerApi
    ) -> ObservedDroplet:
        """Read what is known of the copy that a droplet names, and where its source may be found."""
        image = image_of_text(droplet.image)
        if image is None or not self._cache.owns(image):
            return observed
        former, record = self._cache.former_of(image), observed.record
        guid = (former or self._cache).guid_of(image)
        if guid is None and record is not None and record.target == droplet.image:
            guid = record.cache_guid
        if guid is not None:
            observed = replace(
                observed,
                current_copy=await self._dependencies.images.find_image(guid),
                failure=await self._find_failure(droplet.app_guid, guid, former),
            )
        if record is not None and record.target:
            return observed
        siblings = () if guid is None else await self._dependencies.records.list_droplets_of_copy(guid)
        package = None if droplet.package_guid is None else await api.find_package(droplet.package_guid)
        username = observed.username or ("" if package is None else package.username)
        return replace(observed, siblings=siblings, package=package, username=username)

    async def _find_failure(
        self, app_guid: AppGuid, guid: CacheGuid, former: CacheRepositories | None
    ) -> Leave | None:
        """Say why LRPs of an app could not start from a copy; of one in a former registry as it was there."""
        if former is not None:
            return self._failing.why_not_named(app_guid, guid)
        return await self._dependencies.obstacles.find_failure(app_guid, guid)

    def _source_of(self, observed: ObservedDroplet, droplet: Droplet) -> ImageReference | None:
        """Read the image that a droplet names, or named before its first change, or its package names."""
        image = image_of_text(droplet.image)
        if image is None or not self._cache.owns(image):
            return image
        if observed.record is not None:
            return image_of_text(observed.record.original)
        return None if observed.package is None else image_of_text(observed.package.image)

    async def _observe_job(
        self,
        observed: ObservedDroplet,
        droplet: Droplet,
        source: ImageReference | None,
        api: CloudControllerApi,
    ) -> ObservedDroplet:
        """Read what became of the copy that a droplet's staging, or another of its app, has requested."""
        dependencies = self._dependencies
        binding = await self._find_binding(observed, droplet.app_guid, source)
        if binding is not None and await self._is_of_its_build(binding, observed, api):
            observed = replace(observed, build_guid=build_of_requester(binding.requester))
        job = None if binding is None else await dependencies.jobs.find_job(binding.job_id)
        image = None
        if job is not None and job.cache_guid is not None:
            image = await dependencies.images.find_image(job.cache_guid)
        return replace(observed, binding=binding, job=job, image=image)

    async def _find_binding(
        self, observed: ObservedDroplet, app_guid: AppGuid, source: ImageReference | None
    ) -> Binding | None:
        """Find the droplet's own binding, later than that of its staging; else that; else another."""
        bindings, build = self._dependencies.bindings, observed.build_guid
        own = await bindings.find_binding(requester_of_droplet(observed.guid))
        staged = (
            None if build is None else await bindings.find_binding(requester_of_task(task_of_build(build)))
        )
        if own is not None and (staged is None or staged.source == own.source):
            return own
        if staged is not None:
            return staged
        return None if source is None else await bindings.find_newest_binding(app_guid, source)

    async def _is_of_its_build(
        self, binding: Binding, observed: ObservedDroplet, api: CloudControllerApi
    ) -> bool:
        """Ask whether the newest staging of an app led to a droplet whose build is not known."""
        build_guid = build_of_requester(binding.requester)
        if build_guid is None or observed.build_guid is not None:
            return False
        if not self._stagings.may_be_found(observed.guid):
            return False
        build = await api.find_build(build_guid)
        if build is None or build.droplet_guid != observed.guid:
            self._stagings.put_unknown(observed.guid)
            return False
        self._stagings.put(observed.guid, KnownStaging(build_guid))
        return True

    async def _observe_image(
        self, observed: ObservedDroplet, droplet: Droplet, source: ImageReference, api: CloudControllerApi
    ) -> ObservedDroplet:
        """Read what else may say which copy a droplet's image has, or what to copy."""
        dependencies, app_guid = self._dependencies, droplet.app_guid
        newest = await dependencies.copies.find_newest_copy(app_guid, source)
        observed = replace(observed, newest=newest)
        binding = observed.binding
        is_another = binding is not None and source.digest is None and not is_of_droplet(binding, observed)
        if is_another:  # its copy may not be the droplet's, which then asks for one with the login of an LRP
            has_reference = await self._has_current_reference(droplet, source, api)
            observed = replace(observed, has_current_reference=has_reference)
        is_known = observed.image is not None and not observed.image.missing_since
        is_waiting = observed.job is not None and observed.job.is_open
        may_request = is_another or not (is_known or is_waiting)
        if not may_request and dependencies.rules.policy.mode is CacheMode.ALL:
            return observed
        return await self._observe_lrp(observed, app_guid, source)

    async def _has_current_reference(
        self, droplet: Droplet, source: ImageReference, api: CloudControllerApi
    ) -> bool:
        if self.only_images.get(droplet.app_guid) == source:
            return True
        current = await api.find_current_droplet(droplet.app_guid)
        return current is not None and (
            current.guid == droplet.guid or image_of_text(current.image) == source
        )

    async def _observe_lrp(
        self, observed: ObservedDroplet, app_guid: AppGuid, source: ImageReference
    ) -> ObservedDroplet:
        """Read what LRPs of the app show: what its owner asks for, and the login for the image."""
        for process_guid in sorted(self._dependencies.index.lrps_of(app_guid)):
            lrp = await self._dependencies.lrps.find_desired_lrp(process_guid)
            if lrp is None:
                continue
            observed = replace(
                observed, organization_guid=organization_of(lrp), owner_choice=owner_choice_of(lrp.action)
            )
            if source_from_rootfs(lrp.rootfs) == source:
                username = "" if lrp.credentials is None else lrp.credentials.username
                return replace(observed, username=observed.username or username, credentials=lrp.credentials)
        return observed


def _copy_to_name(observed: ObservedDroplet) -> CachedImage | None:
    """Return the copy that a droplet may come to name: the one it names, that of its job, or an earlier."""
    newest = None if observed.newest is None else observed.newest.image
    return observed.current_copy or observed.image or newest


def _build_guid(staging: KnownStaging | None, record: DropletRecord | None) -> BuildGuid | None:
    if staging is not None:
        return staging.build_guid
    return None if record is None else record.build_guid


def _username(staging: KnownStaging | None, record: DropletRecord | None, job: CacheJob | None = None) -> str:
    """Name the login at the source; any name where a job says only that there is one."""
    known = (staging.username if staging is not None else "") or (
        record.username if record is not None else ""
    )
    return known or (ANY_USERNAME if job is not None and job.needs_credentials else "")


def build_of_requester(requester: str) -> BuildGuid | None:
    """Name the build whose staging task is a requester; None for any other requester."""
    task_guid = task_of_requester(requester)
    return None if task_guid is None else build_of_task(task_guid)
