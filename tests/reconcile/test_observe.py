"""Which facts an observation reads, and in which order; that passes and plans agree is `admin/test_facts`."""

from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest

from reconcile.bridges import bridge_of
from reconcile.current_stagings import CLOCKS_DIFFER_BY, CurrentStaging
from reconcile.droplets import DropletRecord
from reconcile.facts import Facts, PassContext
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid, Pull
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observe import observe, observe_orphaned_bridge
from reconcile.orders import Order
from reconcile.records import Binding, CachedImage, LrpRecord, requester_of_lrp
from reconcile.references import CacheGuid, Rootfs
from reconcile.store_markers import StoreId, marker_of
from tests.reconcile.test_decide import GUID, IMAGE, JOB, LRP, NOW, PROCESS, READY, RULES, RUNNING

CONTEXT = PassContext(now=NOW, process_age=1000.0, run_id="run-1", cache=RULES.cache)
COPY = KnownCopy(READY.binding, JOB, IMAGE)
OPEN = Migration(PROCESS, GUID, Phase.BRIDGED, LRP, 1, "run-1", NOW - 1, strategy=Strategy.BRIDGE)
BRIDGE = bridge_of(PROCESS)
ORIGINAL_SOURCE = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)


@dataclass
class Reads:
    """Facts that note in which order they are read."""

    lrp: DesiredLrp | None = LRP
    copy: KnownCopy = COPY
    migration: Migration | None = None
    order: Order | None = None
    is_paused: bool = False
    original_source: OriginalSource | None = ORIGINAL_SOURCE
    droplets: tuple[DropletRecord, ...] = ()
    pinned: frozenset[AppGuid] = frozenset()
    fresh: frozenset[str] = frozenset({"cf-apps"})
    has_seen_all: bool = True
    staging: CurrentStaging | None = None
    has_api: bool = False
    staged: KnownCopy = field(default_factory=KnownCopy)
    read: list[str] = field(default_factory=list)

    def facts(self, *, is_for_plan: bool = False) -> Facts:
        migrations = None if is_for_plan else self
        stagings = self if self.has_api else None
        return Facts(
            lrps=self,
            records=self,
            coverage=self,
            overrides=self,
            migrations=migrations,
            stagings=stagings,
        )

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        self.read.append(f"lrp {process_guid}")
        return self.lrp

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        self.read.append(f"instances {process_guid}")
        return (RUNNING,)

    async def list_domains(self) -> frozenset[str]:
        self.read.append("domains")
        return self.fresh

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        self.read.append(f"versions {process_guid}")
        return ()

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        self.read.append(f"migration {process_guid}")
        return self.migration

    async def find_record(self, process_guid: ProcessGuid) -> LrpRecord | None:
        self.read.append(f"record {process_guid}")
        return None

    async def find_copy(self, key: LrpKey) -> KnownCopy:
        self.read.append(f"copy {key.staged_as}".rstrip())
        return self.staged if key.staged_as else self.copy

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        self.read.append("staging")
        return self.staging

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        self.read.append(f"image {cache_guid}")
        return IMAGE

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        self.read.append(f"droplets {app_guid}")
        return self.droplets

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        self.read.append(f"original source {process_guid}")
        return self.original_source

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        return self.order

    def is_pinned(self, app_guid: AppGuid) -> bool:
        return app_guid in self.pinned

    def is_current(self, binding: Binding) -> bool:
        return self.has_seen_all


async def test_the_journal_row_is_read_first_and_the_instances_last() -> None:
    reads = Reads()

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert observed == replace(READY, instances=(RUNNING,))
    assert reads.read == ["migration p-1", "record p-1", "lrp p-1", "copy", "instances p-1"]


async def test_without_a_copy_a_pass_does_not_ask_for_instances() -> None:
    reads = Reads(copy=KnownCopy())

    assert (await observe(PROCESS, reads.facts(), CONTEXT)).instances == ()
    assert reads.read[-1] == "copy"


async def test_a_plan_always_knows_the_instances_since_it_says_what_follows_the_copy() -> None:
    reads = Reads(copy=KnownCopy())

    assert (await observe(PROCESS, reads.facts(is_for_plan=True), CONTEXT)).instances == (RUNNING,)


@pytest.mark.parametrize(
    ("order", "context"),
    [(Order(Goal.SOURCE, since=NOW), CONTEXT), (None, replace(CONTEXT, is_restoring=True))],
)
async def test_the_way_back_needs_the_original_source_and_the_instances(
    order: Order | None, context: PassContext
) -> None:
    reads = Reads(copy=KnownCopy(), order=order)

    await observe(PROCESS, reads.facts(), context)

    assert reads.read[3:] == ["original source p-1", "copy", "instances p-1"]


