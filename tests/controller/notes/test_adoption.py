"""Copies adopted by their notes, over a real store, and a BBS and a private registry in memory."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace

import pytest
from cryptography.fernet import Fernet

from controller.droplet_uses import DropletUses
from controller.notes import AdoptedCopy, Adoption, AdoptionDependencies, AdoptionStatus, DropletSources
from controller.store.opening import Store
from reconcile.droplets import (
    Droplet,
    DropletGuid,
    DropletPhase,
    DropletRecord,
    Package,
    PackageGuid,
)
from reconcile.errors import Conflict, Invalid, Unavailable
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.migrations import OriginalSource
from reconcile.notes import CopyNote, check_note
from reconcile.reasons import Reason
from reconcile.records import requester_of_task
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    Rootfs,
    parse_image_reference,
    rootfs_from_image_text,
)
from tests.controller.store.samples import digest, image
from tests.stores import open_store

NOW = 1_900_000_000.0
CACHE = CacheRepositories("cache.example:8080")
GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
OTHER = CacheGuid("8c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d12")
SOURCE = parse_image_reference("docker.io/library/nginx:1.27")
CONTENT = digest(9)
NOTE = CopyNote(
    GUID, SOURCE, digest(1), CONTENT, CONTENT, 1234, 1_800_000_000.0, needs_login=False, is_sealed=True
)


@dataclass
class Registry:
    """A private registry with copies, and notes beside some of them."""

    copies: dict[CacheGuid, Digest] = field(default_factory=dict)
    notes: dict[CacheGuid, CopyNote] = field(default_factory=dict)
    listed: tuple[CacheGuid, ...] | Exception = ()
    problem: Exception | None = None
    has_keys: bool = True

    async def find_digest(self, guid: CacheGuid) -> Digest | None:
        if self.problem is not None:
            raise self.problem
        return self.copies.get(guid)

    async def find(self, guid: CacheGuid, digest: Digest) -> CopyNote | None:
        note = self.notes.get(guid)
        if note is not None:
            check_note(note, guid=guid, digest=digest)
        return note

    async def list_blobs(self, guid: CacheGuid, digest: Digest) -> dict[Digest, int]:
        return {Digest("sha256", "5" * 64): 1000, Digest("sha256", "6" * 64): 234}

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        if isinstance(self.listed, Exception):
            raise self.listed
        return self.listed


@dataclass
class Listing:
    infos: list[SchedulingInfo]
    skipped: int

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        for info in self.infos:
            yield info


@dataclass
class Bbs:
    """A BBS with LRPs, of which it cannot give some."""

    infos: list[SchedulingInfo] = field(default_factory=list)
    unreadable: int = 0

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Listing:
        return Listing(self.infos, self.unreadable)

    def desire(self, process_guid: str, rootfs: Rootfs, domain: str = "cf-apps", *, app: str = "a") -> None:
        tag = ModificationTag("e", 0)
        self.infos.append(SchedulingInfo(ProcessGuid(process_guid), domain, AppGuid(app), rootfs, 1, tag))


@dataclass
class Api:
    """Cloud Controller, with droplets and their packages.

    Attributes:
        asked: The packages that were asked for.
    """

    droplets: list[Droplet] = field(default_factory=list)
    packages: dict[str, Package] = field(default_factory=dict)
    problem: Exception | None = None
    package_problem: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def push(self, app: str, image: str, *, names: CacheGuid = GUID, username: str = "") -> None:
        """Have an app pushed, and its droplet name a copy."""
        guid = PackageGuid(f"package-of-{app}")
        self.packages[guid] = Package(guid, is_docker=True, image=image, username=username)
        droplet = DropletGuid(f"droplet-of-{app}")
        text = str(CACHE.image(names))
        self.droplets.append(
            Droplet(
                droplet,
                "STAGED",
                is_docker=True,
                image=text,
                app_guid=AppGuid(app),
                package_guid=guid,
                created_at=1.0,
                updated_at=1.0,
            )
        )

    async def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        if self.problem is not None:
            raise self.problem
        for each in self.droplets:
            yield each

    async def find_package(self, guid: PackageGuid) -> Package | None:
        self.asked.append(guid)
        if self.package_problem is not None:
            raise self.package_problem
        return self.packages.get(guid)


@dataclass
class Bench:
    """A store that knows nothing, and a world that it once knew."""

    store: Store
    bbs: Bbs = field(default_factory=Bbs)
    registry: Registry = field(default_factory=Registry)
    queued: list[ProcessGuid] = field(default_factory=list)
    api: Api | None = None

    def __post_init__(self) -> None:
        self.bbs.desire("p-1", CACHE.rootfs(GUID))
        self.registry.copies[GUID] = CONTENT
        self.registry.notes[GUID] = NOTE

    @property
    def adoption(self) -> Adoption:
        return Adoption(
            AdoptionDependencies(
                bbs=self.bbs,
                notes=self.registry,
                records=self.store.copy_notes,
                images=self.store.records,
                original_sources=self.store.original_sources,
                droplets=DropletSources(
                    DropletUses(self.store.droplets, self.api, self.api, cache=CACHE, monotonic=lambda: NOW),
                    self.store.droplets,
                    self.api,
                    cache=CACHE,
                ),
                cache=CACHE,
                own=CACHE.covers,
                domains=frozenset({"cf-apps"}),
                queue=self.queued.append,
                clock=lambda: NOW,
            )
        )

    async def rebuild(self, *, accepts_unsealed: bool = False) -> list[AdoptedCopy]:
        return [row async for row, _, _ in self.adoption.adopt_all(accepts_unsealed=accepts_unsealed)]

    async def source_of(self, process_guid: str) -> OriginalSource | None:
        return await self.store.original_sources.find_original_source(ProcessGuid(process_guid))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="r") as store:
        yield Bench(store)


async def test_what_runs_from_an_unknown_copy_is_adopted_by_its_note(bench: Bench) -> None:
    (row,) = await bench.rebuild()

    assert row == AdoptedCopy(GUID, AdoptionStatus.ADOPTED, SOURCE, "", (ProcessGuid("p-1"),))
    found = await bench.store.records.find_image(GUID)
    assert found is not None
    assert (found.source, found.digest, found.platform_digest) == (SOURCE, CONTENT, CONTENT)
    assert (found.root_digest, found.created_at, found.size) == (digest(1), 1_800_000_000.0, 1234)
    assert found.registry == CACHE.address
    assert found.needs_verification_since == NOW, "it is read back before another app depends on it"
    assert await bench.source_of("p-1") == OriginalSource(
        ProcessGuid("p-1"),
        GUID,
        Rootfs("docker:///library/nginx#1.27"),
        needs_credentials=False,
        credentials=None,
    )
    assert bench.queued == ["p-1"]


async def test_a_second_rebuild_finds_nothing_to_do(bench: Bench) -> None:
    await bench.rebuild()
    before = await bench.store.records.list_images()
    bench.queued.clear()

    assert await bench.rebuild() == []
    assert await bench.store.records.list_images() == before
    assert bench.queued == []


async def test_what_is_known_is_not_changed(bench: Bench) -> None:
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    mine = OriginalSource(
        ProcessGuid("p-1"), GUID, Rootfs("docker:///mine#1"), needs_credentials=False, credentials=None
    )
    await bench.store.original_sources.save_original_source(mine)

    assert await bench.rebuild() == []
    assert await bench.store.records.find_image(GUID) == known
    assert await bench.source_of("p-1") == mine


async def test_an_lrp_that_an_older_backup_does_not_know_gets_the_source_of_its_known_copy(
    bench: Bench,
) -> None:
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())

    (row,) = await bench.rebuild()

    assert (row.status, row.source, row.process_guids) == (AdoptionStatus.ADOPTED, known.source, ("p-1",))
    source = await bench.source_of("p-1")
    assert source is not None
    assert source.needs_credentials, "no app is known to have pulled it without a login"
    assert "login" in row.detail


async def test_an_lrp_whose_source_alone_is_known_is_looked_at_too(bench: Bench) -> None:
    """A backup was restored that is older than its copy, and the replaced database knew its source."""
    rootfs = Rootfs("docker:///library/nginx#1.27")
    known = OriginalSource(ProcessGuid("p-1"), GUID, rootfs, needs_credentials=False, credentials=None)
    await bench.store.original_sources.save_original_source(known)

    (row,) = await bench.rebuild()

    assert (row.status, row.process_guids) == (AdoptionStatus.ADOPTED, ())
    assert bench.queued == ["p-1"], "it is no longer one of an unknown copy"


async def test_a_login_that_may_be_needed_is_said_to_be_unknown(bench: Bench) -> None:
    bench.registry.notes[GUID] = replace(NOTE, needs_login=True)

    (row,) = await bench.rebuild()

    source = await bench.source_of("p-1")
    assert source is not None
    assert (source.needs_credentials, source.credentials) == (True, None)
    assert "login" in row.detail


async def test_only_apps_get_a_source(bench: Bench) -> None:
    bench.bbs.desire("docker-cache-bridge-p-1", CACHE.rootfs(GUID), "docker-cache-bridge")
    bench.bbs.desire("elsewhere", CACHE.rootfs(GUID), "other-domain")
    bench.bbs.desire("from-source", Rootfs("docker:///library/nginx#1.27"))

    (row,) = await bench.rebuild()

    assert row.process_guids == ("p-1",)
    assert await bench.source_of("docker-cache-bridge-p-1") is None
    assert await bench.source_of("from-source") is None


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (None, "no note lies beside it"),
        (replace(NOTE, is_sealed=False), "not sealed"),
        (replace(NOTE, cache_guid=OTHER), "about the copy"),
        (replace(NOTE, digest=digest(3)), "about content"),
        (replace(NOTE, source=CACHE.image(OTHER)), "which is a copy itself"),
    ],
)
async def test_without_a_note_that_can_be_believed_the_next_staging_finds_the_copy(
    bench: Bench, note: CopyNote | None, said: str
) -> None:
    bench.registry.notes = {} if note is None else {GUID: note}

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.RESERVED
    assert said in row.detail
    assert await bench.store.records.list_images() == ()
    assert await bench.source_of("p-1") is None
    assert await bench.store.records.reserve_guid(CONTENT) == GUID


async def test_a_note_without_a_seal_is_believed_on_demand_as_far_as_the_copy_shows_it(bench: Bench) -> None:
    """Else whoever writes to the registry could have other apps run what only a note calls their image."""
    bench.registry.notes[GUID] = replace(NOTE, is_sealed=False, platform_digest=digest(7))

    (row,) = await bench.rebuild(accepts_unsealed=True)

    assert row.status is AdoptionStatus.ADOPTED
    found = await bench.store.records.find_image(GUID)
    assert found is not None
    assert (found.platform_digest, found.root_digest) == (CONTENT, CONTENT)
    assert await bench.store.records.find_guid(digest(7)) is None


async def test_notes_need_no_seal_where_there_is_no_key(bench: Bench) -> None:
    bench.registry.has_keys = False
    bench.registry.notes[GUID] = replace(NOTE, is_sealed=False)

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.ADOPTED


async def test_a_copy_that_is_gone_stays_unknown(bench: Bench) -> None:
    bench.registry.copies.clear()

    (row,) = await bench.rebuild()

    assert (row.status, row.detail) == (AdoptionStatus.UNKNOWN, "the private registry does not have it")


async def test_content_that_was_copied_again_since_keeps_its_new_copy(bench: Bench) -> None:
    await bench.store.records.keep_image(image(OTHER, platform=CONTENT), ())

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert str(OTHER) in row.detail
    assert await bench.store.records.find_image(GUID) is None
    assert await bench.source_of("p-1") is not None, "its LRPs can be restored"


async def test_what_the_registry_lists_is_adopted_too(bench: Bench) -> None:
    bench.registry.listed = (GUID, OTHER)
    bench.registry.copies[OTHER] = digest(8)
    bench.registry.notes[OTHER] = replace(NOTE, cache_guid=OTHER, digest=digest(8), platform_digest=digest(8))

    rows = await bench.rebuild()

    assert {row.cache_guid: row.status for row in rows} == dict.fromkeys(
        (GUID, OTHER), AdoptionStatus.ADOPTED
    )
    assert len(await bench.store.records.list_images()) == 2


async def test_names_without_a_copy_or_a_note_are_no_loss(bench: Bench) -> None:
    empty, foreign = CacheGuid(OTHER), CacheGuid("9c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d13")
    bench.registry.listed = (empty, foreign)
    bench.registry.copies[foreign] = digest(8)

    rows = {row.cache_guid: row for row in await bench.rebuild()}

    assert rows.keys() == {GUID, foreign}
    assert rows[foreign].status is AdoptionStatus.UNKNOWN
    assert "no LRP runs from it" in rows[foreign].detail


async def test_a_registry_that_does_not_answer_or_list_is_named(bench: Bench) -> None:
    bench.registry.listed = Invalid("registry", "UNSUPPORTED", "no catalog")
    bench.registry.problem = Unavailable("registry", "timeout", "cache.example does not answer")

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert "does not answer" in row.detail


async def test_lrps_that_cannot_be_read_are_said_after_all_others_are_adopted(bench: Bench) -> None:
    bench.bbs.unreadable = 2

    with pytest.raises(Invalid) as refused:
        await bench.rebuild()

    assert "2 LRPs" in refused.value.detail
    assert await bench.source_of("p-1") is not None


async def test_a_guid_of_other_content_is_not_taken(bench: Bench) -> None:
    await bench.store.copy_notes.reserve(GUID, digest(5))

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert "guid-of-other-content" in row.detail


async def test_whether_a_login_is_needed_is_known_from_what_apps_brought(bench: Bench) -> None:
    from reconcile.lrps import TaskGuid  # noqa: PLC0415 - beside its one use
    from reconcile.records import JobState  # noqa: PLC0415 - beside its one use
    from tests.controller.store.samples import binding, job  # noqa: PLC0415 - beside its one use

    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    cached = replace(job(state=JobState.CACHED), cache_guid=GUID)
    for number, (requester, needs) in enumerate(
        ((requester_of_task(TaskGuid("private")), True), ("admin:1", False))
    ):
        each = replace(cached, job_id=type(cached.job_id)(f"job-{number}"), needs_credentials=needs)
        await bench.store.records.add_job(each, replace(binding(each.job_id), requester=requester))
    assert await bench.store.copy_notes.needs_login(known), "an operator's login may have been used"

    public = replace(cached, job_id=type(cached.job_id)("job-public"))
    await bench.store.records.add_job(
        public, replace(binding(public.job_id), requester="task:public", app_guid=AppGuid("other"))
    )
    assert not await bench.store.copy_notes.needs_login(known)


@pytest.mark.parametrize("needs", [False, True])
async def test_whether_a_login_is_needed_is_known_from_what_an_lrp_ran_from(
    bench: Bench, *, needs: bool
) -> None:
    """It was migrated from one private registry to the next, and is bound to a job for the content alone."""
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    rootfs = rootfs_from_image_text(str(known.source))
    await bench.store.original_sources.save_original_source(
        OriginalSource(ProcessGuid("p"), GUID, rootfs, needs, None)
    )

    assert await bench.store.copy_notes.needs_login(known) is needs


async def test_one_rebuild_runs_at_a_time(bench: Bench) -> None:
    adoption = bench.adoption
    first = adoption.adopt_all(accepts_unsealed=False)
    await anext(first)

    with pytest.raises(Conflict):
        await anext(adoption.adopt_all(accepts_unsealed=False))
    await first.aclose()


class TestPackages:
    """Y8: no note can be believed, and Cloud Controller knows what was pushed."""

    @pytest.fixture
    async def api(self, bench: Bench) -> Api:
        bench.registry.notes.clear()
        bench.api = Api()
        return bench.api

    async def test_what_runs_from_an_unknown_copy_is_adopted_by_the_package_of_its_app(
        self, bench: Bench, api: Api
    ) -> None:
        api.push("a", "nginx:1.27")

        (row,) = await bench.rebuild()
        (known,) = await bench.store.records.list_images()
        source = await bench.source_of("p-1")

        assert (row.status, row.source, row.process_guids) == (AdoptionStatus.ADOPTED, SOURCE, ("p-1",))
        assert (known.cache_guid, known.source, known.digest, known.size) == (GUID, SOURCE, CONTENT, 1234)
        assert known.needs_verification_since == NOW
        assert source is not None
        assert (source.rootfs.uri, source.needs_credentials) == ("docker:///library/nginx#1.27", False)
        assert await bench.rebuild() == []

    async def test_each_lrp_gets_what_its_own_app_was_pushed_from(self, bench: Bench, api: Api) -> None:
        bench.bbs.desire("p-2", CACHE.rootfs(GUID), app="b")
        bench.bbs.desire("p-3", CACHE.rootfs(GUID), app="without a droplet")
        for app in ("a", "c"):
            api.push(app, "nginx:1.27")
        api.push("b", "registry.example/team/web:7", username="robot")

        (row,) = await bench.rebuild()
        sources = [await bench.source_of(guid) for guid in ("p-1", "p-2", "p-3")]

        assert [(each.rootfs.uri, each.needs_credentials) for each in sources if each is not None] == [
            ("docker:///library/nginx#1.27", False),
            ("docker://registry.example/team/web#7", True),
            ("docker:///library/nginx#1.27", False),
        ]
        assert "the login for its source is not known" in row.detail

    async def test_a_copy_that_only_the_droplet_of_a_stopped_app_names_is_adopted_too(
        self, bench: Bench, api: Api
    ) -> None:
        bench.registry.copies[OTHER] = digest(7)
        api.push("stopped", "nginx:1.27", names=OTHER)

        rows = await bench.rebuild()

        assert [(row.cache_guid, row.status) for row in rows] == [
            (GUID, AdoptionStatus.RESERVED),
            (OTHER, AdoptionStatus.ADOPTED),
        ]

    async def test_a_droplet_with_a_record_costs_no_request(self, bench: Bench, api: Api) -> None:
        api.push("a", "never asked")
        await bench.store.droplets.save_droplet(
            DropletRecord(
                DropletGuid("droplet-of-a"),
                AppGuid("a"),
                None,
                original="library/nginx:1.27",
                username="robot",
                cache_guid=GUID,
                registry=CACHE.address,
                target=str(CACHE.image(GUID)),
                phase=DropletPhase.PATCHED,
                reason=Reason.DROPLET_PATCHED,
                created_at=1.0,
                updated_at=1.0,
            )
        )

        (row,) = await bench.rebuild()

        assert (row.source, api.asked) == (SOURCE, [])

    async def test_with_a_note_nothing_is_asked(self, bench: Bench, api: Api) -> None:
        bench.registry.notes[GUID] = NOTE
        api.push("a", "registry.example/team/web:7")

        (row,) = await bench.rebuild()

        assert (row.source, api.asked) == (SOURCE, [])

    @pytest.mark.parametrize("image", [str(CACHE.image(OTHER)), "Not/An/Image", ""])
    async def test_a_package_that_names_no_source_is_no_help(
        self, bench: Bench, api: Api, image: str
    ) -> None:
        api.push("a", image)

        (row,) = await bench.rebuild()

        assert (row.status, await bench.source_of("p-1")) == (AdoptionStatus.RESERVED, None)

    async def test_a_cloud_controller_that_fails_is_named_and_the_copy_reserved(
        self, bench: Bench, api: Api
    ) -> None:
        api.push("a", "nginx:1.27")
        api.package_problem = Unavailable("cloud-controller", "timeout", "no answer")

        (row,) = await bench.rebuild()
        api.problem = api.package_problem
        (again,) = await bench.rebuild()

        assert row.status is again.status is AdoptionStatus.RESERVED
        assert "Cloud Controller does not know what was pushed: cloud-controller: timeout" in row.detail
