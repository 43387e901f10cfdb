"""Single canaries against a simulated BBS, simulated cells and a simulated registry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.bbs.client import BbsClient, open_bbs
from controller.canary import Prober
from controller.canary_image import CanaryImages
from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.registries import Registries
from controller.transport import client_tls
from protos.bbs.task_pb2 import Task
from reconcile.canary import CANARY_DOMAIN, LRP_IMAGE, TASK_IMAGE, Canary, new_guid
from reconcile.lrps import Credentials, Pull, Secret
from reconcile.pull_proof import CanaryKind, CanaryLogin, CanaryResult
from reconcile.references import CacheRepositories, Rootfs
from reconcile.start_failures import Blame
from tests.simulators import registry as registries
from tests.simulators.bbs import Bbs, Fault, serve_bbs
from tests.simulators.cell import CellSettings, SimulatedCell, TaskResult
from tests.simulators.cell_network import ErrorResponse, Hangs, Refused
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.registry import AnyLogin, BasicLogin, Refuse, RegistrySimulator, TokenLogin

SHARED = frozenset[str]()
SEGMENT = frozenset({"segment"})
PULLER = Credentials("puller", Secret("known"))
KNOWN = {"puller": "known"}
TASK, EVERY_CELL = CanaryKind.TASK, CanaryKind.EVERY_CELL


@dataclass
class Scene:
    """Three cells in two zones, and one of an isolation segment."""

    bbs: Bbs
    registry: RegistrySimulator
    cells: list[SimulatedCell]
    client: BbsClient
    images: CanaryImages

    def prober(self, *, time_limit: float = 30.0, credentials: Credentials | None = None) -> Prober:
        return Prober(self.client, self.images, credentials=credentials, time_limit=time_limit)

    async def asks(self, kind: CanaryKind, tags: frozenset[str] = SHARED) -> CanaryResult:
        return await self.prober().run(kind, tags)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of a canary is left in the BBS."""
        state = self.bbs.state
        return not state.tasks and not state.desired


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def scene(servers: None, certificates: Certificates, tmp_path: Path) -> AsyncIterator[Scene]:
    pair = certificates.client
    tls = client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(registries.serve())
        bbs = await stack.enter_async_context(serve_bbs(certificates))
        cells = [
            await stack.enter_async_context(
                SimulatedCell(
                    bbs,
                    CellSettings(
                        cell_id=name,
                        zone=zone,
                        placement_tags=tags,
                        registry_map={registry.address: registry.url},
                    ),
                )
            )
            for name, zone, tags in (
                ("a", "z1", ()),
                ("b", "z1", ()),
                ("c", "z2", ()),
                ("s", "z1", ("segment",)),
            )
        ]
        client = await stack.enter_async_context(open_bbs(bbs.url, tls=tls))
        settings = {registry.address: RegistrySettings(plain_http=True, any_address=True, credentials=PULLER)}
        images = CanaryImages(
            Registries(settings, retries=Retries(attempts=1)), CacheRepositories(registry.address)
        )
        stack.push_async_callback(images.close)
        yield Scene(bbs, registry, cells, client, images)


async def test_a_cell_that_pulls_says_so_by_a_task_that_ends(scene: Scene) -> None:
    result = await scene.asks(TASK)

    (answer,) = result.answers
    assert (answer.cell_id in "abc", answer.failure, result.problem) == (True, None, "")
    assert result.cells == {"a", "b", "c"}
    assert scene.is_clean


async def test_a_task_has_nothing_of_an_app_and_the_login_that_apps_have(scene: Scene) -> None:
    seen = list[Task]()

    def remember(task: Task) -> TaskResult:
        seen.append(task)
        return TaskResult()

    for cell in scene.cells:
        cell.settings.task_result = remember
    login = Credentials("puller", Secret("marker"))
    await scene.prober(credentials=login).run(TASK, SHARED)

    (task,) = seen
    definition = task.task_definition
    assert task.domain == CANARY_DOMAIN
    assert definition.root_fs == f"docker://{scene.registry.address}/{TASK_IMAGE}#latest"
    assert (definition.image_username, definition.image_password) == ("puller", "marker")
    assert (definition.memory_mb, definition.disk_mb, definition.max_pids) == (16, 32, 20)
    assert not definition.log_guid
    assert not definition.egress_rules


