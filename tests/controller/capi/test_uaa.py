"""When tokens are fetched, kept and renewed, and what UAA's refusals mean."""

import asyncio
import base64
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from controller.capi.client import CloudController
from controller.capi.exchanges import Exchanges
from controller.capi.scopes import READ_ALL, UPDATE, WRITE, claims_of, missing_scopes, scopes_of
from controller.capi.uaa import UaaClient, UaaTokens
from controller.file_values import FileValue
from reconcile.droplets import DropletGuid
from reconcile.errors import Denied, DockerCacheError, Invalid, RateLimited, Unavailable
from reconcile.lrps import Secret
from tests.controller.capi.api import (
    API,
    CLIENT_ID,
    SECRET,
    UAA,
    Api,
    Time,
    client_over_transport,
    droplet,
    jwt,
    refusal,
)

DROPLET = DropletGuid("d-1")
WRONG_SECRET = httpx.Response(401, json={"error": "unauthorized", "error_description": "Bad credentials"})


@pytest.fixture(autouse=True)
def _droplet(api: Api) -> None:
    api.prepare("GET", "/v3/droplets/d-1", httpx.Response(200, json=droplet(guid="d-1")))


async def test_a_token_is_fetched_once_with_the_clients_own_credentials(
    capi: CloudController, api: Api
) -> None:
    await capi.find_droplet(DROPLET)
    await capi.find_droplet(DROPLET)

    (request,) = api.token_requests
    assert str(request.url) == f"{UAA}/oauth/token"
    assert parse_qs(request.content.decode()) == {
        "grant_type": ["client_credentials"],
        "token_format": ["jwt"],
    }
    login = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {login}"
    assert request.headers["Accept"] == "application/json"
    assert api.requests[-1].headers["Authorization"] == f"bearer {api.tokens[0]}"


async def test_those_that_need_a_token_at_the_same_time_share_one(capi: CloudController, api: Api) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(capi.find_droplet(DROPLET))

    assert len(api.tokens) == 1


@pytest.mark.parametrize(("expires_in", "used_for"), [(43199, 42899), (600, 540), (None, 540), ("x", 540)])
async def test_a_token_is_renewed_before_its_end(
    expires_in: object, used_for: float, capi: CloudController, api: Api, time: Time
) -> None:
    api.expires_in = expires_in
    await capi.find_droplet(DROPLET)

    time.now += used_for - 1
    await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 1

    time.now += 1
    await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 2


async def test_the_old_token_serves_while_uaa_is_down_until_its_end(
    capi: CloudController, api: Api, time: Time
) -> None:
    await capi.find_droplet(DROPLET)
    api.token_answers.extend([httpx.ConnectError("down")] * 3)

    time.now += 43000
    await capi.find_droplet(DROPLET)
    time.now += 1
    await capi.find_droplet(DROPLET)
    assert len(api.token_requests) == 2  # not asked again at once

    time.now += 198
    with pytest.raises(Unavailable):
        await capi.find_droplet(DROPLET)


@pytest.fixture
def uaa_client(secret_file: Path, time: Time) -> UaaClient:
    secret_file.write_text(SECRET)
    secret = FileValue((secret_file,), lambda: Secret(secret_file.read_text()), clock=lambda: time.now)
    return UaaClient(CLIENT_ID, secret)


async def test_all_requests_whose_one_token_was_refused_count_as_one_renewal(
    api: Api, uaa_client: UaaClient, time: Time
) -> None:
    """A new key of UAA refuses what many requests at a time were sent with, and UAA may be away just then."""

    async def find_uaa() -> str:
        return UAA

    async with httpx.AsyncClient(transport=httpx.MockTransport(api.handle)) as http:
        exchanges = Exchanges(http, 5.0, lambda: None, lambda *_: None)
        tokens = UaaTokens(exchanges, find_uaa, uaa_client, lambda: time.now)
        first = await tokens.token()
        api.token_answers.append(httpx.ConnectError("away"))
        for _ in range(6):
            with pytest.raises(Unavailable):
                await tokens.renewed(first)

        time.now += 30
        assert (await tokens.renewed(first)).text == api.tokens[1]


