"""The client with a simulated Cloud Controller and UAA: what it makes of real answers, scopes, limits and faults."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from controller.capi.client import CloudController as Client
from controller.capi.client import open_capi
from controller.capi.settings import CapiSettings, Clocks
from controller.capi.uaa import UaaClient
from controller.current_stagings import CurrentStagings
from controller.droplet_uses import DropletUses
from controller.file_values import FileValue
from controller.notes.droplet_sources import AppSource, DropletSources
from controller.transport import trusting_tls
from reconcile.droplets import BuildGuid, BuildState, DropletGuid, DropletRecord, PackageGuid
from reconcile.errors import Denied, Invalid, NotFound, RateLimited, Unavailable
from reconcile.lrps import AppGuid, Secret
from reconcile.references import CacheGuid, CacheRepositories, parse_image_reference
from reconcile.request_budget import BudgetSettings
from reconcile.selection import AppNames, Owner
from tests.simulators.bbs import serve_bbs
from tests.simulators.capi import faults
from tests.simulators.capi.app import App
from tests.simulators.capi.records import BuildState as BuildRowState
from tests.simulators.capi.records import Droplet as Row
from tests.simulators.capi.records import DropletState
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, CapiSimulator, serve_capi
from tests.simulators.capi.uaa import GLOBAL_AUDITOR, READ, UPDATE_BUILD_STATE, WRITE
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import CloudController, InProcess
from tests.simulators.recipes import Image

pytestmark = pytest.mark.usefixtures("servers")

SOURCE = Image("registry.example.com/team/web:1", "robot", "password of the source")
CACHED = "cache.example:8080/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest"


@dataclass
class Scene:
    """The simulator, and a client of it whose clocks run ahead while it would sleep."""

    capi: CapiSimulator
    certificates: Certificates
    stack: AsyncExitStack
    ahead: float = 0.0

    async def client(
        self, *, secret: str = CLIENT_SECRET, timeout: float = 5.0, per_page: int = 1000
    ) -> Client:
        tls = await asyncio.to_thread(trusting_tls, self.certificates.ca)
        settings = CapiSettings(
            self.capi.url,
            UaaClient(CLIENT_ID, FileValue((), lambda: Secret(secret))),
            BudgetSettings(2000, 0.5),
            timeout=timeout,
            per_page=per_page,
        )
        clocks = Clocks(lambda: time.monotonic() + self.ahead, lambda: time.time() + self.ahead, self._sleep)
        return await self.stack.enter_async_context(open_capi(settings, tls=tls, clocks=clocks))

    async def _sleep(self, seconds: float) -> None:
        self.ahead += seconds
        await asyncio.sleep(0)

    def app(self) -> tuple[App, Row]:
        """Make an app that was staged, and return its current droplet too."""
        app = self.capi.cloud.create("web", SOURCE)
        build = app.add_build(app.newest_package)
        build.state, build.droplet = BuildRowState.STAGED, app.add_droplet(build)
        row = app.current = build.droplet
        row.state, row.image = DropletState.STAGED, SOURCE.text
        return app, row


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def scene(certificates: Certificates) -> AsyncIterator[Scene]:
    async with (
        serve_bbs(certificates) as bbs,
        CloudController(InProcess(bbs)) as cloud,
        serve_capi(cloud, pair=certificates.server) as capi,
        AsyncExitStack() as stack,
    ):
        yield Scene(capi, certificates, stack)


async def test_from_a_staging_to_a_changed_droplet(scene: Scene) -> None:
    client, (app, row) = await scene.client(), scene.app()
    build = next(iter(app.builds.values()))

    found = await client.find_build(BuildGuid(build.guid))
    assert found is not None
    assert (found.state, found.app_guid, found.droplet_guid) == (BuildState.STAGED, app.guid, row.guid)
    assert found.package_guid is not None
    package = await client.find_package(found.package_guid)
    assert package is not None
    assert (package.is_docker, package.image, package.username) == (True, SOURCE.text, "robot")

    before = await client.find_droplet(DropletGuid(row.guid))
    assert before is not None
    assert (before.image, before.is_docker, before.is_staged) == (row.image, True, True)
    after = await client.update_image(DropletGuid(row.guid), CACHED)
    assert after == replace(before, image=CACHED, updated_at=after.updated_at)
    assert await client.find_current_droplet(AppGuid(app.guid)) == after
    assert [each async for each in client.list_droplets()] == [after]
    assert [each async for each in client.list_builds([AppGuid(app.guid)])] == [found]
    assert scene.capi.uaa.count() == 1


class NoRecords:
    """No droplet has a record, as when the database was lost."""

    async def find_droplet(self, guid: DropletGuid) -> None:
        return None

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        return ()

    async def list_droplets_of_copy(self, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
        return ()


async def test_the_staging_of_an_app_is_that_of_its_current_droplet_also_after_a_rollback(
    scene: Scene,
) -> None:
    client, (app, row) = await scene.client(), scene.app()
    (first,) = app.builds.values()
    later = app.add_build(app.newest_package)
    later.state, later.droplet = BuildRowState.STAGED, app.add_droplet(later)
    later.droplet.state, later.droplet.image = DropletState.STAGED, SOURCE.text
    stagings = [CurrentStagings(client, NoRecords(), monotonic=time.monotonic) for _ in range(2)]

    app.current = later.droplet
    newest = await stagings[0].find_current_staging(AppGuid(app.guid))
    app.current = row
    rolled_back = await stagings[1].find_current_staging(AppGuid(app.guid))

    source = parse_image_reference(SOURCE.text).canonical()
    assert newest is not None
    assert rolled_back is not None
    assert (newest.source, newest.requester) == (source, f"task:{later.guid}")
    assert (rolled_back.source, rolled_back.requester) == (source, f"task:{first.guid}")


async def test_what_was_pushed_is_found_by_the_copy_that_its_droplet_names(scene: Scene) -> None:
    client, (app, row) = await scene.client(), scene.app()
    scene.app()
    row.image = CACHED
    cache = CacheRepositories(CACHED.partition("/")[0])
    uses = DropletUses(NoRecords(), client, client.background(), cache=cache, monotonic=time.monotonic)
    sources = DropletSources(uses, NoRecords(), client, cache=cache)

    (guid,) = await sources.list_copies()
    (named,) = await uses.list_named_lately()

    assert str(cache.image(guid)) == CACHED
    assert (named.droplet_guid, named.image) == (row.guid, CACHED)
    pushed = AppSource(parse_image_reference(SOURCE.text).canonical(), needs_login=True)
    assert await sources.find(guid) == {AppGuid(app.guid): pushed}


async def test_lists_go_on_over_pages_by_the_apis_own_links(scene: Scene) -> None:
    client = await scene.client(per_page=2)
    rows = [scene.app()[1] for _ in range(5)]
    rows[1].state = DropletState.EXPIRED
    rows[2].lifecycle = "buildpack"

    listed = [each.guid async for each in client.list_droplets()]

    assert listed == [rows[at].guid for at in (4, 3, 0)]
    assert scene.capi.api.count("GET", r"/v3/droplets\?") == 2  # expired ones are not listed
    some = [AppGuid(app.guid) for app in list(scene.capi.cloud.apps.values())[:1]]
    assert [each.guid async for each in client.list_droplets(app_guids=some)] == [rows[0].guid]


async def test_a_list_that_may_not_be_paged_to_its_end_goes_on_from_a_time(scene: Scene) -> None:
    """`cc.renderer.max_total_results`: else nothing but stagings would be known on a large platform."""
    client = await scene.client(per_page=2)
    rows = [scene.app()[1] for _ in range(9)]
    for at, row in enumerate(rows):
        row.created_at = 1_800_000_000.0 + at // 2  # some were made within one second
    scene.capi.handler.most_results = 4

    assert {each.guid async for each in client.list_droplets()} == {row.guid for row in rows}


async def test_a_list_that_leads_nowhere_is_an_error(scene: Scene) -> None:
    client = await scene.client(per_page=2)
    for _ in range(9):
        scene.app()[1].created_at = 1_800_000_000.0
    scene.capi.handler.most_results = 4

    with pytest.raises(Invalid, match="Maximum result"):
        _ = [each async for each in client.list_droplets()]


async def test_a_droplet_that_is_deleted_while_a_list_is_read_hides_no_other(scene: Scene) -> None:
    client = await scene.client(per_page=2)
    apps = [scene.app() for _ in range(6)]

    def delete_the_newest() -> None:
        app, row = apps[-1]
        app.current = None
        scene.capi.cloud.delete_droplet(row)

    scene.capi.api.faults.order("GET", r"\?page=2", faults.Meanwhile(delete_the_newest))

    assert {each.guid async for each in client.list_droplets()} == {row.guid for _, row in apps}


@pytest.mark.parametrize(
    ("per_page", "most_results", "seconds"), [(2, 4, 0.9), (2, 2, 1.1), (1000, 5, 0.9), (3, 4, 0.9)]
)
async def test_a_list_of_which_an_operator_shows_a_part_is_read_in_slices(
    scene: Scene, per_page: int, most_results: int, seconds: float
) -> None:
    client = await scene.client(per_page=per_page)
    rows = [scene.app()[1] for _ in range(20)]
    for at, row in enumerate(rows):
        row.created_at = 1_700_000_000 + at * seconds
    scene.capi.handler.most_results = most_results

    listed = [each.guid async for each in client.list_droplets()]

    assert list(dict.fromkeys(listed)) == [row.guid for row in reversed(rows)]
    assert scene.capi.api.count("GET", r"/v3/droplets\?") < 2 * len(rows)


async def test_what_no_slice_of_a_list_shows_is_said(scene: Scene) -> None:
    client = await scene.client(per_page=2)
    for _ in range(4):
        scene.app()[1].created_at = 1_700_000_000
    scene.app()
    scene.capi.handler.most_results = 2

    listed = client.list_droplets()
    with pytest.raises(Invalid, match=r"created before 2023-11-14T22:13:20Z is not shown \(cc.renderer"):
        assert [each async for each in listed] == []


async def test_what_cloud_controller_has_not_is_not_found(scene: Scene) -> None:
    client, (app, row) = await scene.client(), scene.app()
    app.current = None

    assert await client.find_current_droplet(AppGuid(app.guid)) is None
    assert await client.find_current_droplet(AppGuid("nobody")) is None
    assert await client.find_build(BuildGuid(row.guid)) is None
    assert await client.find_package(PackageGuid(row.guid)) is None
    with pytest.raises(NotFound):
        await client.update_image(DropletGuid("nothing"), CACHED)


@pytest.mark.parametrize("broken", [DropletState.EXPIRED, "buildpack"])
async def test_a_droplet_that_cannot_be_changed_looks_like_an_outage(broken: str, scene: Scene) -> None:
    client, (_, row) = await scene.client(), scene.app()
    if broken == "buildpack":
        row.lifecycle = broken
    else:
        row.state = DropletState.EXPIRED

    with pytest.raises(Unavailable, match="cloud-controller-failed") as caught:
        await client.update_image(DropletGuid(row.guid), CACHED)

    assert caught.value.may_have_happened
    assert scene.capi.api.count("PATCH") == 1


@pytest.mark.parametrize(
    ("authorities", "reads", "missing"),
    [
        ((WRITE, UPDATE_BUILD_STATE), False, GLOBAL_AUDITOR),
        ((WRITE, UPDATE_BUILD_STATE, READ), False, GLOBAL_AUDITOR),
        ((GLOBAL_AUDITOR, WRITE), True, UPDATE_BUILD_STATE),
        ((GLOBAL_AUDITOR,), True, WRITE),
    ],
)
async def test_a_missing_scope_is_named(
    authorities: tuple[str, ...],
    reads: bool,  # noqa: FBT001 - a parameter
    missing: str,
    scene: Scene,
) -> None:
    scene.capi.add_client(authorities=authorities)
    client, (_, row) = await scene.client(), scene.app()

    if reads:
        assert await client.find_droplet(DropletGuid(row.guid)) is not None
        with pytest.raises(Denied, match=f"scope-missing.*{missing}"):
            await client.update_image(DropletGuid(row.guid), CACHED)
    else:
        with pytest.raises(Denied, match=f"scope-missing.*{missing}"):
            await client.find_droplet(DropletGuid(row.guid))
        assert (await client.update_image(DropletGuid(row.guid), CACHED)).image == CACHED

    assert missing in client.status().missing_scopes


async def test_a_wrong_secret_is_refused(scene: Scene) -> None:
    client = await scene.client(secret="another one")

    with pytest.raises(Denied, match="uaa_client_secret_file"):
        await client.find_droplet(DropletGuid("d-1"))

    assert scene.capi.uaa.count() == 1


async def test_a_token_that_ends_in_mid_flight_is_renewed_once(scene: Scene) -> None:
    client, (_, row) = await scene.client(), scene.app()
    await client.find_droplet(DropletGuid(row.guid))

    scene.capi.tokens.rotate_key()
    assert (await client.update_image(DropletGuid(row.guid), CACHED)).image == CACHED
    assert scene.capi.uaa.count() == 2

    scene.capi.api.faults.order("GET", "droplets", faults.reject_token(), times=2)
    with pytest.raises(Denied, match="token-refused"):
        await client.find_droplet(DropletGuid(row.guid))


async def test_the_limit_of_the_api_is_kept(scene: Scene) -> None:
    """Half of 40 is the background's: two requests at once, and the rest in equal steps until the reset."""
    scene.capi.limiter.limit = 40
    client, (_, row) = await scene.client(), scene.app()
    droplet = DropletGuid(row.guid)
    await client.find_droplet(droplet)
    assert client.status().requests_left == 39

    for _ in range(2):
        await client.background().find_droplet(droplet)
    assert scene.ahead == 0
    await client.background().find_droplet(droplet)
    assert scene.ahead == pytest.approx(3600 / 19, abs=5)

    scene.capi.api.faults.order("GET", "droplets", faults.limit(30))
    with pytest.raises(RateLimited) as caught:
        await client.find_droplet(droplet)
    assert caught.value.retry_after == 30
    asked = scene.capi.api.count()
    with pytest.raises(RateLimited):
        await client.find_droplet(droplet)
    assert scene.capi.api.count() == asked


