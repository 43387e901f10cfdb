"""What has a droplet looked at again, and what comes of it."""

import asyncio
from dataclasses import replace

import pytest

from controller.droplets.sweep import FIRST_PAUSE
from reconcile.droplets import DropletGuid, DropletOrder, DropletPhase
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import CacheRepositories
from tests.controller.droplets.conftest import APP, INTERVAL, TEXT, Scene, guid_of, text_of
from tests.controller.droplets.memory_api import NO_ANSWER
from tests.reconcile.test_decide import LRP, PROCESS, RULES

pytestmark = pytest.mark.looptime


async def test_a_pinned_app_has_its_original_texts_again_and_unpinned_the_copies(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()

    scene.platform.pinned.add(APP)
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == TEXT)
    assert (await scene.record(guid)).phase is DropletPhase.RESTORED

    scene.platform.pinned.clear()
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


async def test_droplets_go_back_while_the_registry_does_not_answer(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()

    scene.platform.is_restoring = True
    scene.droplets.look_at_all()
    await scene.until(lambda: scene.api.image_of(guid) == TEXT, FIRST_PAUSE * 4)

    scene.platform.is_restoring = False
    scene.droplets.look_at_all()
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), FIRST_PAUSE * 8)


async def test_a_copy_that_needs_verification_is_read_back_although_no_lrp_wants_it(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.staged()
    image = await scene.cached(await scene.requested())
    scene.records.images[guid_of(1)] = replace(image, needs_verification_since=scene.now)

    scene.droplets.look_at(guid)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))

    assert scene.records.images[guid_of(1)].needs_verification_since == 0.0
    assert scene.platform.suspects == []


async def test_a_droplet_gets_a_copy_that_was_corrupt_once_it_is_mended(scene: Scene) -> None:
    """The next listing finds it, though the droplet was looked at a while ago."""
    await scene.begin()
    guid = await scene.staged()
    image = await scene.cached(await scene.requested())
    scene.records.images[guid_of(1)] = replace(image, needs_verification_since=scene.now)
    scene.platform.is_whole = False
    scene.droplets.look_at(guid)
    await scene.until(lambda: scene.platform.suspects == [guid_of(1)])
    await scene.rest()
    assert (await scene.record(guid)).reason is Reason.COPY_INCOMPLETE
    assert scene.api.image_of(guid) == TEXT

    scene.platform.is_whole = True
    scene.droplets.events_were_lost()

    await scene.until(lambda: scene.api.image_of(guid) == text_of(1), FIRST_PAUSE * 8)


