"""What becomes of the droplet of a staging."""

import asyncio
from dataclasses import replace

import pytest

from controller.droplets.builds import CALLBACK_PAUSE, GIVE_UP_AFTER
from reconcile.droplets import BuildGuid, BuildState, DropletPhase
from reconcile.errors import Denied, RateLimited, Unavailable
from reconcile.lrps import AppGuid, TaskState
from reconcile.reasons import Reason
from tests.controller.droplets.conftest import APP, TEXT, Scene, text_of
from tests.controller.droplets.memory_api import NO_ANSWER

pytestmark = pytest.mark.looptime

BUILD = BuildGuid("build-1")


class TestInTime:
    async def test_a_copy_that_is_ready_is_named_with_three_requests(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested())
        began = scene.now

        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))
        took = scene.now - began
        await scene.rest()

        assert scene.api.asked == {"find_build": 1, "find_droplet": 1, "update_image": 1}
        assert took < 1.0
        record = await scene.record(guid)
        assert (record.original, record.phase, record.build_guid) == (TEXT, DropletPhase.PATCHED, BUILD)

    async def test_the_record_is_written_before_the_request(self, scene: Scene) -> None:
        await scene.begin()
        scene.api.refusal = Unavailable("cloud-controller", "timeout", "later")
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: scene.api.asked["update_image"] == 1)
        await scene.rest()

        record = await scene.record(guid)
        assert (record.original, record.target, record.phase) == (TEXT, text_of(1), DropletPhase.PATCHING)

    async def test_the_login_of_the_staging_is_what_cells_must_show_that_they_can_pull_with(
        self, scene: Scene
    ) -> None:
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested(needs_login=True))
        task = scene.task(1, "-dockerUser=robot", "-dockerPassword=pw")

        scene.droplets.note_removed_task(replace(task, placement_tags=frozenset({"segment"})))
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))
        await scene.rest()

        assert set(scene.platform.asked_pulls[2:]) == {(frozenset({"segment"}), "robot")}
        assert (await scene.record(guid)).username == "robot"

    async def test_events_of_one_staging_that_come_again_ask_for_nothing_more(self, scene: Scene) -> None:
        await scene.begin()
        await scene.patched()
        before = scene.api.requests

        for _ in range(3):
            scene.droplets.note_task(scene.task())
            scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(CALLBACK_PAUSE * 2)

        assert scene.api.requests == before


class TestLate:
    async def test_nobody_is_asked_for_a_droplet_before_its_copy_is_there(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()
        job = await scene.requested()

        scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(60.0)
        assert scene.api.asked == {"find_build": 1}

        await scene.cached(job)
        scene.droplets.job_ended(APP)
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))
        await scene.rest()
        assert scene.api.asked == {"find_build": 1, "find_droplet": 1, "update_image": 1}

    async def test_the_end_of_a_job_is_no_news_for_droplets_that_name_their_copies(
        self, scene: Scene
    ) -> None:
        await scene.begin()
        await scene.patched()
        before = scene.api.requests

        scene.droplets.job_ended(APP)
        await scene.rest()

        assert scene.api.requests == before


