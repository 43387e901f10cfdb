"""What operators ask for and did, and what is known of many LRPs at once."""

import itertools
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, insert

from controller.store.database import Database
from controller.store.opening import Store
from controller.store.operations import KEPT_ENTRIES, SqlOperations
from controller.store.sql import SqlRecords
from controller.store.tables import audit
from reconcile.errors import NotFound
from reconcile.known_records import KnownCopy, KnownLrp, LrpKey
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import AuditEntry, CachedImage, JobId, JobState, requester_of_lrp
from reconcile.references import CacheGuid, parse_image_reference
from reconcile.trust import BlobHolder
from tests.controller.store.samples import APP, SOURCE, binding, digest, image, job, lrp_record
from tests.stores import open_store

KEY = Fernet.generate_key()

ONE, TWO = AppGuid("app-1"), AppGuid("app-2")
BLOBS = (digest(50), digest(51))


@pytest.fixture
def operations(store: Store) -> SqlOperations:
    return store.operations


class TestPaused:
    async def test_nobody_ever_said_is_not_the_same_as_no(self, operations: SqlOperations) -> None:
        assert await operations.find_paused() is None

    async def test_what_was_said_last_counts(self, operations: SqlOperations) -> None:
        for is_paused in (True, False, False, True):
            await operations.save_paused(is_paused=is_paused)

            assert await operations.find_paused() is is_paused


class TestHolds:
    async def test_apps_are_held_once(self, operations: SqlOperations) -> None:
        await operations.pin([ONE])
        await operations.pin([ONE, TWO])

        assert await operations.list_pins() == {ONE, TWO}

    async def test_apps_are_released(self, operations: SqlOperations) -> None:
        await operations.pin([ONE, TWO])
        await operations.unpin([TWO, AppGuid("never-held")])

        assert await operations.list_pins() == {ONE}

    async def test_nothing_is_held_or_released_when_nothing_is_named(self, operations: SqlOperations) -> None:
        await operations.pin([ONE])
        await operations.pin(iter(()))
        await operations.unpin(iter(()))

        assert await operations.list_pins() == {ONE}

    async def test_many_are_held_and_released_at_once(self, operations: SqlOperations) -> None:
        """More than one statement takes."""
        many = [AppGuid(f"app-{number}") for number in range(2_000)]
        await operations.pin(many)
        assert len(await operations.list_pins()) == len(many)

        await operations.unpin(many[1:])

        assert await operations.list_pins() == {many[0]}


def entry(number: int) -> AuditEntry:
    return AuditEntry(number + 0.25, "CN=ops", "Evict", f'{{"n": {number}}}', "done")


class TestAudit:
    async def test_entries_come_back_as_they_were_the_latest_first(self, operations: SqlOperations) -> None:
        for number in range(3):
            await operations.add_entry(entry(number))

        assert await operations.list_entries() == (entry(2), entry(1), entry(0))

    async def test_the_latest_is_the_one_that_was_added_last_whatever_the_clock_says(
        self, operations: SqlOperations
    ) -> None:
        await operations.add_entry(entry(5))
        await operations.add_entry(entry(3))

        assert await operations.list_entries() == (entry(3), entry(5))

    async def test_two_calls_that_are_the_same_are_two_entries(self, operations: SqlOperations) -> None:
        await operations.add_entry(entry(0))
        await operations.add_entry(entry(0))

        assert await operations.list_entries() == (entry(0), entry(0))


class TestFullAudit:
    """The table is filled at once: entry after entry would take a minute."""

    @pytest.fixture
    async def full(self, store: Store, database: Database) -> SqlOperations:
        rows = [
            {"at": each.at, "caller": each.caller, "call": each.call}
            | {"arguments": each.arguments, "outcome": each.outcome}
            for each in map(entry, range(KEPT_ENTRIES))
        ]

        def fill(connection: Connection) -> None:
            connection.execute(insert(audit), rows)

        await database.write(fill)
        return store.operations

    async def test_as_many_as_are_kept_are_all_there(self, full: SqlOperations) -> None:
        assert len(await full.list_entries()) == KEPT_ENTRIES

    async def test_with_one_more_the_oldest_goes(self, full: SqlOperations) -> None:
        await full.add_entry(entry(KEPT_ENTRIES))

        entries = await full.list_entries()
        assert len(entries) == KEPT_ENTRIES
        assert (entries[0], entries[-1]) == (entry(KEPT_ENTRIES), entry(1))


