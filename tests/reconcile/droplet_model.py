"""A small model of Cloud Controller with one droplet, a private registry, and the program that may die anywhere.

Cloud Controller writes whatever text it is given, also after its answer was lost, for as long as such a request
may be under way. The registry loses copies, the operator has unused ones deleted, and others write texts too.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    ObservedDroplet,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_decisions import decide_droplet
from reconcile.droplet_outcomes import after_answer, after_failure, after_leaving
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import LATE_EFFECT, Droplet, DropletOrder, DropletRecord
from reconcile.errors import Denied, DockerCacheError, Invalid, Unavailable
from reconcile.known_records import StagedCopy
from reconcile.observed import Rules
from reconcile.reasons import AppState, Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, requester_of_droplet
from reconcile.references import CacheGuid, CacheRepositories
from tests.reconcile.droplet_samples import (
    ADDRESS,
    BINDING,
    BUILD,
    DROPLET,
    FORMER,
    IMAGE,
    JOB,
    ORIGINAL,
    PUSHED,
    RULES,
    droplet,
)
from tests.reconcile.test_decide import GUID

OBSTACLE = Leave(Reason.DROPLET_PULLS_NOT_PROVEN, "no canary has run")
START = 1_800_000_000.0


class Api(StrEnum):
    """What becomes of the next request that writes."""

    WORKS = "works"
    IS_DOWN = "is down"
    """Nothing reaches it, and that is known."""
    LOSES_ANSWER = "loses its answer"
    """The text is written."""
    IS_LATE = "is late"
    """The text is written some time later, or never."""
    DENIES = "denies"
    REFUSES = "refuses"


ERRORS: dict[Api, DockerCacheError] = {
    Api.IS_DOWN: Unavailable("cloud-controller", "connection", "refused", may_have_happened=False),
    Api.LOSES_ANSWER: Unavailable("cloud-controller", "timeout", "no answer"),
    Api.IS_LATE: Unavailable("cloud-controller", "timeout", "no answer"),
    Api.DENIES: Denied("cloud-controller", "cloud-controller-scope-missing", "403"),
    Api.REFUSES: Invalid("cloud-controller", "cloud-controller-refused", "422"),
}


@dataclass
class World:
    """Cloud Controller, the registries, the store, and what operators want.

    Attributes:
        text: The droplet's image text; None while there is no droplet.
        held: The copies that the registries hold, by address and GUID.
        images: The records of copies.
        lost: The copies that a registry has lost by itself.
        late: Texts that may be written until some time.
        sent: The texts that this program sent.
    """

    text: str | None = ORIGINAL
    state: str = "STAGED"
    record: DropletRecord | None = None
    rules: Rules = RULES
    held: set[tuple[str, CacheGuid]] = field(default_factory=set)
    images: dict[CacheGuid, CachedImage] = field(default_factory=dict)
    lost: set[CacheGuid] = field(default_factory=set)
    late: list[tuple[str, float]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    binding: Binding | None = BINDING
    job: CacheJob | None = JOB
    order: DropletOrder | None = None
    api: Api = Api.WORKS
    now: float = START
    is_pinned: bool = False
    is_paused: bool = False
    is_restoring: bool = False
    is_proven: bool = True

    def __post_init__(self) -> None:
        if not self.images and self.job is not None:
            self.images[GUID] = replace(IMAGE, registry=self.rules.cache.address)
            self.held.add((self.rules.cache.address, GUID))

    @property
    def is_source_known(self) -> bool:
        """Whether the records say what the droplet named at first: its own, or that of its staging."""
        return (self.record is not None and bool(self.record.target)) or self.binding == BINDING

    @property
    def is_untouched(self) -> bool:
        """Whether nobody else has written another image into the droplet."""
        return self.named(self.text) is not None or image_of_text(self.text) == image_of_text(ORIGINAL)

    @property
    def cache(self) -> CacheRepositories:
        return self.rules.cache

    def named(self, text: str | None) -> tuple[str, CacheGuid] | None:
        """Return the copy that a text names, in whichever registry."""
        image = image_of_text(text)
        if image is None:
            return None
        for each in (self.cache, *self.cache.former):
            guid = each.guid_of(image)
            if guid is not None:
                return each.address, guid
        return None

    def observe(self) -> ObservedDroplet:
        """Observe the droplet, as the loop does."""
        shown = None if self.text is None else replace(droplet(self.text, state=self.state))
        named = self.named(self.text)
        image = (
            None if self.job is None or self.job.cache_guid is None else self.images.get(self.job.cache_guid)
        )
        is_known = self.record is not None and bool(self.record.target)
        return ObservedDroplet(
            DROPLET,
            self.now,
            shown,
            self.record,
            build_guid=BUILD,
            binding=self.binding,
            job=self.job,
            image=image,
            newest=None if image is None or self.binding is None else StagedCopy(self.binding, image),
            current_copy=None if named is None else self.images.get(named[1]),
            has_current_reference=True,
            package=None if is_known or named is None else PUSHED,
            order=self.order,
            is_pinned=self.is_pinned,
            is_paused=self.is_paused,
            is_restoring=self.is_restoring,
            obstacle=None if self.is_proven else OBSTACLE,
        )

    def is_there(self, image: CachedImage) -> bool:
        """Ask the present registry whether it holds a copy."""
        return (self.cache.address, image.cache_guid) in self.held and image.cache_guid not in self.lost

    def write(self, text: str) -> Droplet | DockerCacheError:
        """Send a text, and return Cloud Controller's answer, or what became of it."""
        self.sent.append(text)
        error = ERRORS.get(self.api)
        if self.api in {Api.WORKS, Api.LOSES_ANSWER} and self.text is not None:
            self.text = text
        if self.api is Api.IS_LATE:
            self.late.append((text, self.now + LATE_EFFECT))
        if error is not None:
            return error
        return droplet(self.text, state=self.state)

    def copy(self, request: RequestCopy) -> None:
        """Make the copy that a droplet asks for, at once."""
        content = request.request.content
        same = next((each for each in self.images.values() if each.platform_digest == content), None)
        guid = (
            CacheGuid(str(uuid.UUID(int=len(self.images) + 2**70, version=4)))
            if same is None
            else same.cache_guid
        )
        image = replace(
            same or IMAGE, cache_guid=guid, source=request.request.source, registry=self.cache.address
        )
        self.images[guid] = image
        self.held.add((self.cache.address, guid))
        self.lost.discard(guid)
        self.job = replace(JOB, job_id=JobId(f"job-{len(self.sent)}"), state=JobState.CACHED, cache_guid=guid)
        self.binding = replace(
            BINDING, requester=requester_of_droplet(DROPLET), source=request.request.source
        )

    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.late = [(text, until) for text, until in self.late if until >= self.now]

    def late_text_is_written(self) -> None:
        text, _ = self.late.pop(0)
        self.text = text if self.text is not None else None

    def copy_gets_lost(self, *, for_good: bool) -> None:
        """Lose the copies that the registries hold; a check has seen it."""
        for guid, image in self.images.items():
            self.lost.add(guid)
            self.images[guid] = replace(
                image, missing_since=self.now, missing="a blob", lost_since=self.now if for_good else 0.0
            )

    def copies_are_repaired(self) -> None:
        self.lost.clear()
        self.images = {
            guid: replace(image, missing_since=0.0, missing="", lost_since=0.0)
            for guid, image in self.images.items()
        }

    def evict(self) -> None:
        """Delete the copies that nothing uses: by the record, and by a fresh listing of droplets."""
        named = self.named(self.text)
        used = {named[1]} if named is not None else set[CacheGuid]()
        if (
            self.record is not None
            and self.record.needs_copy(self.now)
            and self.record.cache_guid is not None
        ):
            used.add(self.record.cache_guid)
        for guid in self.images.keys() - used:
            del self.images[guid]
            self.held = {each for each in self.held if each[1] != guid}

    def move_registry(self) -> None:
        """Configure another private registry, and the present one as a former one."""
        cache = self.cache
        address = FORMER if cache.is_at(ADDRESS) else ADDRESS
        former = tuple(replace(each, former=()) for each in (cache, *cache.former) if not each.is_at(address))
        self.rules = replace(self.rules, cache=CacheRepositories(address, former=former))

    def lose_database(self) -> None:
        """Lose all records; `rebuild` finds the copies again, and packages the droplets' sources."""
        self.record = None


def run_pass(world: World) -> Iterator[DropletAction]:
    """Look at the droplet, decide and act; at each yield the process may die."""
    observed = world.observe()
    action = decide_droplet(observed, world.rules)
    yield action
    match action:
        case Leave():
            _end_order(world, action)
            world.record = after_leaving(observed, action, world.rules) or world.record
        case SaveDropletRecord():
            world.record = action.record
        case ForgetDroplet():
            world.record = None
        case RequestCopy():
            world.copy(action)
        case VerifyDropletCopy():
            raise AssertionError("no copy of this world needs verification")
        case PatchDroplet():
            if world.is_there(action.image):
                yield from _send(world, action)
        case RestoreDroplet():
            yield from _send(world, action)


def _send(world: World, action: PatchDroplet | RestoreDroplet) -> Iterator[DropletAction]:
    world.record = action.record
    yield action
    answer = world.write(action.text)
    yield action
    if isinstance(answer, DockerCacheError):
        world.record = after_failure(action.record, answer, world.now)
    else:
        world.record = after_answer(action.record, answer, world.now)


def _end_order(world: World, leave: Leave) -> None:
    if leave.reason.state not in {AppState.PENDING, AppState.MIGRATING}:
        world.order = None