async def test_a_cell_fetches_a_new_layer_each_time(scene: Scene) -> None:
    for _ in range(6):
        await scene.asks(TASK)

    layers = sum(cell.network.requests(scene.registry.address, "layer") for cell in scene.cells)
    assert layers == 6


async def test_one_name_is_used_again_and_again_and_nothing_piles_up(scene: Scene) -> None:
    for _ in range(3):
        await scene.asks(TASK)
        await scene.asks(EVERY_CELL)

    assert set(scene.registry.store.repositories) == {str(TASK_IMAGE), str(LRP_IMAGE)}
    assert not any(each.manifests for each in scene.registry.store.repositories.values())


async def test_a_registry_whose_tags_cannot_be_pushed_twice_gets_another_name(scene: Scene) -> None:
    refusal = b'{"errors": [{"code": "TAG_INVALID", "message": "the tag cannot be overwritten"}]}'
    scene.registry.fail("PUT", f"{TASK_IMAGE}/manifests", Refuse(400, refusal))

    assert (await scene.asks(TASK)).pulled


async def test_a_cell_that_cannot_pull_says_why_and_the_task_is_not_left_to_be_tried_again(
    scene: Scene,
) -> None:
    for cell in scene.cells:
        cell.network.impose(scene.registry.address, Refused())

    result = await scene.asks(TASK)

    (answer,) = result.failures
    assert answer.failure is not None
    assert answer.failure.blame is Blame.REGISTRY
    assert "connection refused" in result.said
    assert answer.cell_id in "abc"
    assert scene.is_clean


async def test_a_wrong_login_of_the_cells_is_found_out(scene: Scene) -> None:
    for cell in scene.cells:
        cell.network.impose(scene.registry.address, ErrorResponse(401))

    assert "authentication required" in (await scene.asks(TASK)).said


@dataclass(frozen=True)
class Registry:
    """How the private registry asks for logins, and with which of them cells can pull then."""

    login: BasicLogin | TokenLogin | AnyLogin | None
    serves: frozenset[CanaryLogin]


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(Registry(None, frozenset(CanaryLogin)), id="for none"),
        pytest.param(Registry(BasicLogin(KNOWN), frozenset({CanaryLogin.CELLS})), id="for one it knows"),
        pytest.param(
            Registry(TokenLogin(KNOWN, anonymous=True), frozenset({CanaryLogin.CELLS, CanaryLogin.NONE})),
            id="for one it knows, or none",
        ),
        pytest.param(Registry(AnyLogin(), frozenset({CanaryLogin.CELLS, CanaryLogin.MADE_UP})), id="for any"),
    ],
)
async def test_cells_show_with_which_logins_they_can_pull(scene: Scene, asks: Registry) -> None:
    prober = scene.prober(credentials=PULLER)
    scene.registry.login = asks.login

    served = {login for login in CanaryLogin if (await prober.run(TASK, SHARED, login)).pulled}

    assert served == asks.serves
    assert scene.is_clean


async def test_a_login_is_made_up_anew_each_time_and_is_none_of_an_app(scene: Scene) -> None:
    seen = list[Task]()

    def remember(task: Task) -> TaskResult:
        seen.append(task)
        return TaskResult()

    for cell in scene.cells:
        cell.settings.task_result = remember
    for _ in range(2):
        await scene.prober(credentials=PULLER).run(TASK, SHARED, CanaryLogin.MADE_UP)

    users = {task.task_definition.image_username for task in seen}
    passwords = {task.task_definition.image_password for task in seen}
    assert len(users) == len(passwords) == 2
    assert "puller" not in users


async def test_no_room_is_no_proof(scene: Scene) -> None:
    for cell in scene.cells:
        cell.settings.memory_mb = 1

    result = await scene.asks(TASK)

    assert (result.answers, result.problem) == ((), "insufficient resources: memory")
    assert not result.is_silent
    assert scene.is_clean


