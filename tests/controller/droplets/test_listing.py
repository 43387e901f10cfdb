"""What a listing of the droplets finds."""

import asyncio
from dataclasses import replace

import pytest

from controller.droplets.droplets import MOST_AT_ONCE, Droplets
from controller.droplets.stagings import AWAITED_FOR
from controller.droplets.sweep import FIRST_PAUSE, GONE_RECHECK_INTERVAL, MOST_GONE, NEW_FOR, RECHECK_INTERVAL
from reconcile.droplet_decisions import GONE_FOR
from reconcile.droplets import DropletGuid, DropletOrder, DropletPhase, DropletRecord
from reconcile.known_records import StagedCopy
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.policy import Policy
from reconcile.reasons import Reason
from reconcile.records import Binding, JobId, JobState, requester_of_lrp
from reconcile.references import ImageReference, parse_image_reference
from tests.controller.droplets.conftest import (
    APP,
    INTERVAL,
    TEXT,
    Scene,
    guid_of,
    named,
    reconciling,
    text_of,
)
from tests.controller.droplets.memory_api import NO_ANSWER
from tests.reconcile.test_decide import LRP, RULES

pytestmark = pytest.mark.looptime

OTHER = "registry.example.com/team/app:2"
OTHER_APP = AppGuid("app-2")


async def migrated(scene: Scene, number: int, app_guid: AppGuid, text: str = TEXT) -> None:
    """Let an app have a copy by its LRP, whose staging nobody saw."""
    job = await scene.requested(number, text=text, app_guid=app_guid)
    await scene.cached(job, number)
    scene.records.bindings.clear()
    source = parse_image_reference(text).canonical()
    await scene.records.put_binding(
        Binding(app_guid, source, requester_of_lrp(LRP.process_guid), int(scene.now * 1e9), job.job_id)
    )


async def test_an_app_whose_staging_was_not_seen_gets_the_copy_of_its_lrp(scene: Scene) -> None:
    guid = await scene.staged()
    await migrated(scene, 1, APP)

    await scene.begin()
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


async def test_nobody_asks_which_droplet_is_current_where_all_have_one_image(scene: Scene) -> None:
    guids = [await scene.staged(number) for number in (1, 2, 3)]
    await migrated(scene, 1, APP)

    scene.start()
    await scene.until(lambda: all(scene.api.image_of(guid) == text_of(1) for guid in guids))
    await scene.rest()

    assert scene.api.asked["find_current_droplet"] == 0
    assert scene.api.requests == 1 + 3 * 2


async def test_a_droplet_of_an_earlier_image_does_not_get_the_copy_of_the_present_one(scene: Scene) -> None:
    earlier = await scene.staged(1, text=OTHER)
    current = await scene.staged(2)
    await migrated(scene, 1, APP)

    await scene.begin()
    await scene.until(lambda: scene.api.image_of(current) == text_of(1))
    await scene.rest()

    assert scene.api.image_of(earlier) == OTHER
    assert [(each.source.tag, each.requester) for each in scene.platform.requests] == [
        ("2", "droplet:droplet-1")
    ]


async def test_the_login_for_a_copy_is_taken_from_an_lrp_of_the_app(scene: Scene) -> None:
    await scene.staged()
    scene.runs(LRP)

    await scene.begin()
    await scene.until(lambda: bool(scene.platform.requests))

    assert scene.platform.requests[0].credentials == LRP.credentials


async def test_a_copy_that_a_droplet_asked_for_is_named_when_it_is_finished(scene: Scene) -> None:
    guid = await scene.staged()
    await scene.begin()
    await scene.until(lambda: bool(scene.platform.requests))
    request = scene.platform.requests[0]

    job = replace(await scene.requested(), job_id=JobId("droplets"))
    scene.records.bindings.clear()
    binding = Binding(APP, request.source, request.requester, request.staged_at, job.job_id)
    await scene.records.add_job(job, binding)
    await scene.cached(job)
    scene.droplets.job_ended(APP)

    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