async def finished(records: SqlRecords, name: str, *, number: int) -> CachedImage:
    """Cache an image of some content for an app."""
    copy = image(await records.reserve_guid(digest(number)), platform=digest(number))
    await records.add_job(
        job(name, state=JobState.COPYING), binding(name, task=f"task-of-{name}", app=f"app-of-{name}")
    )
    done = replace(job(name, state=JobState.CACHED), cache_guid=copy.cache_guid)
    await records.finish_job(done, copy, BLOBS)
    return copy


class TestLookUp:
    """Many LRPs at one moment, with the same answers as one after the other."""

    @pytest.fixture
    async def world(self, store: Store) -> SqlRecords:
        records = store.records
        await finished(records, "cached", number=60)
        forgotten = await finished(records, "forgotten", number=61)
        await records.drop_image(forgotten.cache_guid)
        await records.add_job(job("queued"), binding("queued", task="t-1", app="app-of-queued"))
        await records.put_binding(binding("cached", task="t-2", app="app-of-queued", staged_at=1))
        for name in ("queued", "cached"):  # staged at once: what was saved later counts
            await records.put_binding(binding(name, task=f"tied-{name}", app="app-of-tied"))
        own = binding("forgotten", app="app-of-tied", staged_at=1)
        await records.put_binding(replace(own, requester=requester_of_lrp(ProcessGuid("p-known"))))
        await records.save_lrp(lrp_record("p-known"))
        return records

    async def found_singly(self, records: SqlRecords, key: LrpKey) -> KnownLrp:
        record = await records.find_lrp(key.process_guid)
        if key.source is None or not key.app_guid:
            return KnownLrp(record)
        own = await records.find_binding(requester_of_lrp(key.process_guid))
        is_own = own is not None and (own.app_guid, own.source) == (key.app_guid, key.source)
        bound = own if is_own else await records.find_newest_binding(key.app_guid, key.source)
        found = None if bound is None else await records.find_job(bound.job_id)
        guid = None if found is None else found.cache_guid
        image = None if guid is None else await records.find_image(guid)
        newest = await records.find_newest_copy(key.app_guid, key.source)
        return KnownLrp(record, KnownCopy(bound, found, image, newest))

    KEYS = tuple(
        LrpKey(ProcessGuid(guid), AppGuid(app), source)
        for guid, app, source in itertools.product(
            ("p-known", "p-unknown"),
            ("app-of-cached", "app-of-forgotten", "app-of-queued", "app-of-tied", "app-of-nobody", ""),
            (SOURCE, parse_image_reference("nginx"), None),
        )
    )

    async def test_the_answers_are_those_that_each_alone_would_get(self, world: SqlRecords) -> None:
        singly = [await self.found_singly(world, key) for key in self.KEYS]

        assert list(await world.look_up(self.KEYS)) == singly

    async def test_they_come_in_the_order_of_the_questions(self, world: SqlRecords) -> None:
        backwards = tuple(reversed(self.KEYS))

        assert list(await world.look_up(backwards)) == list(reversed(await world.look_up(self.KEYS)))

    async def test_an_lrp_may_be_asked_for_twice(self, world: SqlRecords) -> None:
        key = self.KEYS[0]

        first, second = await world.look_up((key, key))

        assert first == second == await self.found_singly(world, key)

    async def test_of_an_lrp_with_a_copy_all_is_known(self, world: SqlRecords) -> None:
        (known,) = await world.look_up([LrpKey(ProcessGuid("p-known"), AppGuid("app-of-cached"), SOURCE)])

        assert known.record == lrp_record("p-known")
        assert known.copy.binding is not None
        assert known.copy.job is not None
        assert known.copy.image is not None
        assert known.copy.image.cache_guid == known.copy.job.cache_guid

    async def test_lrps_that_name_no_app_do_not_share_what_one_of_them_brought(
        self, records: SqlRecords
    ) -> None:
        await records.add_job(job(), binding(app=""))

        assert await records.look_up([LrpKey(ProcessGuid("p"), AppGuid(""), SOURCE)]) == (KnownLrp(),)

    async def test_nothing_is_known_of_nothing(self, records: SqlRecords) -> None:
        assert await records.look_up([]) == ()


