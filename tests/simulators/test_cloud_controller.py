# ruff: noqa: N802 - names carry the numbers of known bugs
"""The simulated Cloud Controller: what it desires, and what its sync puts right or leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRPUpdate
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import Bbs, desired, serve_bbs, tasks
from tests.simulators.bbs_probe import is_up, probe, some_lrp, until
from tests.simulators.capi.records import BuildState, TaskState
from tests.simulators.cell import CellSettings, SimulatedCell, TaskResult
from tests.simulators.certificates import Certificates
from tests.simulators.cloud_controller import CloudController, InProcess, OverHttp
from tests.simulators.recipes import Image, InvalidDockerUri, app_task, rootfs_from_image

pytestmark = pytest.mark.usefixtures("servers")

HEX = "0123456789abcdef" * 4


@contextlib.asynccontextmanager
async def platform(certificates: Certificates) -> AsyncIterator[tuple[Bbs, CloudController]]:
    settings = CellSettings(start_delay=0, stop_delay=0, task_delay=0)
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, settings),
        CloudController(InProcess(bbs)) as controller,
    ):
        yield bbs, controller


@pytest.mark.parametrize(
    ("image", "rootfs"),
    [
        ("busybox", "docker:///library/busybox"),
        ("team/app:v1.2", "docker:///team/app#v1.2"),
        ("docker.io/busybox", "docker://docker.io/library/busybox"),
        ("index.docker.io/busybox", "docker://index.docker.io/busybox"),
        ("localhost:5000/app:1", "docker://localhost:5000/app#1"),
        ("myregistry:5000", "docker:///library/myregistry#5000"),
        (f"busybox@sha256:{HEX}", f"docker:///library/busybox@sha256#{HEX}"),
        (f"reg.example.com/p/a:v1@sha256:{HEX}", f"docker://reg.example.com/p/a#v1@sha256:{HEX}"),
        ("reg.example.com/p/a:v1/x", "docker://reg.example.com/p/a#latest"),
        ("a", "docker:///library/a"),
    ],
)
def test_an_image_becomes_the_rootfs_that_cloud_controller_writes(image: str, rootfs: str) -> None:
    assert rootfs_from_image(image) == rootfs


@pytest.mark.parametrize(
    "image",
    ["docker://busybox", "reg.example.com/a", "reg.example.com/Team/app", "busybox:", "busybox@sha256:abc"],
)
def test_an_image_that_cloud_controller_refuses_is_refused(image: str) -> None:
    with pytest.raises(InvalidDockerUri):
        rootfs_from_image(image)


async def test_a_push_stages_starts_and_runs(certificates: Certificates) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1.36", "user", "password"), instances=2)
        await until(is_up(bbs, app.process_guid, 2))

        lrp = bbs.state.desired[app.process_guid]

        await until(lambda: not bbs.state.tasks)
    assert (lrp.root_fs, lrp.image_username, lrp.image_password) == (
        "docker:///library/busybox#1.36",
        "user",
        "password",
    )
    assert (lrp.domain, lrp.annotation, lrp.log_guid) == ("cf-apps", app.updated_at, app.guid)
    assert [(build.state, build.error) for build in app.builds.values()] == [(BuildState.STAGED, "")]


async def test_a_staging_task_is_what_cloud_controller_sends(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, CloudController(InProcess(bbs)) as controller:
        image = Image("registry.example.com/payments/api:2.4", "robot", "secret")
        app = controller.create("api", image, env={"DIEGO_DOCKER_CACHE": "true"})
        build_guid = await controller.stage(app)

        task = bbs.state.tasks[build_guid]

    run = task.task_definition.action.timeout_action.action.emit_progress_action.action.run_action
    assert (task.domain, task.task_definition.annotation) == ("cf-app-staging", "")
    assert list(run.args) == [
        "-outputMetadataJSONFilename=/tmp/result.json",
        "-dockerRef=registry.example.com/payments/api:2.4",
        "-dockerUser=robot",
        "-dockerPassword=secret",
    ]
    assert run.env[0].name == "DIEGO_DOCKER_CACHE"


async def test_a_failed_staging_leaves_no_droplet(certificates: Certificates) -> None:
    failing = CellSettings(task_delay=0, task_result=lambda _task: TaskResult("", True, "staging failed"))
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, failing),
        CloudController(InProcess(bbs)) as controller,
    ):
        app = await controller.push("web", Image("busybox"))

    (build,) = app.builds.values()
    assert (app.droplet, build.state, build.error) == (None, BuildState.FAILED, "staging failed")
    assert not app.is_started


async def test_the_sync_desires_updates_removes_and_bumps(certificates: Certificates) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        stranger = some_lrp("stranger", instances=0)
        stranger.domain = "cf-apps"
        elsewhere = some_lrp("elsewhere", instances=0)
        desired.desire(bbs.state, stranger)
        desired.desire(bbs.state, elsewhere)
        change = DesiredLRPUpdate(annotation="altered", instances=5)
        desired.update(bbs.state, app.process_guid, change)

        await controller.sync()

        lrp = bbs.state.desired[app.process_guid]
        assert (lrp.annotation, lrp.instances) == (app.updated_at, 1)
        assert set(bbs.state.desired) == {app.process_guid, "elsewhere"}
        assert bbs.state.fresh_domains() == ["cf-apps"]

        desired.remove(bbs.state, app.process_guid)
        await controller.sync()
        assert app.process_guid in bbs.state.desired


async def test_P8_the_sync_leaves_a_swapped_rootfs_with_the_same_annotation(
    certificates: Certificates,
) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        swapped = bbs.state.desired[app.process_guid]
        desired.remove(bbs.state, app.process_guid)
        swapped.root_fs = "docker://cache:8080/some-guid#latest"
        desired.desire(bbs.state, swapped)

        await controller.sync()
        assert bbs.state.desired[app.process_guid].root_fs == "docker://cache:8080/some-guid#latest"

        await controller.restart(app)
        assert bbs.state.desired[app.process_guid].root_fs == "docker:///library/busybox#1"


async def test_scaling_and_routes_update_in_place_and_keep_the_ssh_route(certificates: Certificates) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        guid = app.process_guid
        key = bbs.state.desired[guid].routes.routes["diego-ssh"]

        await controller.scale(app, 3)
        await controller.map_route(app, "more.example.com")

        lrp = bbs.state.desired[guid]
        assert (app.process_guid, lrp.instances, lrp.annotation) == (guid, 3, app.updated_at)
        assert lrp.routes.routes["diego-ssh"] == key
        assert b"more.example.com" in lrp.routes.routes["cf-router"]


async def test_a_stopped_app_has_no_lrp_and_a_deleted_one_no_record(certificates: Certificates) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        await controller.stop(app)
        await controller.sync()
        assert not bbs.state.desired

        await controller.delete(app)
        assert not controller.apps


async def test_a_staging_ends_when_its_app_is_deleted(certificates: Certificates) -> None:
    async with platform(certificates) as (_, controller):
        app = await controller.push("web", Image("busybox:1"))
        controller.finishing.clear()
        build = await controller.stage(app)
        waiting = asyncio.create_task(controller.staged(app, build))

        await controller.delete(app)

        assert await waiting == "The app was deleted"
        controller.finishing.set()


async def test_an_image_that_cannot_be_converted_keeps_the_domain_from_being_fresh(
    certificates: Certificates,
) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        app.droplet = Image("UPPER/case")
        desired.remove(bbs.state, app.process_guid)

        await controller.sync()

        assert (controller.bumps, bbs.state.fresh_domains()) == (0, [])


async def test_it_syncs_over_http_by_itself(certificates: Certificates) -> None:
    async with (
        serve_bbs(certificates) as bbs,
        probe(bbs) as probed,
        CloudController(OverHttp(probed.client), interval=0.01) as controller,
    ):
        app = controller.create("web", Image("busybox:1"))
        app.droplet, app.is_started = app.package, True

        await until(lambda: app.process_guid in bbs.state.desired and controller.bumps > 0)


async def test_a_running_staging_task_is_there_to_be_seen(certificates: Certificates) -> None:
    settings = CellSettings(task_delay=0)
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, settings) as cell,
        CloudController(InProcess(bbs)) as controller,
    ):
        cell.task_gate.clear()
        app = controller.create("web", Image("busybox"))
        build_guid = await controller.stage(app)
        await until(lambda: bbs.state.tasks[build_guid].state == Task.Running)

        cell.task_gate.set()

        assert await controller.staged(app, build_guid) == ""
        assert app.droplet == Image("library/busybox:latest")


async def test_a_rolling_deployment_ends_with_a_web_process_of_its_own_guid(
    certificates: Certificates,
) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"), instances=3)
        former = app.process_guid
        await until(is_up(bbs, former, 3))

        await controller.deployed(await controller.deploy(app))
        await controller.sync()

        assert set(bbs.state.desired) == {app.process_guid}
        assert not app.process_guid.startswith(app.guid)
        assert bbs.state.desired[app.process_guid].log_guid == app.guid
        assert (app.instances, bbs.state.desired[app.process_guid].instances) == (3, 3)
        await until(is_up(bbs, app.process_guid, 3))


async def test_a_deployment_of_what_cannot_be_converted_keeps_the_domain_from_being_fresh(
    certificates: Certificates,
) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        former = app.process_guid
        app.droplet = Image("UPPER/case")
        with pytest.raises(InvalidDockerUri):
            await controller.deploy(app)
        await controller.sync()

        assert set(bbs.state.desired) == {former}
        assert controller.bumps == 0


async def test_a_rollback_deploys_the_droplet_of_an_earlier_revision(certificates: Certificates) -> None:
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        first = app.current
        assert await controller.push_again(app, Image("busybox:2")) == ""
        assert bbs.state.desired[app.process_guid].root_fs == "docker:///library/busybox#2"

        await controller.roll_back(app, 1)

        assert bbs.state.desired[app.process_guid].root_fs == "docker:///library/busybox#1"
        assert app.current is first
        assert [(each.version, each.droplet_guid == first.guid) for each in app.revisions if first] == [
            (1, True),
            (2, False),
            (3, True),
        ]


async def test_a_process_stays_with_its_revisions_droplet_until_it_is_started_again(
    certificates: Certificates,
) -> None:
    """A new current droplet alone changes no rootfs, also when the sync has to desire the LRP again."""
    async with platform(certificates) as (bbs, controller):
        app = await controller.push("web", Image("busybox:1"))
        app.add_package(Image("busybox:2"))
        await controller.staged(app, await controller.stage(app))
        desired.remove(bbs.state, app.process_guid)
        await controller.sync()
        assert bbs.state.desired[app.process_guid].root_fs == "docker:///library/busybox#1"

        await controller.restart(app)
        assert bbs.state.desired[app.process_guid].root_fs == "docker:///library/busybox#2"


async def test_a_one_off_task_runs_from_the_current_droplet_and_an_unknown_one_is_cancelled(
    certificates: Certificates,
) -> None:
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, CellSettings(task_delay=0)) as cell,
        CloudController(InProcess(bbs)) as controller,
    ):
        app = controller.create("web", Image("busybox:1", "user", "password"))
        app.droplet = app.package
        cell.task_gate.clear()
        tasks.desire(bbs.state, "stranger", "cf-tasks", app_task(app.owner, app.package, "stranger", "", ""))
        task = await controller.run_task(app)
        made = bbs.state.tasks[task.guid].task_definition
        await until(lambda: bbs.state.tasks[task.guid].state == Task.Running)

        await controller.sync()
        was_running = task.state is TaskState.RUNNING
        cell.task_gate.set()
        await controller.ended(task)

        assert bbs.state.tasks["stranger"].failure_reason == "task was cancelled"
    assert (made.root_fs, made.image_username) == ("docker:///library/busybox#1", "user")
    assert (was_running, task.state, task.error) == (True, TaskState.SUCCEEDED, "")


async def test_a_malformed_result_fails_the_build(certificates: Certificates) -> None:
    results = ["{}", '{"lifecycle_type":"docker"}', "no json", "[]"]
    odd = CellSettings(task_delay=0, task_result=lambda _task: TaskResult(results.pop()))
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, odd),
        CloudController(InProcess(bbs)) as controller,
    ):
        app = controller.create("web", Image("busybox"))
        ended = [await controller.staged(app, await controller.stage(app)) for _ in range(4)]

    assert ended == ["Malformed message from Diego stager"] * 4
    assert app.current is None