async def test_a_copy_that_is_finished_while_a_listing_looks_at_its_droplet_is_named(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing records that the droplet waits for the copy, whose end nobody reports once more."""
    await scene.begin()
    guid = await scene.patched()
    scene.platform.pinned.add(APP)
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == TEXT)
    finished = scene.records.jobs[JobId("job-1")]
    scene.records.jobs[finished.job_id] = replace(finished, state=JobState.COPYING)
    read = scene.records.find_newest_copy

    async def finish_meanwhile(app_guid: AppGuid, source: ImageReference) -> StagedCopy | None:
        if scene.records.jobs[finished.job_id].is_open:
            scene.records.jobs[finished.job_id] = finished
            scene.droplets.job_ended(APP)
        return await read(app_guid, source)

    monkeypatch.setattr(scene.records, "find_newest_copy", finish_meanwhile)
    scene.platform.pinned.clear()
    scene.droplets.look_at_all()
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), FIRST_PAUSE * 8)


async def test_a_droplet_that_stays_as_it_is_has_a_record_that_says_why(scene: Scene) -> None:
    rules = replace(RULES, policy=Policy(deny=("registry.example.com/*",)))
    async with reconciling(rules) as denied:
        guid = await denied.staged()
        await denied.begin()
        await denied.rest()

        record = await denied.record(guid)
        assert (record.phase, record.reason, record.original) == (DropletPhase.LEFT, Reason.DENIED, TEXT)
        assert denied.api.requests == 0
        assert denied.droplets.status().counts == {(DropletPhase.LEFT, Reason.DENIED): 1}


async def test_a_restart_looks_again_only_at_droplets_of_which_something_may_have_changed(
    scene: Scene,
) -> None:
    """Thousands of droplets that are not to be cached would keep the database busy at each start."""
    scene.rules = replace(RULES, policy=Policy(deny=("registry.example.com/*",)))
    scene.make_droplets()
    denied = await scene.staged(1)
    paused = await scene.staged(2, text="other.example.com/web:1")
    scene.platform.is_paused = True
    await scene.begin()
    found = list[str]()

    async def find_binding(requester: str) -> None:
        found.append(requester)

    scene.records.find_binding = find_binding  # type: ignore[method-assign] # to see who is looked at
    await scene.restart()
    await scene.rest()

    assert found == [f"droplet:{paused}"]
    await asyncio.sleep(RECHECK_INTERVAL + INTERVAL)
    assert f"droplet:{denied}" in found


async def test_what_another_tool_writes_stays(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    await scene.begin()
    guid = await scene.patched()

    scene.api.write(guid, "other.example.com/app:1")
    capsys.readouterr()
    await asyncio.sleep(INTERVAL * 3)

    assert scene.api.image_of(guid) == "other.example.com/app:1"
    said = [line for line in capsys.readouterr().out.splitlines() if "reconciled-droplet" in line]
    assert [Reason.IMAGE_CHANGED_EXTERNALLY in line for line in said] == [True], "once"
    assert (await scene.record(guid)).reason is Reason.IMAGE_CHANGED_EXTERNALLY
    assert len(scene.api.writes) == 1


async def test_somebody_who_keeps_writing_the_original_is_left_alone_after_three_rounds(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()

    for _ in range(5):
        scene.api.write(guid, TEXT)
        scene.droplets.look_at(guid)
        await scene.rest()

    assert len(scene.api.writes) == 3
    assert (await scene.record(guid)).reason is Reason.REVERTED_EXTERNALLY


async def test_lost_events_lead_to_a_listing_and_many_of_them_not_to_many(scene: Scene) -> None:
    await scene.begin()
    scene.droplets.events_were_lost()
    await asyncio.sleep(FIRST_PAUSE + 1)
    assert scene.api.asked == {"list_droplets": 1}

    for _ in range(100):
        scene.droplets.events_were_lost()
        await asyncio.sleep(1.0)
    assert scene.api.asked["list_droplets"] < 8


async def test_a_listing_that_fails_is_repeated_with_growing_pauses(scene: Scene) -> None:
    await scene.begin()
    scene.api.problem = NO_ANSWER
    scene.droplets.look_at_all()
    await asyncio.sleep(INTERVAL)
    assert 3 < scene.api.asked["list_droplets"] < 10

    guid = await scene.staged()
    await scene.cached(await scene.requested())
    scene.api.problem = None
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), INTERVAL * 2)


async def test_a_fault_at_one_droplet_keeps_no_other_from_being_patched(scene: Scene) -> None:
    """Nothing in the reconciliation of droplets may end the daemon, which moves LRPs all the same."""
    guids = [await scene.staged(number) for number in (1, 2)]
    for number in (1, 2):
        await scene.cached(await scene.requested(number), number)
    scene.records.spoiled = "task:build-1"

    scene.start()
    await scene.until(lambda: scene.api.image_of(guids[1]) == text_of(2))
    scene.droplets.note_removed_task(scene.task(1))
    await scene.rest()
    assert scene.api.image_of(guids[0]) == TEXT

    scene.records.spoiled = ""
    await asyncio.sleep(INTERVAL)
    await scene.until(lambda: scene.api.image_of(guids[0]) == text_of(1))


async def test_a_listing_writes_nothing_over_what_a_look_has_recorded_since(scene: Scene) -> None:
    """The record is the last thing that knows what the droplet named before."""
    guid = await scene.staged()
    job = await scene.requested()
    scene.records.slow_reads = 1.0
    scene.start()
    await asyncio.sleep(0.5)  # the listing has seen the droplet, and that its copy is under way
    await scene.cached(job)
    scene.records.slow_reads = 0.0
    scene.droplets.note_removed_task(scene.task())
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), 0.4)
    await asyncio.sleep(10.0)

    record = await scene.record(guid)
    assert (record.phase, record.original) == (DropletPhase.PATCHED, TEXT)


async def test_a_droplet_whose_source_cannot_be_found_is_asked_about_once_an_hour(scene: Scene) -> None:
    guid = await scene.staged()
    scene.api.write(guid, text_of(7))
    scene.api.packages.clear()
    await scene.begin()
    await asyncio.sleep(RECHECK_INTERVAL * 3)

    assert scene.api.asked["find_package"] <= 4


class TestGone:
    async def test_a_droplet_that_was_deleted_is_forgotten_in_the_end(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.patched()

        del scene.api.droplets[guid]
        await asyncio.sleep(INTERVAL + 10)
        record = await scene.record(guid)
        assert (record.reason, record.original) == (Reason.DROPLET_GONE, TEXT)

        await asyncio.sleep(9 * 86_400.0)
        assert await scene.records.find_droplet(guid) is None
        assert guid not in scene.known.index

    async def test_an_expired_droplet_is_left(self, scene: Scene) -> None:
        """Trap 10: the droplet has expired."""
        await scene.begin()
        guid = await scene.patched()

        scene.api.droplets[guid] = replace(scene.api.droplets[guid], state="EXPIRED")
        await asyncio.sleep(INTERVAL + 10)
        assert (await scene.record(guid)).reason is Reason.DROPLET_NOT_STAGED

        before = scene.api.asked["find_droplet"]
        await asyncio.sleep(86_400.0)
        assert scene.api.asked["find_droplet"] - before <= 2

    async def test_a_client_that_may_read_nothing_any_more_forgets_nothing_at_once(
        self, scene: Scene
    ) -> None:
        await scene.begin()
        for number in range(1, 3 * MOST_GONE):
            await scene.patched(number)

        scene.api.asked.clear()
        scene.api.droplets.clear()
        await asyncio.sleep(INTERVAL + 10)

        assert scene.api.asked["find_droplet"] <= MOST_GONE
        assert len(scene.records.droplets) == 3 * MOST_GONE - 1


async def test_the_droplet_that_is_gone_for_longest_is_forgotten_first(scene: Scene) -> None:
    """Stagings of a day expire as many droplets, and those with high GUIDs must have their turn too."""
    scene.droplets.close()
    interval = GONE_RECHECK_INTERVAL
    scene.droplets = Droplets(scene.dependencies, known=scene.known, interval=interval)
    gone = replace(named(1), reason=Reason.DROPLET_GONE, updated_at=scene.now)
    for number in range(1, MOST_GONE + 11):
        await scene.records.save_droplet(replace(gone, droplet_guid=DropletGuid(f"d-{number}")))
    oldest = replace(gone, droplet_guid=DropletGuid("z"), updated_at=scene.now - GONE_FOR - 1)
    await scene.records.save_droplet(oldest)

    await scene.begin()

    assert await scene.records.find_droplet(oldest.droplet_guid) is None
    assert len(scene.records.droplets) == MOST_GONE + 10


async def test_a_droplet_that_gets_a_priority_waits_no_longer_for_a_share_of_the_requests(
    scene: Scene,
) -> None:
    """The background's share may be used up for an hour, and an operator waits."""
    await scene.begin()
    guid = await scene.patched()
    other = await scene.patched(2)
    await asyncio.sleep(AWAITED_FOR)
    scene.platform.pinned.add(APP)
    scene.api.background_may_ask.clear()
    scene.droplets.look_at_all()
    await asyncio.sleep(FIRST_PAUSE * 2)
    assert scene.droplets.status().waiting == 1
    assert {scene.api.image_of(guid), scene.api.image_of(other)} == {text_of(1), text_of(2)}

    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == scene.api.image_of(other) == TEXT, 1.0)


