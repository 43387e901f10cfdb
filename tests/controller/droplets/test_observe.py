"""What a decision about a droplet rests on: which of the copies of its app is its own, and what its owner asks."""

import asyncio
from dataclasses import replace

import pytest

from reconcile.droplets import DropletGuid, PackageGuid
from reconcile.lrps import RunAction
from reconcile.policy import CacheMode, Policy
from reconcile.reasons import Reason
from reconcile.records import Binding, CacheJob, JobId, JobState, requester_of_droplet, requester_of_lrp
from reconcile.references import CacheRepositories, parse_image_reference
from reconcile.staging import OPT_IN_VARIABLE
from tests.controller.droplets.conftest import APP, TEXT, Scene, digest_of, named, reconciling, text_of
from tests.reconcile.test_decide import LRP, RULES

pytestmark = pytest.mark.looptime

OTHER = "registry.example.com/team/app:2"


async def asked_for(scene: Scene, guid: DropletGuid, *, text: str = TEXT) -> None:
    """Let a droplet have asked for a copy itself, and got it as the second one."""
    job = await scene.requested(2, text=text)
    staged_at = int(scene.now * 1e9)
    own = replace(job, job_id=JobId("own"))
    await scene.records.add_job(
        own, Binding(APP, job.source, requester_of_droplet(guid), staged_at, own.job_id)
    )
    await scene.cached(own, 2)


async def test_the_copy_that_a_droplet_asked_for_after_its_staging_had_none_is_its_own(scene: Scene) -> None:
    guid = await scene.staged()
    failed = replace(await scene.requested(), state=JobState.FAILED, failure="gave-up: no answer")
    await scene.records.save_job(failed)
    await asked_for(scene, guid)

    await scene.begin()
    scene.droplets.note_removed_task(scene.task())
    await scene.until(lambda: scene.api.image_of(guid) == text_of(2))

    assert scene.platform.requests == []


async def test_a_copy_of_another_image_than_the_staged_one_is_not_its_own(scene: Scene) -> None:
    """Somebody wrote that image into the droplet, which asked for its copy while its staging was not known."""
    guid = await scene.staged()
    await scene.cached(await scene.requested())
    await asked_for(scene, guid, text=OTHER)
    scene.api.write(guid, OTHER)

    await scene.begin()
    scene.droplets.note_removed_task(scene.task())
    await scene.rest()

    assert scene.api.image_of(guid) == OTHER
    assert (await scene.record(guid)).reason is Reason.IMAGE_CHANGED_EXTERNALLY


@pytest.mark.parametrize(("choice", "is_patched"), [("false", False), ("true", True), ("", True)])
async def test_an_owner_who_refused_after_the_staging_is_heard(choice: str, *, is_patched: bool) -> None:
    rules = replace(RULES, policy=Policy(CacheMode.OPT_OUT))
    async with reconciling(rules) as scene:
        guid = await scene.staged()
        await scene.cached(await scene.requested())
        scene.runs(replace(LRP, action=RunAction("/lifecycle/launcher", env={OPT_IN_VARIABLE: choice})))

        await scene.begin()
        scene.droplets.note_removed_task(scene.task())
        await scene.rest()

        assert scene.api.image_of(guid) == (text_of(1) if is_patched else TEXT)
        reason = (await scene.record(guid)).reason
        assert reason is (Reason.DROPLET_PATCHED if is_patched else Reason.OPTED_OUT)


