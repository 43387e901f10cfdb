"""The simulated Cloud Controller's API: what scopes allow, what a PATCH is answered, and what it does wrong on request."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.simulators.bbs import Bbs, serve_bbs
from tests.simulators.bbs_probe import until
from tests.simulators.capi import faults
from tests.simulators.capi.app import MOST_BUILDS, MOST_DROPLETS, App
from tests.simulators.capi.faults import Afterwards, Break, Hang, Meanwhile, Refuse
from tests.simulators.capi.records import Droplet, DropletState
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, CapiSimulator, serve_capi
from tests.simulators.capi.uaa import (
    ADMIN,
    ADMIN_READ_ONLY,
    GLOBAL_AUDITOR,
    READ,
    SMALLEST_USEFUL,
    UPDATE_BUILD_STATE,
    WRITE,
)
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates
from tests.simulators.cloud_controller import CloudController, InProcess
from tests.simulators.recipes import Image

pytestmark = pytest.mark.usefixtures("servers")

COPY = "cache.example.com:8080/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest"
SOURCE = Image("registry.example.com/team/web:1", "robot", "secret")


@dataclass
class Scene:
    """An API, and a client of it whose scopes can be changed."""

    bbs: Bbs
    capi: CapiSimulator
    http: httpx.AsyncClient

    @property
    def cloud(self) -> CloudController:
        return self.capi.cloud

    def app(self, image: Image = SOURCE) -> App:
        """Make an app with a staged droplet, which is not started."""
        app = self.cloud.create("web", image)
        app.droplet = image
        return app

    async def call(
        self, method: str, path: str, scopes: tuple[str, ...] = SMALLEST_USEFUL, **more: Any
    ) -> httpx.Response:
        client = self.capi.add_client(authorities=scopes)
        headers = {"Authorization": f"bearer {self.capi.tokens.token_for(client)}"}
        return await self.http.request(method, f"{self.capi.url}{path}", headers=headers, **more)

    async def patch(
        self, droplet: Droplet, body: object, scopes: tuple[str, ...] = SMALLEST_USEFUL
    ) -> httpx.Response:
        return await self.call("PATCH", f"/v3/droplets/{droplet.guid}", scopes, json=body)


@pytest.fixture
async def scene(certificates: Certificates) -> AsyncIterator[Scene]:
    settings = CellSettings(start_delay=0, stop_delay=0, task_delay=0)
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, settings),
        CloudController(InProcess(bbs)) as cloud,
        serve_capi(cloud) as capi,
        httpx.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as http,
    ):
        yield Scene(bbs, capi, http)


def current(app: App) -> Droplet:
    assert app.current is not None
    return app.current


def error_of(answer: httpx.Response) -> tuple[int, int]:
    (error,) = answer.json()["errors"]
    return answer.status_code, error["code"]


async def test_an_image_is_changed_and_nothing_else(scene: Scene) -> None:
    app = await scene.cloud.push("web", SOURCE)
    lrp = scene.bbs.state.desired[app.process_guid].SerializeToString()
    version, annotation = app.version, app.updated_at

    answer = await scene.patch(current(app), {"image": COPY})
    await scene.cloud.sync()

    assert (answer.status_code, answer.json()["image"]) == (200, COPY)
    assert (current(app).username, current(app).password) == ("robot", "secret")
    assert scene.bbs.state.desired[app.process_guid].SerializeToString() == lrp
    assert (app.version, app.updated_at, len(app.revisions)) == (version, annotation, 1)


async def test_what_is_started_after_a_change_runs_from_the_copy_with_the_sources_login(scene: Scene) -> None:
    app = await scene.cloud.push("web", SOURCE)
    await scene.patch(current(app), {"image": COPY})

    await scene.cloud.restart(app)

    lrp = scene.bbs.state.desired[app.process_guid]
    assert lrp.root_fs == "docker://cache.example.com:8080/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77#latest"
    assert (lrp.image_username, lrp.image_password) == ("robot", "secret")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"image": 5}, (422, 10008)),
        ({"image": COPY, "odd": 1}, (422, 10008)),
        ({"metadata": {}}, (403, 10003)),
        ([], (400, 1001)),
    ],
)
async def test_a_wrong_body_is_refused(scene: Scene, body: object, expected: tuple[int, int]) -> None:
    app = scene.app()

    assert error_of(await scene.patch(current(app), body)) == expected
    assert current(app).image == SOURCE.text


async def test_null_blanks_the_image_and_then_the_domain_is_not_fresh(scene: Scene) -> None:
    """Cloud Controller looks at no text, and its sync stumbles over what cannot be converted."""
    app = scene.app()
    app.is_started = True

    answer = await scene.patch(current(app), {"image": None})
    await scene.cloud.sync()

    assert (answer.status_code, answer.json()["image"]) == (200, None)
    assert (scene.cloud.bumps, scene.bbs.state.fresh_domains()) == (0, [])


@pytest.mark.parametrize("state", [DropletState.EXPIRED, DropletState.FAILED, DropletState.COPYING])
async def test_a_droplet_that_is_not_staged_cannot_be_told_from_an_outage(
    scene: Scene, state: DropletState
) -> None:
    app = scene.app()
    current(app).state = state

    assert error_of(await scene.patch(current(app), {"image": COPY})) == (500, 10001)


async def test_a_droplet_without_an_image_cannot_be_told_from_an_outage(scene: Scene) -> None:
    app = scene.app()
    current(app).lifecycle = "buildpack"

    assert error_of(await scene.patch(current(app), {"image": COPY})) == (500, 10001)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ((UPDATE_BUILD_STATE, GLOBAL_AUDITOR), 403),
        ((WRITE, GLOBAL_AUDITOR), 403),
        ((WRITE,), 404),
        ((WRITE, ADMIN_READ_ONLY), 403),
        ((WRITE, UPDATE_BUILD_STATE), 200),
        ((ADMIN,), 200),
    ],
)
async def test_each_scope_is_needed_for_a_change(
    scene: Scene, scopes: tuple[str, ...], expected: int
) -> None:
    answer = await scene.patch(current(scene.app()), {"image": COPY}, scopes)

    assert answer.status_code == expected


@pytest.mark.parametrize(
    ("scopes", "expected", "listed"),
    [
        ((WRITE, UPDATE_BUILD_STATE), 403, 403),
        ((READ,), 404, 200),
        ((GLOBAL_AUDITOR,), 200, 200),
        ((ADMIN_READ_ONLY,), 200, 200),
        ((ADMIN,), 200, 200),
    ],
)
async def test_each_scope_shows_its_part(
    scene: Scene, scopes: tuple[str, ...], expected: int, listed: int
) -> None:
    app = scene.app()

    alone = await scene.call("GET", f"/v3/droplets/{current(app).guid}", scopes)
    many = await scene.call("GET", "/v3/droplets", scopes)

    assert (alone.status_code, many.status_code) == (expected, listed)
    if listed == 200:
        assert len(many.json()["resources"]) == (expected == 200)


async def test_a_token_ends_and_one_signed_with_another_key_is_none(scene: Scene) -> None:
    client = scene.capi.add_client()
    past = scene.capi.tokens.token_for(scene.capi.add_client("brief", "secret", lifetime=0))
    good = scene.capi.tokens.token_for(client)
    foreign = scene.capi.tokens.token_for(client, ("password.write",))

    async def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await scene.http.get(f"{scene.capi.url}/v3/droplets", headers=headers)).status_code

    assert [await status(token) for token in (good, past, foreign)] == [200, 401, 401]
    scene.capi.tokens.rotate_key()
    assert [await status(token) for token in (good, scene.capi.tokens.token_for(client))] == [401, 200]


async def test_the_limiter_counts_each_client_and_says_little_of_what_is_left(scene: Scene) -> None:
    scene.capi.limiter.limit = 20
    answers = [await scene.call("GET", "/v3/droplets") for _ in range(21)]
    exempt = await scene.call("GET", "/v3/droplets", (ADMIN_READ_ONLY,))

    left = [answer.headers["X-RateLimit-Remaining"] for answer in answers]
    assert left[:4] == ["18", "18", "16", "16"]
    assert left[-3:] == ["0", "0", "0"]
    assert error_of(answers[-1]) == (429, 10013)
    assert answers[-1].headers["Content-Type"].startswith("text/plain")
    assert 3590 <= int(answers[-1].headers["Retry-After"]) <= 3600
    assert "X-RateLimit-Limit" not in exempt.headers


async def test_trap_9_a_build_is_staged_a_moment_before_it_names_its_droplet(scene: Scene) -> None:
    scene.cloud.finishing.clear()
    app = scene.cloud.create("web", SOURCE)
    build_guid = await scene.cloud.stage(app)
    build = app.builds[build_guid]
    await until(lambda: build.droplet is not None)

    early = (await scene.call("GET", f"/v3/builds/{build_guid}")).json()
    unseen = (await scene.call("GET", "/v3/droplets")).json()["resources"]
    is_there_early = build_guid in scene.bbs.state.tasks
    scene.cloud.finishing.set()
    await scene.cloud.staged(app, build_guid)
    late = (await scene.call("GET", f"/v3/builds/{build_guid}")).json()

    assert (early["state"], early["droplet"], unseen) == ("STAGED", None, [])
    assert late["droplet"] == {"guid": current(app).guid}
    assert is_there_early, "the task is removed after Cloud Controller has taken its result"
    await until(lambda: build_guid not in scene.bbs.state.tasks)


async def test_trap_9_a_failed_build_has_no_droplet_and_old_ones_are_pruned(
    certificates: Certificates,
) -> None:
    async with serve_bbs(certificates) as bbs, CloudController(InProcess(bbs)) as cloud:
        app = cloud.create("web", SOURCE)
        builds = [app.add_build(app.newest_package) for _ in range(MOST_BUILDS + 1)]

        assert cloud.find_build(builds[0].guid) is None
        assert cloud.find_build(builds[1].guid) is builds[1]


async def test_trap_10_the_oldest_staged_droplets_expire_and_are_deleted_later(scene: Scene) -> None:
    app = scene.cloud.create("web", SOURCE)
    for _ in range(MOST_DROPLETS + 2):
        assert await scene.cloud.push_again(app) == ""

    droplets = list(app.droplets.values())
    assert [each.state for each in droplets[:2]] == [DropletState.EXPIRED, DropletState.STAGED]
    scene.cloud.delete_expired_droplets()
    assert (await scene.call("GET", f"/v3/droplets/{droplets[0].guid}")).status_code == 404
    assert len(app.droplets) == MOST_DROPLETS + 1


async def test_a_copied_droplet_has_image_and_login_but_no_package(scene: Scene) -> None:
    app, other = scene.app(), scene.cloud.create("other", SOURCE)
    body = {"relationships": {"app": {"data": {"guid": other.guid}}}}
    path = f"/v3/droplets?source_guid={current(app).guid}"

    answer = await scene.call("POST", path, (ADMIN,), json=body)

    (copy,) = other.droplets.values()
    assert (answer.status_code, answer.json()["image"]) == (201, SOURCE.text)
    assert (copy.username, copy.password, "package" in answer.json()["links"]) == ("robot", "secret", False)


async def test_lists_are_filtered_and_found_from_app_and_package(scene: Scene) -> None:
    first, second = scene.app(), scene.app(Image("busybox"))
    scene.cloud.assign(second, second.copy_droplet(current(first)))
    package = first.newest_package.guid

    async def images(path: str) -> list[str]:
        resources = (await scene.call("GET", path)).json()["resources"]
        return [each["image"] for each in resources]

    assert await images("/v3/droplets?order_by=-created_at") == [SOURCE.text, "busybox", SOURCE.text]
    assert await images(f"/v3/droplets?app_guids={second.guid}") == ["busybox", SOURCE.text]
    assert await images(f"/v3/apps/{second.guid}/droplets?current=true") == [SOURCE.text]
    assert await images(f"/v3/packages/{package}/droplets") == [SOURCE.text]
    assert await images("/v3/droplets?states=EXPIRED") == []
    shown = (await scene.call("GET", f"/v3/packages/{package}")).json()["data"]
    assert shown == {"image": SOURCE.text, "username": "robot", "password": "***"}


async def test_pages_beyond_what_an_operator_allows_are_refused(scene: Scene) -> None:
    scene.capi.handler.most_results = 100

    assert (await scene.call("GET", "/v3/droplets?page=2&per_page=50")).status_code == 200
    assert error_of(await scene.call("GET", "/v3/droplets?page=3&per_page=50")) == (400, 10005)


async def test_lists_are_bounded_by_the_second_of_creation(scene: Scene) -> None:
    rows = [current(scene.app()) for _ in range(4)]
    for at, row in enumerate(rows):
        row.created_at = 1_700_000_000 + at * 0.6
    times = {"2023-11-14T22:13:20Z": 2, "2023-11-14T22:13:21Z": 4}

    for time, count in times.items():
        shown = await scene.call("GET", f"/v3/droplets?created_ats[lte]={time}&per_page=1")
        assert shown.json()["pagination"]["total_results"] == count
        assert (
            f"created_ats%5Blte%5D={time.replace(':', '%3A')}" in shown.json()["pagination"]["next"]["href"]
        )
    assert error_of(await scene.call("GET", "/v3/droplets?created_ats[lte]=yesterday")) == (400, 10005)


async def test_apps_processes_and_revisions_are_shown(scene: Scene) -> None:
    app = await scene.cloud.push("web", SOURCE)
    droplet = {"guid": current(app).guid}

    shown = (await scene.call("GET", "/v3/apps?names=web")).json()["resources"]
    relationship = (await scene.call("GET", f"/v3/apps/{app.guid}/relationships/current_droplet")).json()
    (process,) = (await scene.call("GET", f"/v3/apps/{app.guid}/processes")).json()["resources"]
    revision_guid = process["relationships"]["revision"]["data"]["guid"]
    revision = (await scene.call("GET", f"/v3/revisions/{revision_guid}")).json()
    deployed = (await scene.call("GET", f"/v3/apps/{app.guid}/revisions/deployed")).json()["resources"]

    assert [(each["name"], each["state"]) for each in shown] == [("web", "STARTED")]
    assert relationship["data"] == droplet
    assert f"{process['guid']}-{process['version']}" == app.process_guid
    assert (revision["version"], revision["droplet"], revision["deployable"]) == (1, droplet, True)
    assert [each["guid"] for each in deployed] == [revision_guid]


async def test_an_app_is_managed_with_the_admin_scope_alone(scene: Scene) -> None:
    app = scene.app()
    path = f"/v3/apps/{app.guid}/actions"

    refused = await scene.call("POST", f"{path}/start")
    started = await scene.call("POST", f"{path}/start", (ADMIN,))
    is_desired = app.process_guid in scene.bbs.state.desired
    await scene.call("POST", f"{path}/stop", (ADMIN,))

    assert error_of(refused) == (403, 10003)
    assert (started.json()["state"], is_desired) == ("STARTED", True)
    assert not scene.bbs.state.desired


async def test_an_image_that_cannot_be_converted_fails_a_start(scene: Scene) -> None:
    app = scene.app(Image("UPPER/case"))

    answer = await scene.call("POST", f"/v3/apps/{app.guid}/actions/start", (ADMIN,))

    assert answer.json()["errors"][0]["title"] == "CF-RunnerError"


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (faults.fail(), 500),
        (faults.fail(does=True), 500),
        (faults.be_unavailable(), 503),
        (faults.reject_token(), 401),
        (faults.forbid(), 403),
        (faults.limit(30), 429),
        (faults.not_from_us(), 502),
    ],
)
async def test_a_change_is_refused_with_or_without_its_effect(
    scene: Scene, action: Refuse, status: int
) -> None:
    app = scene.app()
    scene.capi.api.faults.order("PATCH", "/v3/droplets/", action)

    answer = await scene.patch(current(app), {"image": COPY})
    then = await scene.patch(current(app), {"image": COPY})

    assert (answer.status_code, then.status_code) == (status, 200)
    assert [each.status for each in scene.capi.api.requests] == [status, 200]


@pytest.mark.parametrize("does", [False, True])
async def test_an_answer_is_lost_or_never_sent(scene: Scene, *, does: bool) -> None:
    app = scene.app()
    scene.capi.api.faults.order("PATCH", "/v3/droplets/", Break(does=does))
    with pytest.raises(httpx.TransportError):
        await scene.patch(current(app), {"image": COPY})
    assert (current(app).image == COPY) is does

    scene.cloud.patch(current(app), SOURCE.text)
    scene.capi.api.faults.order("PATCH", "/v3/droplets/", Hang(does=does))
    waiting = asyncio.create_task(scene.patch(current(app), {"image": COPY}))
    await until(lambda: scene.capi.api.hanging == 1)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await until(lambda: scene.capi.api.hanging == 0)
    assert (current(app).image == COPY) is does


@pytest.mark.parametrize("kind", [Meanwhile, Afterwards])
async def test_another_tool_is_faster_or_slower(
    scene: Scene, kind: Callable[[Callable[[], None]], Meanwhile | Afterwards]
) -> None:
    app = scene.app()
    droplet = current(app)
    other = kind(lambda: scene.cloud.patch(droplet, "other.example.com/web:1"))
    scene.capi.api.faults.order("PATCH", "/v3/droplets/", other)

    answer = await scene.patch(droplet, {"image": COPY})

    assert answer.json()["image"] == COPY
    assert droplet.image == (COPY if kind is Meanwhile else "other.example.com/web:1")


async def test_a_droplet_vanishes_under_a_request(scene: Scene) -> None:
    droplet = current(scene.app())
    vanish = Meanwhile(lambda: scene.cloud.delete_droplet(droplet))
    scene.capi.api.faults.order("PATCH", "/v3/droplets/", vanish)

    assert error_of(await scene.patch(droplet, {"image": COPY})) == (404, 10010)


async def test_it_goes_away_and_comes_back_on_the_same_port(scene: Scene) -> None:
    await scene.call("GET", "/v3/droplets")
    await scene.capi.api.stop_listening()
    with pytest.raises(httpx.ConnectError):
        await scene.call("GET", "/v3/droplets")
    await scene.capi.api.listen()

    assert (await scene.call("GET", "/v3/droplets")).status_code == 200


async def test_the_token_server_fails_on_request(scene: Scene) -> None:
    scene.capi.uaa.faults.order("POST", "/oauth/token", faults.limit_tokens(7))
    form = {"grant_type": "client_credentials"}

    async def ask() -> httpx.Response:
        url = f"{scene.capi.uaa.url}/oauth/token"
        return await scene.http.post(url, data=form, auth=(CLIENT_ID, CLIENT_SECRET))

    first, second = await ask(), await ask()

    assert (first.status_code, first.headers["Retry-After"], second.status_code) == (429, "7", 200)
    assert scene.capi.uaa.count("POST", "/oauth/token") == 2


async def test_both_speak_tls(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    async with (
        serve_bbs(certificates) as bbs,
        CloudController(InProcess(bbs)) as cloud,
        serve_capi(cloud, pair=certificates.server) as capi,
        httpx.AsyncClient(verify=context, trust_env=False) as http,
    ):
        links = (await http.get(f"{capi.url}/")).json()["links"]
        keys = (await http.get(f"{links['uaa']['href']}/token_keys")).json()["keys"]

    assert capi.url.startswith("https://")
    assert [key["alg"] for key in keys] == ["RS256"]