async def test_copies_for_droplets_of_old_take_no_requests_from_stagings(scene: Scene) -> None:
    """Thousands of copies are made after the first start: their droplets wait for the background's share."""
    old = await scene.staged()
    old_job = await scene.requested()
    await asyncio.sleep(NEW_FOR + 1)
    await scene.begin()
    assert scene.api.asked.total() == 0

    scene.api.background_may_ask.clear()
    await scene.cached(old_job)
    scene.droplets.job_ended(APP)
    fresh = await scene.staged(2, app_guid=OTHER_APP)
    scene.droplets.note_removed_task(scene.task(2))
    job = await scene.requested(2, app_guid=OTHER_APP)
    await scene.rest()
    assert scene.api.asked.keys() == {"find_build"}

    await scene.cached(job, 2)
    scene.droplets.job_ended(OTHER_APP)
    await scene.until(lambda: scene.api.image_of(fresh) == text_of(2), 1.0)
    assert scene.api.image_of(old) == TEXT
    scene.api.background_may_ask.set()
    await scene.until(lambda: scene.api.image_of(old) == text_of(1))


async def test_what_was_staged_directly_before_a_restart_waits_for_no_share(scene: Scene) -> None:
    guid = await scene.staged()
    job = await scene.requested()
    scene.api.background_may_ask.clear()
    await scene.begin()

    await scene.cached(job)
    scene.droplets.job_ended(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), 1.0)