class TestBuilds:
    async def test_a_build_without_a_droplet_is_asked_for_again_and_soon(self, scene: Scene) -> None:
        """Trap 9: the build is staged, and its droplet null, for a moment."""
        await scene.begin()
        guid = await scene.staged()
        staged = scene.api.builds[BUILD]
        scene.api.builds[BUILD] = replace(staged, droplet_guid=None)
        await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: scene.api.asked["find_build"] == 2)
        scene.api.builds[BUILD] = staged
        began = scene.now
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))

        assert scene.now - began < 1.5
        assert scene.api.asked["find_build"] == 3

    async def test_a_build_that_never_gets_a_droplet_is_given_up(self, scene: Scene) -> None:
        await scene.begin()
        await scene.staged()
        scene.api.builds[BUILD] = replace(scene.api.builds[BUILD], droplet_guid=None)
        await scene.requested()

        scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(GIVE_UP_AFTER * 2)

        asked = scene.api.asked["find_build"]
        assert 10 < asked < 60
        await asyncio.sleep(GIVE_UP_AFTER)
        assert scene.api.asked["find_build"] == asked

    async def test_a_build_that_failed_or_is_gone_leads_to_nothing(self, scene: Scene) -> None:
        """Trap 9: build FAILED, build pruned."""
        await scene.begin()
        await scene.staged(1)
        scene.api.builds[BUILD] = replace(scene.api.builds[BUILD], state=BuildState.FAILED)
        await scene.requested(1)
        await scene.requested(2)

        scene.droplets.note_removed_task(scene.task(1))
        scene.droplets.note_removed_task(scene.task(2))
        await asyncio.sleep(GIVE_UP_AFTER / 2)

        assert scene.api.asked == {"find_build": 2}

    async def test_a_task_of_which_only_the_end_was_reported_is_followed_later(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        scene.droplets.note_task(replace(scene.task(), state=TaskState.RUNNING))
        scene.droplets.note_task(scene.task())
        await asyncio.sleep(CALLBACK_PAUSE - 1)
        assert scene.api.requests == 0

        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))

    async def test_a_staging_that_ends_before_its_copy_is_requested_is_followed(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()

        scene.droplets.note_removed_task(scene.task())
        await scene.rest()
        assert scene.api.requests == 0

        await scene.cached(await scene.requested())
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1), seconds=2.0)
        assert scene.api.asked == {"find_build": 1, "find_droplet": 1, "update_image": 1}

    async def test_a_staging_that_failed_or_is_not_to_be_cached_is_not_followed(self, scene: Scene) -> None:
        await scene.begin()
        await scene.staged()

        scene.droplets.note_removed_task(replace(scene.task(1), failed=True))
        scene.droplets.note_removed_task(scene.task(2))  # nobody has requested a copy for it
        scene.droplets.note_removed_task(replace(scene.task(3), domain="cf-tasks"))
        await asyncio.sleep(60.0)

        assert scene.api.requests == 0