async def test_of_an_lrp_that_runs_from_a_copy_its_source_and_its_instances_are_read() -> None:
    """It goes back when cells cannot pull the copy any more."""
    reads = Reads(lrp=replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID)), copy=KnownCopy())

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert reads.read[3:] == ["original source p-1", f"image {GUID}", "copy", "instances p-1"]
    assert observed.current_copy == IMAGE
    assert observed.instances == (RUNNING,)
    assert observed.original_source is not None


async def test_of_an_lrp_that_is_turned_back_a_bridge_is_read_when_its_row_says_that_it_may_have_one() -> (
    None
):
    way_back = Pull(LRP.rootfs, LRP.credentials)
    back = replace(OPEN, phase=Phase.REMOVED, strategy=Strategy.RECREATE, goal=Goal.SOURCE, way_back=way_back)
    alone, stopgap = Reads(migration=back), Reads(migration=replace(back, is_stopgap=True))

    await observe(PROCESS, alone.facts(), CONTEXT)
    await observe(PROCESS, stopgap.facts(), CONTEXT)

    assert f"lrp {BRIDGE}" not in alone.read
    assert stopgap.read[-5:] == [
        f"lrp {BRIDGE}",
        f"instances {BRIDGE}",
        "lrp p-1",
        "instances p-1",
        "versions p-1",
    ]


async def test_where_stale_instances_are_known_of_instances_are_read_without_a_copy_too() -> None:
    reads = Reads(copy=KnownCopy())

    observed = await observe(PROCESS, reads.facts(), replace(CONTEXT, stale=frozenset({"i"})))

    assert observed.instances == (RUNNING,)


@pytest.mark.parametrize("lrp", [None, replace(LRP, rootfs=Rootfs("preloaded:cflinuxfs4"))])
async def test_nothing_more_is_read_of_an_lrp_that_is_gone_or_runs_no_docker_image(
    lrp: DesiredLrp | None,
) -> None:
    reads = Reads(lrp=lrp)

    await observe(PROCESS, reads.facts(), CONTEXT)

    assert reads.read[-1] == "lrp p-1"


async def test_of_a_migration_the_bridge_is_read_before_the_lrp_and_its_instances() -> None:
    """Instances of the original that start meanwhile are seen, so that it is not removed too early."""
    reads = Reads(migration=OPEN)

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert observed.domain_is_fresh
    assert reads.read == [
        "migration p-1",
        "record p-1",
        "domains",
        "original source p-1",
        f"lrp {BRIDGE}",
        f"instances {BRIDGE}",
        "lrp p-1",
        "instances p-1",
        "versions p-1",
    ]