async def test_a_copy_that_somebody_else_reads_back_is_waited_for(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.staged()
    image = await scene.cached(await scene.requested())
    scene.records.images[guid_of(1)] = replace(image, needs_verification_since=scene.now)
    scene.platform.is_whole = None

    scene.droplets.look_at(guid)
    await scene.until(lambda: scene.known.index.reason_of(guid) is Reason.COPY_NEEDS_VERIFICATION)

    assert scene.api.image_of(guid) == TEXT
    assert scene.platform.suspects == []


async def test_a_droplet_leaves_a_copy_that_is_lost(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()
    image = scene.records.images[guid_of(1)]
    assert scene.known.index.copies() == {guid_of(1)}

    scene.records.images[guid_of(1)] = replace(image, missing_since=scene.now, lost_since=scene.now)
    scene.droplets.look_at_copy(guid_of(1))
    await scene.until(lambda: scene.api.image_of(guid) == TEXT)

    assert not scene.known.index.names(guid_of(1))


@pytest.mark.parametrize("reason", [Reason.IMAGE_NOT_STARTED, Reason.BRIDGE_TIMEOUT])
async def test_a_droplet_leaves_a_copy_from_which_nothing_of_its_app_can_start(
    scene: Scene, reason: Reason
) -> None:
    """A bridge that has no room says nothing of the copy."""
    await scene.begin()
    guid = await scene.patched()
    scene.runs(LRP)
    scene.records.lrps[PROCESS] = LrpRecord(PROCESS, APP, "", guid_of(1), 1, reason, scene.now)

    scene.droplets.migration_ended(APP, reason)
    await scene.rest()
    assert scene.api.image_of(guid) == (TEXT if reason is Reason.IMAGE_NOT_STARTED else text_of(1))

    scene.records.lrps.clear()
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


@pytest.mark.parametrize("is_migrated", [True, False])
@pytest.mark.parametrize("is_named", [True, False])
async def test_a_droplet_names_its_copy_again_once_an_lrp_of_its_app_runs_from_it(
    scene: Scene,
    is_named: bool,  # noqa: FBT001 - a parameter of pytest
    is_migrated: bool,  # noqa: FBT001
) -> None:
    """Migrated, or desired from it by its owner."""
    await scene.begin()
    guid = await scene.patched() if is_named else await scene.staged()
    scene.runs(LRP)
    reason = Reason.COPY_NOT_PULLED
    scene.records.lrps[PROCESS] = LrpRecord(PROCESS, APP, "", guid_of(1), 1, reason, scene.now)
    if is_named:
        scene.droplets.migration_ended(APP, reason)
    else:
        await scene.cached(await scene.requested())
        scene.droplets.look_at(guid)
    await scene.until(lambda: scene.known.index.reason_of(guid) in {reason, Reason.RESTORED})
    await scene.rest()
    assert scene.api.image_of(guid) == TEXT

    scene.records.lrps.clear()
    if is_migrated:
        scene.droplets.migration_ended(APP, Reason.MIGRATED)
    else:
        scene.droplets.copy_works_again(APP)

    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


async def test_a_droplet_leaves_a_former_copy_that_cells_cannot_pull_until_it_may_name_the_new_one(
    scene: Scene,
) -> None:
    """Cloud Controller would desire what is missing from there again, while no canary passes."""
    await scene.begin()
    guid = await scene.patched()
    image = replace(scene.records.images[guid_of(1)], registry=RULES.cache.address)
    scene.records.images[guid_of(1)] = image
    scene.rules = replace(RULES, cache=CacheRepositories("new.example:8080", former=(RULES.cache,)))
    scene.platform.no_pulls = "no canary could show whether cells can pull"
    await scene.restart()
    await scene.rest()
    assert scene.api.image_of(guid) == text_of(1)

    scene.droplets.former_copy_failed(APP, guid_of(1), "manifest unknown")
    await scene.until(lambda: scene.api.image_of(guid) == TEXT)
    record = await scene.record(guid)
    assert (record.phase, record.detail) == (DropletPhase.RESTORED, "copy-not-pulled: manifest unknown")

    scene.records.images[guid_of(1)] = replace(image, registry="new.example:8080")
    scene.platform.no_pulls = None
    scene.droplets.look_at_waiting()
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1).replace("cache.", "new."))
    scene.droplets.look_at_app(APP)
    await scene.rest()
    assert scene.api.image_of(guid) == text_of(1).replace("cache.", "new."), "that one has not failed"


async def test_a_copy_that_is_deleted_while_a_droplet_is_to_name_it_is_not_named(scene: Scene) -> None:
    """Whoever deletes copies looks at the records first; what it has not seen must not be sent."""
    await scene.begin()
    guid = await scene.staged()
    await scene.cached(await scene.requested())
    scene.records.of_saves.append(scene.records.images.clear)
    scene.droplets.note_removed_task(scene.task())
    await scene.until(lambda: bool(scene.platform.requests))
    await scene.rest()

    assert scene.api.image_of(guid) == TEXT
    assert not scene.api.writes
    assert not (await scene.record(guid)).may_name_copy