async def test_a_limit_that_is_reached_is_told_by_cloud_controller(scene: Scene) -> None:
    scene.capi.limiter.limit = 10
    client, (_, row) = await scene.client(), scene.app()
    for _ in range(10):
        await client.find_droplet(DropletGuid(row.guid))

    with pytest.raises(RateLimited) as caught:
        await client.find_droplet(DropletGuid(row.guid))

    assert caught.value.code == "CF-RateLimitExceeded"
    assert 3500 < (caught.value.retry_after or 0) <= 3600


@pytest.mark.parametrize(
    "fault",
    [
        faults.fail(does=True),
        faults.Break(does=True),
        faults.Hang(does=True),
        faults.not_from_us(),
        faults.be_unavailable(),
    ],
    ids=["fails", "breaks", "hangs", "router", "database"],
)
async def test_a_change_may_have_happened_when_its_answer_is_lost(fault: faults.Action, scene: Scene) -> None:
    client, (_, row) = await scene.client(timeout=0.5), scene.app()
    await client.find_droplet(DropletGuid(row.guid))
    scene.capi.api.faults.order("PATCH", "droplets", fault)

    with pytest.raises(Unavailable) as caught:
        await client.update_image(DropletGuid(row.guid), CACHED)

    assert caught.value.may_have_happened
    found = await client.find_droplet(DropletGuid(row.guid))
    assert found is not None
    assert found.image == row.image
    assert scene.capi.api.count("PATCH") == 1


