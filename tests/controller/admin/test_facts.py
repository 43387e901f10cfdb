"""What a plan says is what a pass does: both adapters of the facts, driven over random worlds.

The adapters' own code runs, over a BBS that is a few values, and over the real store in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.admin.read_ahead import ReadRecords
from controller.admin.survey import LrpListing, Survey, SurveyCounts, SurveyDependencies, SurveyedLrp
from controller.store.opening import Store
from reconcile.actions import BeginMigration, CacheImage, Skip
from reconcile.current_stagings import CurrentStaging
from reconcile.decide import decide
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.errors import Invalid
from reconcile.facts import PassContext
from reconcile.known_records import KnownLrp, LrpKey
from reconcile.live_facts import PassSources, live_facts
from reconcile.lrps import (
    ActualLrp,
    ActualLrpState,
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    Presence,
    ProcessGuid,
    RunAction,
    SchedulingInfo,
    Secret,
)
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observe import observe
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.policy import CacheMode, MigrateRunning, Policy, RunningPolicy, UnseenStagings
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, LrpRecord
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    ImageReference,
    Rootfs,
    parse_image_reference,
    source_from_rootfs,
)
from reconcile.selection import Selection
from tests.examples import examples
from tests.stores import open_store

NOW = 1_800_000_000.0
FORMER = CacheRepositories("former.example:8080")
CACHE = CacheRepositories("cache.example:8080", former=(FORMER,))
GONE = CacheRepositories("gone.example:8080")
"""A private registry of the past that the config does not name any more."""
CONTENTS = (Digest("sha256", "1" * 64), Digest("sha256", "2" * 64))
LOGIN = Credentials("robot", Secret("pw"))
CELLS = Credentials("cell", Secret("pw"))
SOURCES = ("docker://registry.example/team/web#1", "docker://registry.example/team/web#2")
ROOTFSES = (
    *SOURCES,
    *SOURCES,
    *SOURCES,
    "cache-0",
    "cache-1",
    "cache-0",
    "cache-1",
    "former-0",
    "gone-0",
    "preloaded:cflinuxfs4",
    "docker://registry.example/Team/Web#1",
    "docker://other.example/team/3f2b8c1e-7a4d-4e6b-9c0f-1a2b3c4d5e6f#latest",
)
"""What LRPs are desired from: `cache-0` and `cache-1` are copies of the contents, `former-0` and `gone-0` were.

The last is no copy, though its name has a GUID in it as copies have.
"""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class KnownImage:
    """What the store knows of an LRP's image: a binding, with its job in some state."""

    state: JobState
    content: int
    is_image_kept: bool
    needs_verification: bool
    age: float
    staged_at: int
    is_current: bool
    opted_in: bool
    staging: str | None = None
    """Which staging Cloud Controller says its app is started from; None where it says nothing."""


@dataclass(frozen=True)
class LastPass:
    """The record of an LRP's last pass."""

    reason: Reason
    rounds: int
    age: float
    content: int | None


@dataclass(frozen=True)
class Before:
    """What an LRP ran from before its migration."""

    rootfs: str
    needs_credentials: bool
    has_credentials: bool
    content: int = 0
    """Of the copy that the LRP was migrated to."""


@dataclass(frozen=True)
class Row:
    """An open migration; while its LRP is removed, it is in no listing."""

    phase: Phase
    goal: Goal
    strategy: Strategy
    is_desired: bool


@dataclass(frozen=True)
class App:
    """One LRP with all that is known of it."""

    guid: ProcessGuid
    app_guid: AppGuid
    rootfs: str
    domain: str
    instances: int
    credentials: Credentials | None
    signal: str | None
    rows: tuple[ActualLrp, ...]
    stale: frozenset[str]
    image: KnownImage | None
    last_pass: LastPass | None
    before: Before | None
    migration: Row | None
    droplet: int | None
    """The content whose copy a droplet of its app names; None where no droplet names any."""


@dataclass(frozen=True)
class Ask:
    """An order, as a plan gives one to every LRP."""

    goal: Goal
    age: float
    strategy: Strategy | None
    rootfs: str | None
    to_rootfs: str | None
    digest: Digest | None
    only_cached: bool


