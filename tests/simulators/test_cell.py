"""The simulated cell: what it pulls, what it refuses, and what it says runs."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial

import httpx
import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.task_pb2 import Task
from tests.simulators import images
from tests.simulators.bbs import Bbs, convergence, desired, serve_bbs, tasks
from tests.simulators.bbs_probe import is_up, some_lrp, some_task, states, until
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_network import CellNetwork
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_store import LayerStore
from tests.simulators.certificates import Certificates
from tests.simulators.recipes import Image, Owner, staging_task
from tests.simulators.registry import BasicLogin, RegistrySimulator, TokenLogin, serve
from tests.simulators.registry_login import Credentials
from tests.simulators.registry_session import RegistryAccess
from tests.simulators.rootfs_reference import Reference, parse_rootfs

pytestmark = pytest.mark.usefixtures("servers")

GUID = "some-guid"
NOBODY = Credentials()
HEX = "0123456789abcdef" * 4


@pytest.fixture
def registry() -> Iterator[RegistrySimulator]:
    with serve() as registry:
        yield registry


@pytest.fixture
def sample(registry: RegistrySimulator) -> images.Image:
    """An image of two layers, pushed as team/app:v1."""
    image = images.image([images.layer(1000, 1), images.layer(70000, 2)])
    with httpx.Client(base_url=registry.url) as client:
        images.push_image(client, "team/app", "v1", image)
    return image


async def pull(rootfs: str, credentials: Credentials = NOBODY) -> str:
    """Pull an image into an empty store."""
    return await Puller(RegistryAccess(CellNetwork(), {}), LayerStore()).pull(Wanted(rootfs, credentials))


@contextlib.asynccontextmanager
async def cell_for(
    certificates: Certificates, registry: RegistrySimulator
) -> AsyncIterator[tuple[Bbs, SimulatedCell]]:
    settings = CellSettings(
        start_delay=0, stop_delay=0, task_delay=0, registry_map={"docker.io": registry.url}
    )
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, settings) as cell:
        yield bbs, cell


@pytest.mark.parametrize(
    ("rootfs", "reference"),
    [
        ("docker:///library/busybox#1", Reference("docker.io", "library/busybox", "1")),
        ("docker:///busybox", Reference("docker.io", "library/busybox", "latest")),
        ("docker://index.docker.io/busybox", Reference("docker.io", "library/busybox", "latest")),
        ("docker://reg:5000/a/b#x", Reference("reg:5000", "a/b", "x")),
        ("docker://reg:5000/a/b:x", Reference("reg:5000", "a/b", "x")),
        ("docker://user:pw@reg.example/a#x", Reference("reg.example", "a", "x")),
        ("docker://reg/a#x", Reference("docker.io", "reg/a", "x")),
        (f"docker:///a/b@sha256#{HEX}", Reference("docker.io", "a/b", f"sha256:{HEX}")),
        (f"docker:///a/b@sha256:{HEX}", Reference("docker.io", "a/b", f"sha256:{HEX}")),
    ],
)
def test_a_rootfs_is_read_as_garden_reads_it(rootfs: str, reference: Reference) -> None:
    assert parse_rootfs(rootfs) == reference


@pytest.mark.parametrize(
    "rootfs", [f"docker:///library/ubuntu#22.04@sha256:{HEX}", "preloaded:cflinuxfs4", "docker://host"]
)
def test_a_rootfs_that_garden_refuses_is_refused(rootfs: str) -> None:
    with pytest.raises(PullFailed):
        parse_rootfs(rootfs)


async def test_it_records_from_which_manifest_an_instance_runs(
    certificates: Certificates, registry: RegistrySimulator, sample: images.Image
) -> None:
    async with cell_for(certificates, registry) as (bbs, cell):
        desired.desire(bbs.state, some_lrp(rootfs="docker:///team/app#v1"))
        await until(is_up(bbs, GUID, 1))

        instance = cell.running(GUID, 0)

    assert (instance.rootfs, instance.manifest_digest) == ("docker:///team/app#v1", sample.manifest.digest)
    assert registry.count("GET", "/blobs/") == 3


async def test_it_chooses_its_platform_of_an_index(registry: RegistrySimulator) -> None:
    ours, other = images.image([images.layer(1000, 1)]), images.image([images.layer(1000, 2)])
    index = images.index([("linux/arm64", other), ("linux/amd64", ours)], attested=True)
    with httpx.Client(base_url=registry.url) as client:
        images.push_index(client, "team/app", "v1", index)

    digest = await pull(f"docker://{registry.address}/team/app#v1")

    assert digest == ours.manifest.digest


async def test_an_index_without_its_platform_cannot_be_run(registry: RegistrySimulator) -> None:
    index = images.index([("linux/arm64", images.image([images.layer(1000, 1)]))])
    with httpx.Client(base_url=registry.url) as client:
        images.push_index(client, "team/app", "v1", index)

    with pytest.raises(PullFailed, match="no image found in image index"):
        await pull(f"docker://{registry.address}/team/app#v1")


async def test_it_pulls_by_digest(registry: RegistrySimulator, sample: images.Image) -> None:
    digest = sample.manifest.digest
    rootfs = f"docker://{registry.address}/team/app@sha256#{digest.removeprefix('sha256:')}"

    assert await pull(rootfs) == digest


@pytest.mark.parametrize("rootfs", ["docker:///team/app#none", "docker:///nobody/nothing#v1"])
async def test_an_instance_whose_image_is_missing_crashes(
    certificates: Certificates, registry: RegistrySimulator, sample: images.Image, rootfs: str
) -> None:
    async with cell_for(certificates, registry) as (bbs, cell):
        desired.desire(bbs.state, some_lrp(rootfs=rootfs))

        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        row = bbs.state.row(GUID, 0)
        assert row is not None
        assert row.crash_count == 3
        assert row.crash_reason == (
            "failed to create container: running image plugin create: fetching image reference: creating image: "
            f"creating image source: reading manifest {rootfs.partition('#')[2]} in "
            f"docker.io/{rootfs.removeprefix('docker:///').partition('#')[0]}: manifest unknown\n: exit status 1"
        )
        assert cell.instances == {}


async def test_a_missing_or_wrong_layer_is_noticed(registry: RegistrySimulator, sample: images.Image) -> None:
    layer = sample.layers[0].digest
    rootfs = f"docker://{registry.address}/team/app#v1"
    registry.store.contents[layer] = b"something else"
    with pytest.raises(PullFailed, match="validating reported blob size: layer size is different"):
        await pull(rootfs)

    registry.store.repository("team/app").blobs.remove(layer)
    with pytest.raises(PullFailed, match="fetching blob: blob unknown to registry"):
        await pull(rootfs)


async def test_credentials_are_sent_after_a_challenge_only(
    registry: RegistrySimulator, sample: images.Image
) -> None:
    rootfs, credentials = f"docker://{registry.address}/team/app#v1", Credentials("user", "password")
    await pull(rootfs, credentials)
    assert not any("authorization" in request.headers for request in registry.requests)

    for login in (BasicLogin({"user": "password"}), TokenLogin({"user": "password"}, anonymous=False)):
        registry.login = login
        assert await pull(rootfs, credentials) == sample.manifest.digest
        for wrong in (Credentials(), Credentials("user", "wrong")):
            with pytest.raises(
                PullFailed, match=r"authentication required|requested access to the resource is denied"
            ):
                await pull(rootfs, wrong)


async def test_it_goes_to_no_registry_beyond_loopback() -> None:
    with pytest.raises(PullFailed, match="no such host"):
        await pull("docker:///library/busybox#1")


async def test_it_runs_whatever_definition_there_is_after_the_claim(
    certificates: Certificates, registry: RegistrySimulator
) -> None:
    async with cell_for(certificates, registry) as (bbs, cell):
        desired.desire(bbs.state, some_lrp(rootfs="docker:///team/app#gone"))
        desired.remove(bbs.state, GUID)
        desired.desire(bbs.state, some_lrp())

        await until(is_up(bbs, GUID, 1))

        assert cell.running(GUID, 0).rootfs == "preloaded:cflinuxfs4"


async def test_instances_crash_on_order(certificates: Certificates) -> None:
    def reason(lrp: DesiredLRP) -> str:
        return "bad image" if lrp.root_fs.endswith("#bad") else ""

    settings = CellSettings(start_delay=0, crash_reason=reason)
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, settings) as cell:
        desired.desire(bbs.state, some_lrp(rootfs="docker:///team/app#bad"))
        desired.desire(bbs.state, some_lrp("good", rootfs="docker:///team/app#good"))
        await until(lambda: states(bbs, GUID) == ["CRASHED"])
        await until(is_up(bbs, "good", 1))

        cell.crash("good", 0)

        await until(is_up(bbs, "good", 1))
        row = bbs.state.row("good", 0)
        assert row is not None
        assert row.crash_count == 1


async def test_a_heartbeat_brings_a_lost_row_back(certificates: Certificates) -> None:
    settings = CellSettings(start_delay=0, heartbeat=0.01)
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, settings):
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))
        bbs.state.actual.clear()

        await until(is_up(bbs, GUID, 1))


async def test_a_row_that_has_outlived_its_container_is_removed_when_the_cell_polls(
    certificates: Certificates,
) -> None:
    """What was suspect while its instance was stopped is an ordinary row again once its cell is back."""
    settings = CellSettings(start_delay=0, stop_delay=0, poll_interval=0.05)
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, settings) as cell:
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))
        stopped = cell.running(GUID, 0)
        cell.vanish()
        convergence.converge(bbs.state)
        cell.stop_lrp(stopped.key, stopped.instance_key.instance_guid)
        await until(lambda: not cell.instances)
        cell.come_back()
        convergence.converge(bbs.state)
        row = bbs.state.row(GUID, 0)
        assert row is not None
        assert row.actual_lrp_instance_key == stopped.instance_key

        await until(lambda: bbs.state.row(GUID, 0) is None)


async def test_a_cell_without_room_gets_nothing(certificates: Certificates) -> None:
    settings = CellSettings(start_delay=0, memory_mb=256, disk_mb=10)
    lrp = some_lrp(instances=2)
    lrp.memory_mb = 200
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, settings):
        desired.desire(bbs.state, lrp)
        await until(lambda: states(bbs, GUID) == ["RUNNING", "UNCLAIMED"])

        row = bbs.state.row(GUID, 1)
        assert row is not None
        assert row.placement_error == "insufficient resources: memory"


@pytest.mark.parametrize(
    ("rootfs", "tags", "problem"),
    [
        ("preloaded:windows", [], "found no compatible cell for required rootfs"),
        ("docker:///a/b#c", ["x", "y"], 'found no compatible cell with placement tags "x" and "y"'),
    ],
)
async def test_a_cell_that_does_not_match_gets_nothing(
    certificates: Certificates, rootfs: str, tags: list[str], problem: str
) -> None:
    lrp = some_lrp(rootfs=rootfs)
    lrp.PlacementTags.extend(tags)
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs):
        desired.desire(bbs.state, lrp)

        row = bbs.state.row(GUID, 0)
        assert row is not None
        assert row.placement_error == problem


async def test_a_staging_task_reports_the_image_as_the_builder_does(certificates: Certificates) -> None:
    definition = staging_task(Owner("some-app", "web"), Image("busybox"), "build", {}, "")
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, CellSettings(task_delay=0)):
        tasks.desire(bbs.state, "build", "cf-app-staging", definition)
        await until(lambda: bbs.state.tasks["build"].state == Task.Completed)

        result = json.loads(bbs.state.tasks["build"].result)

    assert result["lifecycle_metadata"] == {"docker_image": "library/busybox:latest"}
    assert json.loads(result["execution_metadata"])["cmd"] == ["/srv/app"]


def is_rejected(task: Task, count: int) -> bool:
    return (task.state, task.rejection_count) == (Task.Pending, count)


async def test_a_task_without_its_image_waits_and_fails_at_its_fourth_rejection(
    certificates: Certificates, registry: RegistrySimulator
) -> None:
    definition = some_task()
    definition.root_fs = "docker:///nobody/nothing#v1"
    async with cell_for(certificates, registry) as (bbs, cell):
        tasks.desire(bbs.state, "task", "cf-tasks", definition)
        task = bbs.state.tasks["task"]
        for count in range(1, 4):
            await until(partial(is_rejected, task, count))
            assert task.cell_id == cell.settings.cell_id
            assert task.rejection_reason == cell.problems[-1]
            await bbs.converge()
        await until(lambda: task.state == Task.Completed)

        assert (task.failed, task.failure_reason, task.cell_id) == (True, cell.problems[-1], "")
        assert "manifest unknown" in task.failure_reason