async def test_an_order_for_a_droplet_of_old_waits_for_no_share(scene: Scene) -> None:
    guid = await scene.staged()
    job = await scene.requested()
    await asyncio.sleep(NEW_FOR + 1)
    await scene.begin()
    scene.api.background_may_ask.clear()
    order = DropletOrder(Goal.CACHE, scene.now)
    assert scene.droplets.place_order(guid, order, lambda *_: None)
    await scene.rest()

    await scene.cached(job)
    scene.droplets.job_ended(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), 1.0)


async def test_builds_that_cloud_controller_has_deleted_are_looked_for_once(scene: Scene) -> None:
    """The first backlog lasts for hours, and each listing would list the builds of all its apps again."""
    await scene.staged(1, text=OTHER)
    await scene.staged(2)
    await scene.requested(1, text=OTHER)
    await scene.requested(2)
    scene.api.builds.clear()
    scene.api.background_may_ask.clear()
    await asyncio.sleep(NEW_FOR + 1)
    await scene.begin()
    await asyncio.sleep(INTERVAL * 3)
    assert scene.api.asked["list_droplets"] >= 3
    assert scene.api.asked["list_builds"] == 0


async def test_what_was_just_staged_goes_before_thousands_of_orders(scene: Scene) -> None:
    """A plan for a whole platform takes hours, since the requests of an hour are limited."""
    for number in range(1, 61):
        await scene.cached(await scene.requested(number), number)
        await scene.staged(number)
    await asyncio.sleep(NEW_FOR + 1)
    scene.platform.is_paused = True
    await scene.begin()
    scene.records.slow_reads = 1.0
    for number in range(1, 61):
        order = DropletOrder(Goal.CACHE, scene.now)
        assert scene.droplets.place_order(DropletGuid(f"droplet-{number}"), order, lambda *_: None)
    scene.platform.is_paused = False

    fresh = await scene.staged(61, app_guid=OTHER_APP)
    await scene.cached(await scene.requested(61, app_guid=OTHER_APP), 61)
    scene.droplets.note_removed_task(scene.task(61))
    await scene.until(lambda: scene.api.image_of(fresh) == text_of(61), 4.0)

    assert scene.droplets.status().waiting > 40


async def test_many_droplets_of_one_copy_take_no_requests_from_stagings(scene: Scene) -> None:
    """A base image may be that of thousands of apps."""
    await scene.begin()
    for number in range(1, MOST_AT_ONCE + 11):
        scene.known.index.put_record(named(number))
    scene.api.background_may_ask.clear()

    scene.droplets.look_at_copy(guid_of(1))
    await scene.rest()

    assert scene.api.asked == {"find_droplet": MOST_AT_ONCE}


async def test_a_proof_that_comes_while_a_droplet_is_looked_at_is_not_missed(scene: Scene) -> None:
    """Otherwise nobody would look at it again for an hour."""
    guid = await scene.staged()
    await migrated(scene, 1, APP)
    scene.platform.no_pulls = "no canary has run"
    save = scene.records.save_droplet

    async def prove_and_save(record: DropletRecord) -> None:
        if record.reason is Reason.DROPLET_PULLS_NOT_PROVEN and scene.platform.no_pulls:
            scene.platform.no_pulls = None
            scene.droplets.look_at_waiting()
        await save(record)

    scene.records.save_droplet = prove_and_save  # type: ignore[method-assign] # to come in between
    await scene.begin()
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))