async def test_a_cell_that_says_nothing_counts_when_the_time_is_up(scene: Scene) -> None:
    for cell in scene.cells:
        cell.network.impose(scene.registry.address, Hangs())

    result = await scene.prober(time_limit=0.5).run(TASK, SHARED)

    assert result.is_silent
    assert "neither ran nor failed within 0.5 s" in result.problem
    for cell in scene.cells:
        cell.network.mend()


async def test_every_cell_is_asked_also_where_zones_differ_in_size(scene: Scene) -> None:
    result = await scene.asks(EVERY_CELL)

    assert result.pulled == {"a", "b", "c"}
    assert (result.failures, result.problem) == ((), "")
    assert scene.is_clean


async def test_of_three_cells_the_one_that_cannot_pull_is_named(scene: Scene) -> None:
    scene.cells[1].network.impose(scene.registry.address, Refused())

    result = await scene.asks(EVERY_CELL)

    assert result.pulled == {"a", "c"}
    assert [answer.cell_id for answer in result.failures] == ["b"]
    assert scene.is_clean


async def test_a_cell_without_room_is_named_as_not_asked(scene: Scene) -> None:
    scene.cells[2].settings.memory_mb = 1

    result = await scene.asks(EVERY_CELL)

    assert result.pulled == {"a", "b"}
    assert result.problem.startswith("no answer from c")
    assert not result.is_silent


async def test_cells_of_an_isolation_segment_are_reached_by_its_placement_tags(scene: Scene) -> None:
    assert (await scene.asks(TASK, SEGMENT)).pulled == {"s"}
    assert (await scene.asks(EVERY_CELL, SEGMENT)).pulled == {"s"}

    nowhere = await scene.asks(TASK, frozenset({"other"}))
    assert nowhere.problem == "no registered cell runs Docker apps with placement tags other"


async def test_a_program_that_the_processor_cannot_run_was_pulled_nevertheless(scene: Scene) -> None:
    reason = (
        "failed to create container: runc run: exit status 1: unable to start container process: exec "
        "/canary: exec format error"
    )
    for cell in scene.cells:
        cell.settings.task_result = lambda _task: TaskResult(failed=True, failure_reason=reason)

    assert len((await scene.asks(TASK)).pulled) == 1


async def test_a_registry_that_takes_no_image_is_a_problem_and_no_answer_of_cells(scene: Scene) -> None:
    scene.registry.login = BasicLogin({"somebody": "else"})

    result = await scene.asks(TASK)

    assert result.answers == ()
    assert "UNAUTHORIZED" in result.problem


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.DROP_AFTER])
async def test_a_bbs_that_does_not_answer_is_a_problem_and_a_task_that_it_took_is_removed(
    scene: Scene, fault: Fault
) -> None:
    scene.bbs.faults.order(fault, "/v1/tasks/desire.r2")

    result = await scene.asks(TASK)

    assert (result.answers, bool(result.problem)) == ((), True)
    assert scene.is_clean


async def test_what_runs_is_removed_when_somebody_cancels(scene: Scene) -> None:
    for cell in scene.cells:
        cell.start_gate.clear()
        cell.task_gate.clear()
    for kind in CanaryKind:
        running = asyncio.create_task(scene.asks(kind))
        async with asyncio.timeout(5):
            while scene.is_clean:  # noqa: ASYNC110 - the simulator sets no event here
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert scene.is_clean


async def test_what_an_earlier_process_has_left_is_removed(scene: Scene) -> None:
    pull = Pull(Rootfs(f"docker://{scene.registry.address}/{TASK_IMAGE}#latest"))
    await scene.client.desire_canary_task(Canary(new_guid(), pull))
    await scene.client.desire_canary_lrp(Canary(new_guid(), pull))
    prober = scene.prober()
    assert prober.has_leftovers

    await prober.remove_leftovers()

    assert scene.is_clean
    assert not prober.has_leftovers