class TestDropAndKeep:
    async def test_an_image_that_is_dropped_is_gone_with_its_blobs(self, records: SqlRecords) -> None:
        copy = await finished(records, "job-1", number=60)

        assert set(await records.drop_image(copy.cache_guid)) == set(BLOBS)

        assert await records.find_image(copy.cache_guid) is None
        assert await records.list_images() == ()
        assert await records.find_holders(BLOBS, None) == {}

    async def test_its_guid_stays_that_of_its_content(self, records: SqlRecords) -> None:
        copy = await finished(records, "job-1", number=60)

        await records.drop_image(copy.cache_guid)

        assert await records.reserve_guid(digest(60)) == copy.cache_guid

    async def test_its_job_stays_and_says_where_it_lay(self, records: SqlRecords) -> None:
        copy = await finished(records, "job-1", number=60)

        await records.drop_image(copy.cache_guid)

        found = await records.find_job(JobId("job-1"))
        assert found is not None
        assert (found.state, found.cache_guid) == (JobState.CACHED, copy.cache_guid)

    async def test_its_suspicion_goes_with_it(self, records: SqlRecords) -> None:
        copy = await finished(records, "job-1", number=60)
        await records.mark_for_verification(copy.cache_guid, 5.0)

        await records.drop_image(copy.cache_guid)
        await records.keep_image(copy, BLOBS)

        assert await records.find_image(copy.cache_guid) == copy

    async def test_other_images_keep_the_blobs_that_they_share(self, records: SqlRecords) -> None:
        first, second = (
            await finished(records, "job-1", number=60),
            await finished(records, "job-2", number=61),
        )

        await records.drop_image(first.cache_guid)

        assert await records.list_images() == (second,)
        assert await records.find_holders(BLOBS, None) == dict.fromkeys(BLOBS, BlobHolder(second.cache_guid))

    @pytest.mark.parametrize("is_reserved", [True, False])
    async def test_what_is_no_image_cannot_be_dropped(
        self,
        records: SqlRecords,
        is_reserved: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        guid = await records.reserve_guid(digest(60)) if is_reserved else CacheGuid("unknown")

        with pytest.raises(NotFound) as caught:
            await records.drop_image(guid)

        assert caught.value.code == "no-such-image"

    async def test_an_image_that_is_kept_after_all_is_as_it_was(self, records: SqlRecords) -> None:
        copy = await finished(records, "job-1", number=60)
        await records.mark_for_verification(copy.cache_guid, 5.0)
        suspect = await records.find_image(copy.cache_guid)
        assert suspect is not None

        await records.keep_image(suspect, await records.drop_image(copy.cache_guid))

        assert await records.find_image(copy.cache_guid) == replace(copy, needs_verification_since=5.0)
        assert await records.find_holders(BLOBS, None) == dict.fromkeys(BLOBS, BlobHolder(copy.cache_guid))

    async def test_an_image_is_kept_that_no_job_led_to(self, records: SqlRecords) -> None:
        copy = image(await records.reserve_guid(digest(60)), platform=digest(60))

        await records.keep_image(copy, ())

        assert await records.list_images() == (copy,)


class TestListJobs:
    @pytest.fixture
    async def records(self, store: Store) -> SqlRecords:
        copy = await finished(store.records, "cached", number=60)
        cached = replace(job("cached", state=JobState.CACHED), cache_guid=copy.cache_guid, updated_at=4.0)
        await store.records.save_job(cached)
        for name, state, at in (
            ("queued", JobState.QUEUED, 1.0),
            ("copying", JobState.COPYING, 3.0),
            ("failed", JobState.FAILED, 2.0),
        ):
            each = replace(job(name, state=state), updated_at=at)
            await store.records.add_job(each, binding(name, task=name, app=name))
        return store.records

    async def test_the_jobs_in_all_states_are_listed_the_latest_to_change_first(
        self, records: SqlRecords
    ) -> None:
        listed = await records.list_jobs(tuple(JobState))

        assert [each.job_id for each in listed] == ["cached", "copying", "failed", "queued"]

    @pytest.mark.parametrize("state", JobState)
    async def test_the_jobs_in_one_state_are_as_they_were_saved(
        self, records: SqlRecords, state: JobState
    ) -> None:
        (listed,) = await records.list_jobs([state])

        assert listed == await records.find_job(JobId(str(state)))

    async def test_in_no_state_there_are_none(self, records: SqlRecords) -> None:
        assert await records.list_jobs([]) == ()

    async def test_a_state_that_is_named_twice_is_listed_once(self, records: SqlRecords) -> None:
        listed = await records.list_jobs([JobState.FAILED, JobState.FAILED])

        assert [each.job_id for each in listed] == ["failed"]


async def test_all_of_it_outlives_the_process(kept_url: str) -> None:
    async with open_store(kept_url, journal_key=KEY, run_id="run-1") as store:
        await store.operations.save_paused(is_paused=True)
        await store.operations.pin([APP])
        await store.operations.add_entry(entry(1))
    async with open_store(kept_url, journal_key=KEY, run_id="run-2") as store:
        assert await store.operations.find_paused() is True
        assert await store.operations.list_pins() == {APP}
        assert await store.operations.list_entries() == (entry(1),)