class TestFailures:
    async def test_an_answer_that_was_lost_is_read_back_and_not_written_again(self, scene: Scene) -> None:
        await scene.begin()
        guid = await scene.staged()
        await scene.cached(await scene.requested())
        scene.api.loses_answers = True

        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: bool(scene.api.writes))
        await scene.rest()
        assert (await scene.record(guid)).reason is Reason.PATCH_UNCONFIRMED

        scene.api.loses_answers = False
        await asyncio.sleep(30.0)
        await scene.rest()
        assert len(scene.api.writes) == 1
        assert (await scene.record(guid)).phase is DropletPhase.PATCHED

    async def test_an_api_that_is_down_for_an_hour_is_asked_seldom_and_loses_nothing(
        self, scene: Scene
    ) -> None:
        await scene.begin()
        guids = [await scene.staged(number) for number in range(1, 21)]
        for number in range(1, 21):
            await scene.cached(await scene.requested(number), number)
        scene.api.problem = NO_ANSWER

        for number in range(1, 21):
            scene.droplets.note_removed_task(scene.task(number))
        await asyncio.sleep(3600.0)
        assert scene.api.requests < 250

        scene.api.problem = None
        await asyncio.sleep(600.0)
        await scene.until(lambda: all(each != TEXT for each in map(scene.api.image_of, guids)))
        assert [scene.api.image_of(guid) for guid in guids] == [text_of(number) for number in range(1, 21)]

    async def test_a_limit_that_is_reached_is_waited_for_by_all(self, scene: Scene) -> None:
        await scene.begin()
        scene.api.problem = RateLimited(
            "cloud-controller", "CF-RateLimitExceeded", "later", retry_after=900.0
        )
        for number in (1, 2, 3):
            await scene.staged(number)
            await scene.requested(number)
            scene.droplets.note_removed_task(scene.task(number))
        await asyncio.sleep(890.0)

        assert scene.api.requests == 1

    async def test_a_missing_scope_keeps_nobody_trying_for_each_droplet(self, scene: Scene) -> None:
        await scene.begin()
        scene.api.refusal = Denied("cloud-controller", "cloud-controller-scope-missing", "update_build_state")
        for number in range(1, 31):
            await scene.staged(number)
            await scene.cached(await scene.requested(number), number)
            scene.droplets.note_removed_task(scene.task(number))
        await asyncio.sleep(1800.0)

        assert scene.api.asked["update_image"] < 40
        record = await scene.records.list_droplets()
        assert {each.reason for each in record} <= {Reason.CLOUD_CONTROLLER_DENIED, Reason.WAITING_FOR_COPY}

    async def test_an_api_that_takes_no_changes_for_a_while_is_not_tried_for_each_droplet(
        self, scene: Scene
    ) -> None:
        """It reads from a database that it cannot write to."""
        await scene.begin()
        scene.api.refusal = Unavailable("cloud-controller", "cloud-controller-failed", "HTTP status 503")
        guids = [await scene.staged(number, app_guid=AppGuid(f"app-{number}")) for number in range(1, 31)]
        for number in range(1, 31):
            await scene.cached(await scene.requested(number, app_guid=AppGuid(f"app-{number}")), number)
            scene.droplets.note_removed_task(scene.task(number))
        await asyncio.sleep(600.0)
        assert scene.api.asked["update_image"] <= 50

        scene.api.refusal = None
        await scene.until(lambda: all(scene.api.image_of(guid) != TEXT for guid in guids), 700.0)

    async def test_whoever_may_not_write_may_still_read(self, scene: Scene) -> None:
        await scene.begin()
        scene.api.refusal = Denied("cloud-controller", "cloud-controller-scope-missing", "update_build_state")
        await scene.staged(1)
        await scene.cached(await scene.requested(1), 1)
        scene.droplets.note_removed_task(scene.task(1))
        await scene.until(lambda: scene.api.asked["update_image"] == 1)

        await scene.staged(2)
        await scene.requested(2)
        scene.droplets.note_removed_task(scene.task(2))
        await scene.rest()

        assert scene.api.asked["find_build"] == 2

    async def test_another_daemons_store_keeps_every_droplet_as_it_is(self, scene: Scene) -> None:
        await scene.begin()
        scene.platform.inactive = Unavailable("bbs", "other-store-active", "x", may_have_happened=False)
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(60.0)
        assert scene.api.asked["update_image"] == 0

        scene.platform.inactive = None
        await asyncio.sleep(300.0)
        assert scene.api.image_of(guid) == text_of(1)


class TestObstacles:
    async def test_no_droplet_names_a_copy_that_cells_are_not_known_to_pull(self, scene: Scene) -> None:
        await scene.begin()
        scene.platform.no_pulls = "no canary has run"
        guid = await scene.staged()
        await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await asyncio.sleep(120.0)
        assert scene.api.asked == {"find_build": 1, "find_droplet": 1}, "it is read to record why it waits"
        record = await scene.record(guid)
        assert (record.original, record.phase) == (TEXT, DropletPhase.LEFT)
        assert (record.reason, record.detail) == (Reason.DROPLET_PULLS_NOT_PROVEN, "no canary has run")

        scene.platform.no_pulls = None
        scene.droplets.look_at_waiting()
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))

    async def test_a_copy_that_is_not_in_the_registry_is_not_named_but_looked_for(self, scene: Scene) -> None:
        await scene.begin()
        scene.platform.missing = "its manifest"
        guid = await scene.staged()
        image = await scene.cached(await scene.requested())

        scene.droplets.note_removed_task(scene.task())
        await scene.until(lambda: bool(scene.platform.suspects))
        await scene.rest()
        assert scene.api.image_of(guid) == TEXT
        assert scene.platform.suspects[0] == image.cache_guid

        scene.platform.missing = ""
        await asyncio.sleep(30.0)
        assert scene.api.image_of(guid) == text_of(1)

    async def test_cells_are_asked_ahead_whether_they_can_pull(self, scene: Scene) -> None:
        await scene.begin()
        assert [username != "" for _, username in scene.platform.asked_pulls] == [False, True]