async def test_the_login_of_a_running_lrp_serves_a_droplet_that_asks_for_a_copy_of_its_own(
    scene: Scene,
) -> None:
    """The LRP's copy was requested a moment after the droplet was made: perhaps not what its tag meant."""
    scene.runs(LRP)
    guid = await scene.staged(app_guid=LRP.app_guid)
    source, requester = parse_image_reference(TEXT).canonical(), requester_of_lrp(LRP.process_guid)
    job = CacheJob(
        JobId("of-lrp"),
        source,
        JobState.QUEUED,
        Reason.NOT_CACHED,
        scene.now,
        scene.now,
        needs_credentials=True,
    )
    await scene.records.add_job(job, Binding(LRP.app_guid, source, requester, 0, job.job_id))
    await scene.cached(job)

    await scene.begin()
    await scene.until(lambda: bool(scene.platform.requests))

    (request,) = scene.platform.requests
    assert (request.requester, request.credentials) == (requester_of_droplet(guid), LRP.credentials)


async def test_what_keeps_cells_from_pulling_holds_for_a_copy_of_an_earlier_staging_too(scene: Scene) -> None:
    """The image is pinned by its digest, and its source has dropped it since: its own staging has no copy."""
    text = f"registry.example.com/team/app@{digest_of(1)}"
    guid = await scene.staged(2, text=text)
    failed = replace(await scene.requested(2, text=text), state=JobState.FAILED, failure="gave-up: gone")
    await scene.records.save_job(failed)
    await asyncio.sleep(1.0)
    await scene.cached(await scene.requested(1, text=text))
    scene.platform.no_pulls = "no canary has run"

    await scene.begin()
    scene.droplets.note_removed_task(scene.task(2))
    await scene.rest()
    assert scene.api.image_of(guid) == text

    scene.platform.no_pulls = None
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


async def test_what_keeps_cells_from_pulling_holds_for_a_move_to_another_registry_too() -> None:
    former = text_of(1).replace("cache.example:8080", "old.example:8080")
    cache = CacheRepositories("cache.example:8080", former=(CacheRepositories("old.example:8080"),))
    async with reconciling(replace(RULES, cache=cache)) as scene:
        guid = await scene.staged()
        await scene.cached(await scene.requested())
        scene.records.bindings.clear()
        scene.api.write(guid, former)
        record = replace(named(1), registry="old.example:8080", target=former, updated_at=scene.now)
        await scene.records.save_droplet(record)
        scene.platform.no_pulls = "no canary has run"

        await scene.begin()
        await asyncio.sleep(60.0)
        assert scene.api.image_of(guid) == former

        scene.platform.no_pulls = None
        scene.droplets.look_at(guid)
        await scene.until(lambda: scene.api.image_of(guid) == text_of(1))


@pytest.mark.parametrize("username", ["", "robot"])
async def test_the_package_says_whether_cells_are_given_a_login_where_nobody_has_seen_it(
    username: str, scene: Scene
) -> None:
    """Many users give a login for public images too. A registry may refuse it and let others pull."""
    guid = await scene.staged()
    package = scene.api.packages[PackageGuid("package-1")]
    scene.api.packages[package.guid] = replace(package, username=username)
    await asked_for(scene, guid)
    scene.platform.no_pulls_with_login = "cells cannot pull with a login that the registry does not know"

    await scene.begin()
    await asyncio.sleep(60.0)
    assert scene.api.image_of(guid) == (TEXT if username else text_of(2))


async def test_no_package_is_read_where_the_login_makes_no_difference(scene: Scene) -> None:
    guid = await scene.staged()
    await asked_for(scene, guid)

    scene.start()
    await scene.until(lambda: scene.api.image_of(guid) == text_of(2))
    assert scene.api.asked["find_package"] == 0


async def test_a_copy_of_a_droplet_of_which_no_login_is_known_must_be_pulled_with_and_without(
    scene: Scene,
) -> None:
    guid = await scene.staged()
    scene.api.droplets[guid] = replace(scene.api.droplets[guid], package_guid=None)
    await asked_for(scene, guid)
    scene.platform.no_pulls_with_login = "cells cannot pull with a login that the registry does not know"

    await scene.begin()
    await asyncio.sleep(60.0)
    assert scene.api.image_of(guid) == TEXT
    assert (await scene.record(guid)).reason is Reason.DROPLET_PULLS_NOT_PROVEN