async def test_whoever_waits_for_a_token_gets_one_though_who_fetches_it_is_cancelled(
    api: Api, secret_file: Path
) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            asked.set()
            await may_answer.wait()
        return api.handle(request)

    capi = await asyncio.to_thread(client_over_transport, httpx.MockTransport(handle), secret_file)
    first = asyncio.ensure_future(capi.find_droplet(DROPLET))
    await asked.wait()
    second = asyncio.ensure_future(capi.find_droplet(DROPLET))
    first.cancel()
    may_answer.set()

    assert await second is not None
    assert first.cancelled()


async def test_a_failure_is_shared_for_some_seconds(capi: CloudController, api: Api, time: Time) -> None:
    """Else each of many callers waits for its own time limit, one after the other."""
    api.token_answers.append(httpx.Response(502))

    for _ in range(3):
        with pytest.raises(Unavailable):
            await capi.find_droplet(DROPLET)
    assert len(api.token_requests) == 1

    time.now += 5
    await capi.find_droplet(DROPLET)


async def test_a_refused_secret_names_its_file_and_is_not_sent_again_for_a_minute(
    capi: CloudController, api: Api, time: Time
) -> None:
    """UAA locks a client out that is refused too often."""
    api.token_answers.extend([WRONG_SECRET, WRONG_SECRET])

    for _ in range(3):
        with pytest.raises(Denied, match=r"uaa-client-refused.*docker-cache.*uaa_client_secret_file"):
            await capi.find_droplet(DROPLET)
        time.now += 10
    assert len(api.token_requests) == 1

    time.now += 60
    with pytest.raises(Denied):
        await capi.find_droplet(DROPLET)
    assert len(api.token_requests) == 2


async def test_a_new_secret_is_sent_at_once(
    capi: CloudController, api: Api, time: Time, secret_file: Path
) -> None:
    api.token_answers.append(WRONG_SECRET)
    with pytest.raises(Denied):
        await capi.find_droplet(DROPLET)

    await asyncio.to_thread(secret_file.write_text, "another one")
    time.now += 2
    await capi.find_droplet(DROPLET)

    login = base64.b64decode(api.token_requests[-1].headers["Authorization"].partition(" ")[2]).decode()
    assert login == f"{CLIENT_ID}:another one"


async def test_a_rate_limit_of_uaa_is_kept(capi: CloudController, api: Api, time: Time) -> None:
    api.token_answers.append(
        httpx.Response(429, json={"error": "rate_limited"}, headers={"Retry-After": "30"})
    )

    for passed in (0, 20):
        time.now += passed
        with pytest.raises(RateLimited) as caught:
            await capi.find_droplet(DROPLET)
        assert caught.value.retry_after == 30 - passed
    assert len(api.token_requests) == 1

    time.now += 10
    await capi.find_droplet(DROPLET)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(400, json={"error": "invalid_client"}), Denied),
        (httpx.Response(400, json={"error": "unauthorized_client"}), Denied),
        (httpx.Response(403), Denied),
        (httpx.Response(500), Unavailable),
        (httpx.Response(404, headers={"X-Cf-RouterError": "unknown_route"}), Unavailable),
        (httpx.Response(404), Invalid),
        (httpx.Response(200, json={"token_type": "bearer"}), Invalid),
        (httpx.Response(200, json={"access_token": "two\r\nlines"}), Invalid),
        (httpx.Response(200, json={"access_token": ""}), Invalid),
        (httpx.Response(200, content=b"<html>"), Invalid),
        (httpx.ReadTimeout("slow"), Unavailable),
    ],
    ids=range(11),
)
async def test_other_answers_are_sorted(
    answer: httpx.Response | Exception, expected: type[DockerCacheError], capi: CloudController, api: Api
) -> None:
    api.token_answers.append(answer)

    with pytest.raises(expected) as caught:
        await capi.update_image(DROPLET, "team/web")

    assert type(caught.value) is expected
    assert getattr(caught.value, "may_have_happened", False) is False  # the change itself was not sent