@dataclass
class OwnerBetweenReads(Reads):
    """Reads an LRP that its owner desires again directly after it was first read."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        self.lrp = LRP
        return await super().list_actual_lrps(process_guid)


async def test_an_lrp_that_is_desired_while_it_is_observed_is_not_missing_beside_its_own_instances() -> None:
    """They would be taken for instances of what was removed, and be stopped one day."""
    removed = replace(OPEN, phase=Phase.REMOVED, strategy=Strategy.RECREATE)
    reads = OwnerBetweenReads(lrp=None, migration=removed)

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert (observed.lrp, observed.instances) == (LRP, (RUNNING,))


async def test_an_lrp_that_is_missing_beside_instances_that_are_known_is_read_once() -> None:
    guids = frozenset({RUNNING.instance_guid})
    known = replace(OPEN, phase=Phase.REMOVED, strategy=Strategy.RECREATE, instance_guids=guids)
    reads = OwnerBetweenReads(lrp=None, migration=known)

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert observed.lrp is None


async def test_of_a_migration_a_plan_reads_nothing_that_only_a_step_rests_on() -> None:
    reads = Reads(migration=replace(OPEN, goal=Goal.SOURCE))

    await observe(PROCESS, reads.facts(is_for_plan=True), CONTEXT)

    assert reads.read[2:] == ["original source p-1", "lrp p-1", "instances p-1"]


@pytest.mark.parametrize("lrp", [LRP, None])
async def test_a_pin_is_seen_while_its_app_is_being_migrated(lrp: DesiredLrp | None) -> None:
    reads = Reads(lrp=lrp, migration=OPEN, pinned=frozenset({LRP.app_guid}))

    assert (await observe(PROCESS, reads.facts(), CONTEXT)).world.is_restore_requested


async def test_of_an_orphaned_bridge_the_journal_is_read_before_the_lrps() -> None:
    reads = Reads()

    observed = await observe_orphaned_bridge(
        BRIDGE, reads.facts(), domains=frozenset({"cf-apps"}), process_age=1.0
    )

    assert observed.domains_are_fresh
    assert not observed.may_be_of_other_store
    assert reads.read == [
        "domains",
        "migration p-1",
        f"lrp {BRIDGE}",
        f"instances {BRIDGE}",
        "lrp p-1",
        "instances p-1",
    ]


async def test_an_orphaned_bridge_may_be_that_of_a_daemon_with_another_store() -> None:
    own, other = StoreId(str(uuid4())), StoreId(str(uuid4()))
    reads = Reads(fresh=frozenset({"cf-apps", marker_of(own)}))

    async def may_be_of_other_store() -> bool:
        observed = await observe_orphaned_bridge(
            BRIDGE, reads.facts(), domains=frozenset({"cf-apps"}), process_age=1.0, own_store=own
        )
        return observed.may_be_of_other_store

    assert not await may_be_of_other_store()
    reads.fresh |= {marker_of(other)}
    assert await may_be_of_other_store()


BINDING = Binding(LRP.app_guid, JOB.source, "task:t", 1, JOB.job_id)
assert COPY.binding == BINDING
SOURCE = BINDING.source
OF_BINDING = CurrentStaging(SOURCE, BINDING.requester, JOB.created_at + 20)
EARLIER = replace(BINDING, requester="task:earlier", staged_at=BINDING.staged_at - 1)
OTHER_IMAGE = replace(IMAGE, cache_guid=CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11"))
STAGED = KnownCopy(EARLIER, JOB, OTHER_IMAGE)


class TestMissedStagings:
    """After a gap in the events Cloud Controller says what an app was staged with last."""

    def reads(self, staging: CurrentStaging | None) -> Reads:
        return Reads(has_seen_all=False, has_api=True, staging=staging)

    async def test_where_none_can_have_been_missed_it_is_not_asked(self) -> None:
        reads = replace(self.reads(OF_BINDING), has_seen_all=True)

        assert (await observe(PROCESS, reads.facts(), CONTEXT)).binding_is_current
        assert "staging" not in reads.read

    async def test_the_binding_of_the_lrp_itself_stands_and_it_is_not_asked(self) -> None:
        own = replace(BINDING, requester=requester_of_lrp(PROCESS))
        reads = replace(self.reads(OF_BINDING), copy=replace(COPY, binding=own))

        await observe(PROCESS, reads.facts(), CONTEXT)
        assert "staging" not in reads.read

    async def test_content_that_a_digest_pins_is_known_and_it_is_not_asked(self) -> None:
        pinned = replace(BINDING, source=SOURCE.at(IMAGE.root_digest))
        reads = replace(self.reads(OF_BINDING), copy=replace(COPY, binding=pinned))

        await observe(PROCESS, reads.facts(), CONTEXT)
        assert "staging" not in reads.read

    @pytest.mark.parametrize("is_for_plan", [False, True])
    async def test_an_app_that_is_started_from_the_staging_that_is_known_has_missed_none(
        self, *, is_for_plan: bool
    ) -> None:
        reads = self.reads(OF_BINDING)

        observed = await observe(PROCESS, reads.facts(is_for_plan=is_for_plan), CONTEXT)

        assert (observed.binding, observed.binding_is_current) == (BINDING, True)

    async def test_after_a_rollback_the_copy_is_that_of_the_earlier_staging(self) -> None:
        reads = replace(self.reads(CurrentStaging(SOURCE, EARLIER.requester, 0.0)), staged=STAGED)

        observed = await observe(PROCESS, reads.facts(), CONTEXT)

        assert (observed.binding, observed.image) == (EARLIER, OTHER_IMAGE)
        assert observed.binding_is_current

    @pytest.mark.parametrize("requester", ["task:missed", ""])
    async def test_a_staging_that_nobody_saw_has_been_missed_unless_the_source_was_asked_since(
        self, requester: str
    ) -> None:
        ends = (JOB.created_at - CLOCKS_DIFFER_BY, JOB.created_at - CLOCKS_DIFFER_BY + 1)

        answers = [
            (await observe(PROCESS, self.reads(CurrentStaging(SOURCE, requester, at)).facts(), CONTEXT))
            for at in ends
        ]

        assert [observed.binding_is_current for observed in answers] == [True, False]
        assert {observed.binding for observed in answers} == {BINDING}

    @pytest.mark.parametrize(
        "staging",
        [None, replace(OF_BINDING, source=None), replace(OF_BINDING, source=replace(SOURCE, tag="other"))],
        ids=["it says nothing", "its droplet names no image", "the LRP is of another droplet"],
    )
    async def test_where_it_cannot_tell_the_source_is_asked_as_without_it(
        self, staging: CurrentStaging | None
    ) -> None:
        observed = await observe(PROCESS, self.reads(staging).facts(), CONTEXT)

        assert not observed.binding_is_current