@dataclass(frozen=True)
class World:
    """All that passes and plans look at."""

    apps: tuple[App, ...]
    rules: Rules
    pinned: frozenset[AppGuid]
    is_paused: bool
    is_restoring: bool
    process_age: float
    ask: Ask | None
    stores_logins: bool | None = None
    pulls: "Pulls | None" = None
    """Whether cells pull copies with the logins of sources; None where no droplet names a copy."""


@dataclass(frozen=True)
class Pulls:
    """Whether cells pull copies with the login of a source."""

    usernames: frozenset[str]

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        return None if not placement_tags and username in self.usernames else "not checked"


def instance_rows(guid: ProcessGuid, domain: str) -> st.SearchStrategy[tuple[ActualLrp, ...]]:
    row = st.builds(
        ActualLrp,
        process_guid=st.just(guid),
        index=st.integers(0, 2),
        domain=st.just(domain),
        state=st.sampled_from([*ActualLrpState, ActualLrpState.RUNNING]),
        presence=st.sampled_from(Presence),
        instance_guid=st.sampled_from(["", "old", "new"]),
        cell_id=st.just("cell"),
        tag=st.just(ModificationTag("e", 0)),
        routable=st.booleans(),
    )
    return st.lists(row, max_size=3).map(tuple)


STAGINGS = ("of the binding", "earlier", "before the job", "after the job", "of another image")

AGES = st.sampled_from([1.0, 3_599.0, 3_601.0])
"""Seconds ago; what failed counts for an hour."""