async def test_neither_secret_nor_token_is_in_any_error(capi: CloudController, api: Api) -> None:
    told = {
        "error": SECRET,
        "error_description": f"client_secret={SECRET} {base64.b64encode(SECRET.encode())!r}",
    }
    api.token_answers.append(httpx.Response(401, json=told))

    with pytest.raises(Denied) as caught:
        await capi.find_droplet(DROPLET)

    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


async def test_a_token_shows_nothing_of_itself(capi: CloudController, api: Api) -> None:
    await capi.find_droplet(DROPLET)

    assert api.tokens[0] not in repr(capi)
    assert api.tokens[0] not in repr(capi.calls.tokens.known)


@pytest.mark.parametrize(
    "url",
    [
        "http://uaa.sys.example.com",
        "https://user:pw@uaa.sys.example.com",
        "https://uaa.sys.example.com/?x=1",
        "ftp://uaa.sys.example.com",
        "uaa.sys.example.com",
        "https://uaa .example",
        "https://uaa.example:99999",
    ],
)
async def test_the_secret_goes_to_no_uaa_without_tls(url: str, capi: CloudController, api: Api) -> None:
    api.uaa_url = url

    with pytest.raises(Invalid, match="cloud-controller-link-refused"):
        await capi.find_droplet(DROPLET)

    assert api.token_requests == []


@pytest.mark.parametrize(
    "root",
    [
        {},
        {"links": {"cloud_controller_v3": None, "uaa": {"href": UAA}}},
        {"links": {"cloud_controller_v3": {"href": f"{API}/v3"}, "uaa": None}},
        {"links": []},
    ],
)
async def test_another_server_than_cloud_controller_gets_no_secret(
    root: dict[str, object], capi: CloudController, api: Api
) -> None:
    api.root = root

    with pytest.raises(Invalid, match="bad-answer"):
        await capi.find_droplet(DROPLET)

    assert api.token_requests == []


@pytest.mark.parametrize("status", [401, 403])
async def test_who_refuses_the_root_which_takes_no_token_says_nothing_of_the_client(
    status: int, capi: CloudController, api: Api, time: Time
) -> None:
    api.root_answers.append(refusal(status, 1000, "CF-InvalidAuthToken"))

    with pytest.raises(Unavailable, match="cloud-controller-failed"):
        await capi.find_droplet(DROPLET)
    time.now += 5
    await capi.find_droplet(DROPLET)

    assert len(api.token_requests) == 1


async def test_uaa_is_looked_for_again_with_each_token(capi: CloudController, api: Api, time: Time) -> None:
    await capi.find_droplet(DROPLET)
    api.uaa_url = "https://login.sys.example.com/"
    time.now += 50000
    await capi.find_droplet(DROPLET)

    assert [str(each.url) for each in api.token_requests] == [
        f"{UAA}/oauth/token",
        "https://login.sys.example.com/oauth/token",
    ]


def test_the_scopes_are_those_of_the_claims() -> None:
    assert scopes_of(jwt(["a.b", "c.d"]), "e.f") == {"a.b", "c.d"}
    assert scopes_of("opaque", "e.f g.h") == {"e.f", "g.h"}
    assert scopes_of("a.b.c", ["e.f", 1]) == {"e.f"}
    assert scopes_of("a.!!!!.c", None) == frozenset()
    assert claims_of("x" * 100_000) == {}


def test_what_is_missing_is_named() -> None:
    def missing(*scopes: str, updates: bool = True) -> tuple[str, ...]:
        return missing_scopes(frozenset(scopes), updates=updates)

    assert missing() == (WRITE, UPDATE, READ_ALL)
    assert missing(updates=False) == (READ_ALL,)
    assert missing("cloud_controller.admin") == ()
    assert missing(WRITE, UPDATE, "cloud_controller.admin_read_only") == ()
    assert missing(WRITE, UPDATE, "cloud_controller.read") == (READ_ALL,)