async def test_an_api_that_goes_away_and_comes_back_is_asked_again(scene: Scene) -> None:
    client, (_, row) = await scene.client(), scene.app()
    assert await client.find_droplet(DropletGuid(row.guid)) is not None

    await scene.capi.api.stop_listening()
    with pytest.raises(Unavailable) as caught:
        await client.update_image(DropletGuid(row.guid), CACHED)
    assert not caught.value.may_have_happened
    assert client.status().failing_since is not None

    await scene.capi.api.listen()
    assert await client.find_droplet(DropletGuid(row.guid)) is not None
    assert client.status().failing_since is None


async def test_a_text_of_any_kind_is_written_as_it_is(scene: Scene) -> None:
    """Cloud Controller does not look at it: whoever calls has to."""
    client, (_, row) = await scene.client(), scene.app()

    assert (await client.update_image(DropletGuid(row.guid), "docker://Nö")).image == "docker://Nö"


async def test_apps_are_named_with_their_spaces_and_organizations(scene: Scene) -> None:
    """By GUID or all of them; one that is hidden or gone is missing."""
    app, _ = scene.app()
    other, _ = scene.app()
    client = await scene.client(per_page=1)

    named = await client.name_apps([AppGuid(app.guid), AppGuid("gone")])
    everything = await client.name_apps(None)

    owner = app.owner
    assert named == {
        app.guid: AppNames(
            (app.guid,), Owner(owner.org_name, owner.space_name, "web"), owner.org_guid, owner.space_guid
        )
    }
    assert set(everything) == {app.guid, other.guid}