async def test_a_droplet_that_is_looked_at_before_its_build_was_followed_is_known_by_its_staging(
    scene: Scene,
) -> None:
    """Otherwise it would ask for a copy of what its tag means now."""
    await scene.begin()
    guid = await scene.staged()
    other = await scene.staged(2, text=TEXT)
    await scene.cached(await scene.requested())
    scene.api.current.clear()

    scene.droplets.look_at(guid)
    scene.droplets.look_at(other)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))
    await scene.rest()

    assert (await scene.record(guid)).build_guid == "build-1"
    assert scene.api.image_of(other) == TEXT, "the staging led to the first one"
    asked = scene.api.asked["find_build"]
    scene.droplets.look_at(other)
    await scene.rest()
    assert scene.api.asked["find_build"] == asked == 2


class TestPause:
    async def test_nothing_is_written_during_a_pause_and_all_after_it(self, scene: Scene) -> None:
        scene.platform.is_paused = True
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(INTERVAL * 2)
        assert scene.api.image_of(guid) == TEXT
        assert (await scene.record(guid)).reason is Reason.PAUSED

        scene.platform.is_paused = False
        scene.droplets.look_at_all()
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1), FIRST_PAUSE * 4)

    async def test_an_order_is_followed_during_a_pause(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.patched()
        scene.platform.is_paused = True
        reported = list[tuple[DropletGuid, Reason, str]]()

        assert scene.droplets.place_order(
            guid, DropletOrder(Goal.SOURCE, since=scene.now), lambda *each: reported.append(each)
        )
        await scene.until(lambda: scene.api.image_of(guid) == TEXT)
        await scene.rest()

        assert [reason for _, reason, _ in reported] == [Reason.RESTORED]
        assert scene.droplets.order_of(guid) is None


class TestOrders:
    async def test_one_order_at_a_time_is_waited_for(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.patched()
        order = DropletOrder(Goal.CACHE, since=scene.now)
        scene.api.problem = NO_ANSWER

        assert scene.droplets.place_order(guid, order, lambda *_: None)
        assert not scene.droplets.place_order(guid, order, lambda *_: None)

        scene.droplets.withdraw_order(guid)
        assert scene.droplets.place_order(guid, order, lambda *_: None)

    async def test_a_failed_look_is_reported_and_the_order_stands(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.patched()
        scene.api.problem = NO_ANSWER
        reported = list[Reason]()

        scene.droplets.place_order(
            guid, DropletOrder(Goal.SOURCE, since=scene.now), lambda _, reason, __: reported.append(reason)
        )
        await scene.until(lambda: bool(reported))
        assert reported == [Reason.CHECK_FAILED]

        scene.api.problem = None
        await scene.until(lambda: scene.api.image_of(guid) == TEXT, 30.0)
        await scene.rest()
        assert reported[-1] is Reason.RESTORED


class TestRestart:
    async def test_what_was_being_written_is_read_back_first(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested())
        scene.api.loses_answers = True
        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: bool(scene.api.writes))
        scene.api.loses_answers = False

        await scene.restart()
        await scene.until(lambda: scene.known.index.count(DropletPhase.PATCHED) == 1)

        assert len(scene.api.writes) == 1
        assert (await scene.record(guid)).original == TEXT

    async def test_a_staging_that_ended_while_no_daemon_ran_is_found_by_its_build(self, scene: Scene) -> None:
        await scene.begin()
        await scene.stop()
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        await scene.restart()
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))

        assert (await scene.record(guid)).build_guid == "build-1"
        assert scene.api.asked["list_builds"] == 1
        assert scene.api.asked["find_current_droplet"] == 0

    async def test_a_second_look_at_droplets_that_name_their_copies_asks_for_the_listing_alone(
        self, scene: Scene
    ) -> None:
        await scene.begin()
        for number in range(1, 6):
            await scene.patched(number)

        scene.api.asked.clear()
        await scene.restart()
        await asyncio.sleep(INTERVAL * 3 + 1)

        assert scene.api.asked == {"list_droplets": 4}
