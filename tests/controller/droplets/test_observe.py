"""What a decision about a droplet rests on: which of the copies of its app is its own, and what its owner asks."""

from dataclasses import replace

import pytest

from reconcile.droplets import DropletGuid
from reconcile.lrps import RunAction
from reconcile.policy import CacheMode, Policy
from reconcile.reasons import Reason
from reconcile.records import Binding, CacheJob, JobId, JobState, requester_of_droplet, requester_of_lrp
from reconcile.references import parse_image_reference
from reconcile.staging import OPT_IN_VARIABLE
from tests.controller.droplets.conftest import APP, TEXT, Scene, reconciling, text_of
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