def mostly(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """Draw nothing now and then."""
    return st.integers(0, 4).flatmap(lambda number: strategy if number else st.none())


@st.composite
def app(draw: st.DrawFn, number: int) -> App:
    guid = ProcessGuid(f"p-{number}" + draw(st.sampled_from(["", "", "", "x" * 250])))
    domain = draw(st.sampled_from([*["cf-apps"] * 9, "other"]))
    return App(
        guid=guid,
        app_guid=AppGuid(draw(st.sampled_from(["app-0", "app-1", *["app-2", "app-3", "app-4"] * 2, ""]))),
        rootfs=draw(st.sampled_from(ROOTFSES)),
        domain=domain,
        instances=draw(st.integers(0, 2)),
        credentials=draw(st.sampled_from([None, LOGIN, CELLS])),
        signal=draw(st.sampled_from([None, None, None, "true", "false"])),
        rows=draw(instance_rows(guid, domain)),
        stale=draw(st.sampled_from([frozenset[str](), frozenset[str](), frozenset({"old"})])),
        image=draw(
            mostly(
                st.builds(
                    KnownImage,
                    state=st.sampled_from([*JobState, *[JobState.CACHED] * 6]),
                    content=st.integers(0, 1),
                    is_image_kept=st.sampled_from([*[True] * 5, False]),
                    needs_verification=st.sampled_from([False, False, True]),
                    age=AGES,
                    staged_at=st.integers(0, 2),
                    is_current=st.sampled_from([*[True] * 4, False]),
                    opted_in=st.booleans(),
                    staging=st.sampled_from([None, *STAGINGS]),
                )
            )
        ),
        last_pass=draw(
            st.none()
            | st.builds(
                LastPass,
                reason=st.sampled_from(Reason),
                rounds=st.integers(0, 3),
                age=AGES,
                content=st.sampled_from([None, 0, 1]),
            )
        ),
        before=draw(
            st.none()
            | st.builds(
                Before,
                rootfs=st.sampled_from([*SOURCES, *SOURCES, "former-0"]),
                needs_credentials=st.booleans(),
                has_credentials=st.booleans(),
                content=st.integers(0, 1),
            )
        ),
        migration=draw(
            st.none()
            | st.none()
            | st.none()
            | st.builds(
                Row,
                phase=st.sampled_from(Phase),
                goal=st.sampled_from(Goal),
                strategy=st.sampled_from(Strategy),
                is_desired=st.booleans(),
            )
        ),
        droplet=draw(st.sampled_from([None, None, 0, 1])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    number = draw(st.integers(1, 6))
    rules = Rules(
        policy=Policy(
            mode=draw(st.sampled_from([*CacheMode, CacheMode.ALL, CacheMode.ALL])),
            deny=draw(st.sampled_from([(), (), ("registry.example/team/web:2",)])),
        ),
        cache=CACHE,
        domains=frozenset({"cf-apps"}),
        running=RunningPolicy(draw(st.sampled_from([*MigrateRunning, MigrateRunning.BRIDGE]))),
        may_bridge=draw(st.booleans()),
        pull_credentials=draw(st.sampled_from([None, CELLS, LOGIN])),
        unseen_stagings=draw(st.sampled_from([*UnseenStagings, UnseenStagings.CURRENT])),
    )
    ask = st.builds(
        Ask,
        goal=st.sampled_from(Goal),
        age=st.sampled_from([0.0, 10_000.0]),
        strategy=st.sampled_from([None, *Strategy]),
        rootfs=st.sampled_from([None, None, *ROOTFSES]),
        to_rootfs=st.sampled_from([None, None, "cache-0"]),
        digest=st.sampled_from([None, None, CONTENTS[0]]),
        only_cached=st.booleans(),
    )
    return World(
        apps=tuple(draw(app(each)) for each in range(number)),
        rules=rules,
        pinned=draw(st.frozensets(st.sampled_from([AppGuid("app-0"), AppGuid("app-1"), AppGuid("")]))),
        is_paused=draw(st.sampled_from([False, False, True])),
        is_restoring=draw(st.sampled_from([False, False, True])),
        process_age=draw(st.sampled_from([0.0, 1000.0])),
        ask=draw(st.none() | ask),
        stores_logins=draw(st.sampled_from([None, False, True])),
        pulls=draw(st.sampled_from([None, Pulls(frozenset()), Pulls(frozenset({LOGIN.username}))])),
    )


class Scan(Generic[T_co]):
    """A listing of some values."""

    def __init__(self, values: Iterable[T_co]) -> None:
        self.skipped = 0
        self._values = list(values)

    async def __aiter__(self) -> AsyncIterator[T_co]:
        for each in self._values:
            yield each


@dataclass
class Bbs:
    """A BBS that is read, one LRP or many at a time."""

    lrps: dict[ProcessGuid, DesiredLrp] = field(default_factory=dict)
    rows: dict[ProcessGuid, tuple[ActualLrp, ...]] = field(default_factory=dict)
    requests: int = 0

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        self.requests += 1
        return self.lrps.get(process_guid)

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        self.requests += 1
        return self.rows.get(process_guid, ())

    async def list_domains(self) -> frozenset[str]:
        return frozenset({"cf-apps"})

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Scan[SchedulingInfo]:
        self.requests += 1
        return Scan(
            SchedulingInfo(lrp.process_guid, domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)
            for lrp in self.lrps.values()
            if lrp.domain == domain and (lrp.rootfs.is_docker or not docker_only)
        )

    def list_desired_lrps(self, domain: str, process_guids: Sequence[ProcessGuid]) -> Scan[DesiredLrp]:
        self.requests += 1
        named = (self.lrps[guid] for guid in process_guids if guid in self.lrps)
        return Scan(lrp for lrp in named if domain in {"", lrp.domain})

    def list_actual_lrps_of_domain(self, domain: str) -> Scan[ActualLrp]:
        self.requests += 1
        return Scan(row for rows in self.rows.values() for row in rows if row.domain == domain)

    async def update_routes(self, process_guid: ProcessGuid, routes: Mapping[str, bytes]) -> None:
        raise NotImplementedError

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        raise NotImplementedError

    async def desire_lrp(self, lrp: DesiredLrp, rootfs: Rootfs, credentials: Credentials | None) -> None:
        raise NotImplementedError

    async def retire_actual_lrp(self, process_guid: ProcessGuid, *, index: int, domain: str) -> None:
        raise NotImplementedError


@dataclass
class CountedRecords:
    """The records of LRPs, read for many at once and counted."""

    records: ReadRecords
    requests: int = 0

    async def look_up(self, keys: Sequence[LrpKey]) -> tuple[KnownLrp, ...]:
        self.requests += 1
        return await self.records.look_up(keys)


@dataclass
class Scene:
    """A world as the ports of passes and plans show it."""

    world: World
    store: Store
    order: Order | None = None
    bbs: Bbs = field(default_factory=Bbs)
    current: set[str] = field(default_factory=set)
    """Requesters of the bindings that no later staging can have been missed for."""
    stagings: dict[AppGuid, CurrentStaging] = field(default_factory=dict)
    """What Cloud Controller says."""

    records: ReadRecords | None = None
    """Where plans read what is known of LRPs; None for the store."""

    is_durable = True
    max_in_flight = None

    @property
    def is_restoring(self) -> bool:
        return self.world.is_restoring

    @property
    def is_paused(self) -> bool:
        return self.world.is_paused

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        return self.order

    def is_pinned(self, app_guid: AppGuid) -> bool:
        return app_guid in self.world.pinned

    def report(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        raise NotImplementedError

    def is_current(self, binding: Binding) -> bool:
        return binding.requester in self.current

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        return self.stagings.get(app_guid)

    async def find_current_stagings(self, app_guids: Collection[AppGuid]) -> Mapping[AppGuid, CurrentStaging]:
        return {guid: self.stagings[guid] for guid in app_guids if guid in self.stagings}

    def track(self, process_guid: ProcessGuid) -> None:
        raise NotImplementedError

    def untrack(self, process_guid: ProcessGuid, instance_guids: frozenset[str] = frozenset()) -> None:
        raise NotImplementedError

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        return ()

    def stale(self, process_guid: ProcessGuid) -> frozenset[str]:
        found = [each.stale for each in self.world.apps if each.guid == process_guid]
        return found[0] if found else frozenset()

    def crashed_on(self, process_guid: ProcessGuid) -> frozenset[str]:
        raise NotImplementedError

    def context_of(self, process_guid: ProcessGuid) -> PassContext:
        return PassContext(
            now=NOW,
            process_age=self.world.process_age,
            run_id="run-1",
            cache=CACHE,
            stale=self.stale(process_guid),
            is_restoring=self.is_restoring,
            unseen_stagings=self.world.rules.unseen_stagings,
            stores_logins=self.world.stores_logins,
            pull_credentials=self.world.rules.pull_credentials,
            droplet_pulls=self.world.pulls,
        )

    @property
    def survey(self) -> Survey:
        return Survey(
            SurveyDependencies(
                bbs=self.bbs,
                records=self.records or self.store.records,
                journal=self.store.journal,
                original_sources=self.store.original_sources,
                droplets=self.store.droplets,
                pins=self,
                coverage=self,
                contexts=self,
                stagings=self,
            ),
            self.world.rules,
        )

    async def passed(self, process_guid: ProcessGuid) -> Observed:
        """Observe an LRP as a pass does."""
        records = self.store.records
        sources = PassSources(
            lrps=self.bbs,
            instances=self.bbs,
            jobs=records,
            bindings=records,
            copies=records,
            images=records,
            journal=self.store.journal,
            original_sources=self.store.original_sources,
            droplets=self.store.droplets,
            records=records,
            coverage=self,
            event_cache=self,
            mode=self,
            overrides=self,
            stagings=self,
        )
        return await observe(process_guid, live_facts(sources), self.context_of(process_guid))

    async def planned(self, listed: LrpListing) -> dict[ProcessGuid, SurveyedLrp]:
        """Decide about LRPs as a plan does."""
        surveyed = self.survey.decide_each(listed, Selection(), self.order, SurveyCounts())
        async with aclosing(surveyed) as each_lrp:
            return {each.lrp.process_guid: each async for each in each_lrp}


def lrp_of(each: App, rootfs: Rootfs | None = None) -> DesiredLrp:
    """Write the definition of an LRP."""
    env = {} if each.signal is None else {"DIEGO_DOCKER_CACHE": each.signal}
    return DesiredLrp(
        process_guid=each.guid,
        domain=each.domain,
        app_guid=each.app_guid,
        rootfs=Rootfs(each.rootfs) if rootfs is None else rootfs,
        instances=each.instances,
        tag=ModificationTag("epoch-1", 0),
        definition=b"",
        action=RunAction("/bin/web", env=env),
        credentials=each.credentials,
    )


NUMBERS = count(1)
"""Makes the names of jobs and of who asked for them unique in the store that all examples share."""


class Saving:
    """Puts a world into the store and the BBS, and takes it out again."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._store = scene, scene.store
        self._cache_guids: list[CacheGuid] = []
        self._requesters: list[str] = []

    async def save(self) -> None:
        """Save a world."""
        records = self._store.records
        self._cache_guids = [await records.reserve_guid(content) for content in CONTENTS]
        for each in self._scene.world.apps:
            await self._save_app(each)
        for each in self._scene.world.apps:  # of images that LRPs share, the last word counts
            if each.image is not None and each.image.state is JobState.CACHED:
                await self._change_image(each.image)
        ask = self._scene.world.ask
        if ask is not None:
            self._scene.order = Order(
                ask.goal,
                since=NOW - ask.age,
                strategy=ask.strategy,
                rootfs=None if ask.rootfs is None else self._rootfs(ask.rootfs),
                to_rootfs=None if ask.to_rootfs is None else self._rootfs(ask.to_rootfs),
                platform_digest=ask.digest,
                only_cached=ask.only_cached,
            )

    async def clear(self) -> None:
        """Take a world out of the store."""
        guids = [each.guid for each in self._scene.world.apps]
        for guid in guids:
            await self._store.journal.delete_migration(guid)
        await self._store.records.forget_lrps(guids)
        found = await self._store.droplets.list_droplets()
        await self._store.droplets.forget_droplets([each.droplet_guid for each in found])
        for requester in self._requesters:
            await self._store.records.drop_binding(requester)
        for image in await self._store.records.list_images():
            await self._store.records.drop_image(image.cache_guid)

    def _rootfs(self, name: str) -> Rootfs:
        kind, _, number = name.partition("-")
        repositories = {"cache": CACHE, "former": FORMER, "gone": GONE}.get(kind)
        return Rootfs(name) if repositories is None else repositories.rootfs(self._cache_guids[int(number)])

    async def _save_app(self, each: App) -> None:
        bbs, lrp = self._scene.bbs, lrp_of(each, self._rootfs(each.rootfs))
        if each.migration is None or each.migration.is_desired:
            bbs.lrps[each.guid] = lrp
        bbs.rows[each.guid] = each.rows
        source = source_from_rootfs(lrp.rootfs)
        if each.image is not None and source is not None:
            await self._save_image(each, each.image, source)
        if each.last_pass is not None:
            await self._store.records.save_lrp(self._record(each, each.last_pass, lrp))
        if each.before is not None:
            login = LOGIN if each.before.has_credentials else None
            rootfs = self._rootfs(each.before.rootfs)
            needs_login = each.before.needs_credentials
            await self._store.original_sources.save_original_source(
                OriginalSource(each.guid, self._cache_guids[each.before.content], rootfs, needs_login, login)
            )
        if each.droplet is not None:
            await self._store.droplets.save_droplet(self._droplet(each, each.droplet))
        if each.migration is not None:
            await self._store.journal.save_migration(self._migration(each, each.migration, lrp))

    def _record(self, each: App, last: LastPass, lrp: DesiredLrp) -> LrpRecord:
        cache_guid = None if last.content is None else self._cache_guids[last.content]
        return LrpRecord(
            each.guid, each.app_guid, str(lrp.rootfs), cache_guid, last.rounds, last.reason, NOW - last.age
        )

    def _droplet(self, each: App, content: int) -> DropletRecord:
        guid = self._cache_guids[content]
        return DropletRecord(
            DropletGuid(f"droplet of {each.guid}"[:36]),
            each.app_guid,
            None,
            original="registry.example/team/web:1",
            username=LOGIN.username,
            cache_guid=guid,
            registry=CACHE.address,
            target=str(CACHE.image(guid)),
            phase=DropletPhase.PATCHED,
            reason=Reason.DROPLET_PATCHED,
            created_at=NOW,
            updated_at=NOW,
            rounds=1,
        )

    def _migration(self, each: App, row: Row, lrp: DesiredLrp) -> Migration:
        return Migration(
            process_guid=each.guid,
            cache_guid=self._cache_guids[0],
            phase=row.phase,
            original=lrp,
            rounds=1,
            run_id="run-1",
            started_at=NOW - 10,
            goal=row.goal,
            strategy=row.strategy,
            entered_at=NOW - 5,
        )

    async def _save_image(self, each: App, image: KnownImage, source: ImageReference) -> None:
        records, number = self._store.records, next(NUMBERS)
        requester, at = f"task:{number}", NOW - image.age
        job = CacheJob(JobId(f"job-{number}"), source, JobState.QUEUED, Reason.STAGING_TASK, at, at)
        await records.add_job(
            job, Binding(each.app_guid, source, requester, image.staged_at, job.job_id, image.opted_in)
        )
        self._requesters.append(requester)
        if image.is_current:
            self._scene.current.add(requester)
        if image.staging is not None:
            await self._save_staging(each, image.staging, source, (requester, at))
        if image.state is JobState.QUEUED:
            return
        job = replace(job, state=JobState.COPYING)
        await records.save_job(job)
        if image.state is JobState.FAILED:
            await records.save_job(replace(job, state=JobState.FAILED, failure="registry: DENIED: no"))
        elif image.state is JobState.CACHED:
            content, cache_guid = CONTENTS[image.content], self._cache_guids[image.content]
            copy = CachedImage(cache_guid, source, content, content, content, 1, at, at)
            await records.finish_job(replace(job, state=JobState.CACHED, cache_guid=cache_guid), copy, ())

    async def _save_staging(
        self, each: App, which: str, source: ImageReference, newest: tuple[str, float]
    ) -> None:
        """Let Cloud Controller know which staging an app is started from."""
        requester, at = newest
        if which == "earlier":
            requester = f"{requester}-before"
            await self._save_earlier(each, source, (requester, at - 100))
        elif which != "of the binding":
            requester = ""
        if which == "of another image":
            source = parse_image_reference("registry.example/team/other:1").canonical()
        ended_at = at + 100 if which == "after the job" else at - 100
        self._scene.stagings[each.app_guid] = CurrentStaging(source, requester, ended_at)

    async def _save_earlier(self, each: App, source: ImageReference, staging: tuple[str, float]) -> None:
        requester, at = staging
        records, number = self._store.records, next(NUMBERS)
        job = CacheJob(JobId(f"job-{number}"), source, JobState.QUEUED, Reason.STAGING_TASK, at, at)
        await records.add_job(job, Binding(each.app_guid, source, requester, -1, job.job_id))
        self._requesters.append(requester)
        job = replace(job, state=JobState.COPYING)
        await records.save_job(job)
        copy = CachedImage(self._cache_guids[1], source, CONTENTS[1], CONTENTS[1], CONTENTS[1], 1, at, at)
        cached = replace(job, state=JobState.CACHED, cache_guid=copy.cache_guid)
        await records.finish_job(cached, copy, ())

    async def _change_image(self, image: KnownImage) -> None:
        records, cache_guid = self._store.records, self._cache_guids[image.content]
        if await records.find_image(cache_guid) is None:
            return
        if not image.is_image_kept:
            await records.drop_image(cache_guid)
        elif image.needs_verification:
            await records.mark_for_verification(cache_guid, NOW - 5)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture(scope="module")
def store(runner: asyncio.Runner) -> Iterator[Store]:
    resources = AsyncExitStack()
    opening = open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="run-1")
    yield runner.run(resources.enter_async_context(opening))
    runner.run(resources.aclose())


async def check(scene: Scene) -> None:
    """Compare what passes and plans come to about each LRP of a world."""
    rules, apps = scene.world.rules, {each.guid: each for each in scene.world.apps}
    by_name = await scene.planned(await scene.survey.list_some(apps))
    assert set(by_name) == set(apps)
    for guid, planned in by_name.items():
        await check_one(scene, apps[guid], planned)

    listed = await scene.planned(await scene.survey.list_all())
    ours = {each.guid for each in apps.values() if each.domain in rules.domains}
    assert set(listed) == {
        guid for guid in ours if by_name[guid].lrp.rootfs.is_docker or apps[guid].migration is not None
    }
    for guid, planned in listed.items():
        assert planned.action == by_name[guid].action


async def check_one(scene: Scene, each: App, planned: SurveyedLrp) -> None:
    passed = await scene.passed(each.guid)
    if each.migration is not None:
        assert planned.action == Skip(each.migration.phase.reason)
        passed = replace(passed, domain_is_fresh=False)  # a plan decides no step
    else:
        assert planned.action == decide(passed, scene.world.rules)
    # What shows how many instances serve is known to a plan also where no decision rests on it.
    known = replace(passed, instances=planned.observed.instances)
    assert planned.observed == known
    if passed.instances and each.domain in scene.world.rules.domains:
        assert planned.observed.instances == passed.instances


@given(world=worlds())
@settings(deadline=None, max_examples=examples(gate=12, long=100))
def test_passes_and_plans_come_to_the_same_verdict(
    runner: asyncio.Runner, store: Store, world: World
) -> None:
    async def example() -> None:
        scene = Scene(world, store)
        saving = Saving(scene)
        try:
            await saving.save()
            await check(scene)
        finally:
            await saving.clear()

    runner.run(example())


APP = App(
    guid=ProcessGuid("p-0"),
    app_guid=AppGuid("app-0"),
    rootfs=SOURCES[0],
    domain="cf-apps",
    instances=1,
    credentials=None,
    signal=None,
    rows=(),
    stale=frozenset(),
    image=None,
    last_pass=None,
    before=None,
    migration=None,
    droplet=None,
)
RULES = Rules(Policy(), CACHE, frozenset({"cf-apps"}))
QUIET = World((APP,), RULES, frozenset(), is_paused=False, is_restoring=False, process_age=0.0, ask=None)


FOREIGN = ROOTFSES[-1]
STAGED = KnownImage(
    JobState.CACHED,
    content=0,
    is_image_kept=True,
    needs_verification=False,
    age=1.0,
    staged_at=1,
    is_current=True,
    opted_in=False,
)


async def test_an_image_named_like_a_copy_is_planned_by_its_own_name() -> None:
    """What the LRP ran from before another copy says nothing about this image."""
    before = Before(SOURCES[0], needs_credentials=False, has_credentials=False)
    app = replace(APP, rootfs=FOREIGN, image=STAGED, before=before)
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="run-1") as store:
        scene = Scene(replace(QUIET, apps=(app,)), store)
        await Saving(scene).save()

        planned = await scene.planned(await scene.survey.list_all())

        await check(scene)
    action = planned[app.guid].action
    assert isinstance(action, BeginMigration)
    assert action.reason is Reason.RUNS_FROM_SOURCE


async def test_a_thousand_lrps_on_copies_of_a_former_registry_cost_as_few_requests() -> None:
    before = Before(SOURCES[0], needs_credentials=False, has_credentials=False)
    apps = tuple(
        replace(APP, guid=ProcessGuid(f"p-{number:04}"), rootfs="former-0", before=before)
        for number in range(1000)
    )
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="run-1") as store:
        scene = Scene(replace(QUIET, apps=apps), store)
        await Saving(scene).save()
        scene.records = records = CountedRecords(store.records)

        planned = await scene.planned(await scene.survey.list_all())

    assert len(planned) == 1000
    assert records.requests <= 10


async def test_a_thousand_lrps_cost_some_ten_requests() -> None:
    apps = tuple(replace(APP, guid=ProcessGuid(f"p-{number:04}")) for number in range(1000))
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as store:
        scene = Scene(replace(QUIET, apps=apps), store)
        await Saving(scene).save()

        planned = await scene.planned(await scene.survey.list_all())

    assert len(planned) == 1000
    assert scene.bbs.requests <= 10


async def test_of_an_lrp_whose_journal_row_cannot_be_read_a_plan_says_that_its_check_fails(
    tmp_path: Path,
) -> None:
    """Each pass over it stops there, too; other LRPs are planned."""
    url, row = (
        f"sqlite:///{tmp_path}/store.db",
        Row(Phase.REMOVED, Goal.CACHE, Strategy.BRIDGE, is_desired=True),
    )
    hidden, other = replace(APP, migration=row), replace(APP, guid=ProcessGuid("p-1"))
    world = replace(QUIET, apps=(hidden, other))
    async with open_store(url, journal_key=Fernet.generate_key(), run_id="run-1") as store:
        await Saving(Scene(world, store)).save()
    async with open_store(url, journal_key=Fernet.generate_key(), run_id="run-2") as store:
        scene = Scene(world, store)
        scene.bbs = Bbs({each.guid: lrp_of(each) for each in world.apps})
        with pytest.raises(Invalid, match="encrypted with another key"):
            await scene.passed(hidden.guid)

        planned = await scene.planned(await scene.survey.list_all())

    action = planned[hidden.guid].action
    assert isinstance(action, Skip)
    assert action.reason is Reason.CHECK_FAILED
    assert "encrypted with another key" in action.detail
    assert isinstance(planned[other.guid].action, CacheImage)
