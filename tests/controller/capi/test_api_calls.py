"""Tokens, budget, repetitions and errors of single calls."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest

from controller.capi.client import CloudController
from controller.capi.rate_limits import stated_limit
from reconcile.cloud_controller_status import ApiCall, ApiOutcome
from reconcile.droplets import DropletGuid
from reconcile.errors import Denied, Invalid, LeaseLost, RateLimited, Unavailable
from reconcile.lrps import AppGuid
from reconcile.request_budget import StatedLimit
from tests.controller.capi.api import APP, SCOPES, Api, Seen, Tenure, Time, droplet, page, refusal

DROPLET = DropletGuid("d-1")
PATH = "/v3/droplets/d-1"
THERE = httpx.Response(200, json=droplet(guid="d-1"))
EXPIRED = refusal(401, 1000, "CF-InvalidAuthToken", "Invalid Auth Token")
HIDDEN = refusal(404, 10010, "CF-ResourceNotFound")


def limited(remaining: int, *, status: int = 200, **more: str) -> httpx.Response:
    headers = {
        "X-RateLimit-Limit": "2000",
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": "1800004600",
    }
    return httpx.Response(status, json=droplet(guid="d-1"), headers=headers | more)


async def test_each_request_has_an_id_that_the_servers_log_has_too(
    capi: CloudController, api: Api, seen: Seen
) -> None:
    """Trap 15 of its errors: an operator finds the request in Cloud Controller's log."""
    api.prepare("GET", PATH, THERE, refusal(500, 10001, "UnknownError"))
    await capi.find_droplet(DROPLET)

    with pytest.raises(Unavailable) as caught:
        await capi.find_droplet(DROPLET)

    ids = [each.headers["X-Vcap-Request-Id"] for each in api.requests]
    assert len(set(ids)) == len(ids) == 4
    assert [each.request_id for each in seen.answers] == ids
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert caught.value.detail == (
        f"GET {PATH}: HTTP status 500, 10001 UnknownError: told so (request {ids[-1]})"
    )


async def test_a_token_that_is_refused_in_mid_flight_is_renewed_once(capi: CloudController, api: Api) -> None:
    """Trap 15: also for a change, of which nothing was done."""
    api.prepare("PATCH", PATH, EXPIRED, THERE)

    await capi.update_image(DROPLET, "team/web")

    assert api.asked == [f"PATCH {PATH}"] * 2
    assert len(api.tokens) == 2
    assert api.requests[-1].headers["Authorization"] == f"bearer {api.tokens[1]}"


async def test_a_new_token_that_is_refused_too_is_an_error(capi: CloudController, api: Api) -> None:
    api.prepare("GET", PATH, EXPIRED)

    with pytest.raises(Denied, match="cloud-controller-token-refused"):
        await capi.find_droplet(DROPLET)

    assert len(api.asked) == len(api.tokens) == 2


async def test_an_api_that_refuses_every_token_does_not_cost_uaa_one_for_each_request(
    capi: CloudController, api: Api, time: Time
) -> None:
    api.prepare("GET", PATH, EXPIRED)

    for _ in range(10):
        with pytest.raises(Denied, match="cloud-controller-token-refused"):
            await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 4

    time.now += 60
    with pytest.raises(Denied):
        await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 5


async def test_a_read_without_a_connection_is_repeated_and_any_other_is_not(
    capi: CloudController, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.prepare("GET", PATH, httpx.ConnectError("refused"), THERE)
    assert await capi.find_droplet(DROPLET) is not None
    assert len(api.asked) == 2

    api.prepare("GET", PATH, httpx.ReadTimeout("slow"), THERE)
    with pytest.raises(Unavailable, match="timeout"):
        await capi.find_droplet(DROPLET)
    assert len(api.asked) == 3


async def test_after_a_429_nothing_is_sent_until_the_time_that_it_names(
    capi: CloudController, api: Api, time: Time
) -> None:
    """Trap 15; its body is the usual one although its type says text."""
    answer = refusal(
        429,
        10013,
        "CF-RateLimitExceeded",
        headers={"Retry-After": "45", "Content-Type": "text/plain; charset=utf-8"},
    )
    api.prepare("GET", PATH, answer, THERE)

    with pytest.raises(RateLimited) as caught:
        await capi.find_droplet(DROPLET)
    assert (caught.value.code, caught.value.retry_after) == ("CF-RateLimitExceeded", 45.0)

    time.now += 40
    with pytest.raises(RateLimited, match="cloud-controller-budget-spent") as sent_back:
        await capi.update_image(DROPLET, "team/web")
    assert (sent_back.value.retry_after, sent_back.value.may_have_happened) == (5.0, False)
    assert len(api.asked) == 1

    time.now += 5
    assert await capi.find_droplet(DROPLET) is not None


async def test_a_429_without_a_time_is_one_for_a_minute(capi: CloudController, api: Api, time: Time) -> None:
    api.prepare("GET", PATH, refusal(429, 10013, "CF-RateLimitExceeded", headers={"Retry-After": "soon"}))

    with pytest.raises(RateLimited) as caught:
        await capi.find_droplet(DROPLET)

    assert caught.value.retry_after == 60.0
    with pytest.raises(RateLimited) as sent_back:
        await capi.find_droplet(DROPLET)
    assert sent_back.value.retry_after == 60.0


async def test_what_uaa_limits_behind_cloud_controller_is_a_rate_limit(
    capi: CloudController, api: Api
) -> None:
    api.prepare("GET", PATH, refusal(503, 20008, "CF-UaaRateLimited", headers={"Retry-After": "7"}))

    with pytest.raises(RateLimited) as caught:
        await capi.find_droplet(DROPLET)

    assert caught.value.retry_after == 7.0


async def test_the_background_waits_for_its_share_and_the_others_do_not(
    capi: CloudController, api: Api, time: Time
) -> None:
    """At most 799 of 2000 are left, and the others may need 998."""
    api.prepare("GET", PATH, limited(600))
    await capi.find_droplet(DROPLET)

    await capi.find_droplet(DROPLET)
    assert time.slept == []

    await capi.background().find_droplet(DROPLET)
    assert sum(time.slept) == 3600.0
    assert max(time.slept) <= 60.0


async def test_a_change_follows_at_once_what_the_background_has_read_for_it(
    capi: CloudController, api: Api, time: Time
) -> None:
    """Else another tool might change the droplet while the request waits; what comes next waits longer instead."""
    api.prepare("GET", PATH, THERE)
    api.prepare("PATCH", PATH, THERE)
    background = capi.background()
    for _ in range(100):
        await background.find_droplet(DROPLET)

    await background.update_image(DROPLET, "team/web")
    assert time.slept == []

    await background.find_droplet(DROPLET)
    assert sum(time.slept) == pytest.approx(8.0, abs=0.1)


async def test_a_change_of_the_background_is_not_sent_while_the_api_refuses_all(
    capi: CloudController, api: Api, time: Time
) -> None:
    api.prepare("GET", PATH, limited(0, status=429, **{"Retry-After": "7"}))
    with pytest.raises(RateLimited):
        await capi.find_droplet(DROPLET)

    with pytest.raises(RateLimited) as caught:
        await capi.background().update_image(DROPLET, "team/web")

    assert not caught.value.may_have_happened
    assert time.slept == []


async def test_a_first_sweep_is_not_slowed_down(capi: CloudController, api: Api, time: Time) -> None:
    api.prepare("GET", PATH, THERE)

    for _ in range(100):
        await capi.background().find_droplet(DROPLET)
    assert time.slept == []

    await capi.background().find_droplet(DROPLET)
    assert sum(time.slept) == pytest.approx(4.0, abs=0.1)


async def test_a_list_of_what_the_roles_of_the_client_let_it_see_is_no_list_of_all(
    capi: CloudController, api: Api
) -> None:
    """Else a copy would be deleted that a droplet names which the client cannot see."""
    api.scopes = (*SCOPES[:2], "cloud_controller.read")
    api.prepare("GET", "/v3/droplets", page([], total=0))
    api.prepare("GET", "/v3/builds", page([], total=0))

    with pytest.raises(Denied, match=r"scope-missing.*global_auditor"):
        _ = [each async for each in capi.list_droplets()]
    with pytest.raises(Denied, match=r"scope-missing.*global_auditor"):
        _ = [each async for each in capi.list_builds([AppGuid(APP)])]


@pytest.mark.parametrize("scopes", [SCOPES[:2], (*SCOPES[:2], "cloud_controller.read")])
async def test_what_is_hidden_is_not_taken_for_gone(
    scopes: tuple[str, ...], capi: CloudController, api: Api
) -> None:
    """Trap 15: a client without the right to read is told 404."""
    api.scopes = scopes
    api.prepare("GET", PATH, HIDDEN)

    with pytest.raises(Denied, match=r"cloud-controller-scope-missing.*global_auditor"):
        await capi.find_droplet(DROPLET)

    assert capi.status().missing_scopes == ("cloud_controller.global_auditor",)


async def test_a_scope_that_is_missing_is_named(capi: CloudController, api: Api) -> None:
    api.scopes = SCOPES[2:]
    api.prepare("PATCH", PATH, refusal(403, 10003, "CF-NotAuthorized"))

    with pytest.raises(Denied) as caught:
        await capi.update_image(DROPLET, "team/web")

    assert caught.value.code == "cloud-controller-scope-missing"
    assert "lacks cloud_controller.write, cloud_controller.update_build_state:" in caught.value.detail


async def test_a_scope_that_is_given_is_taken_up_after_a_minute(
    capi: CloudController, api: Api, time: Time
) -> None:
    api.scopes = SCOPES[2:]
    api.prepare("PATCH", PATH, refusal(403, 10003, "CF-NotAuthorized"))
    with pytest.raises(Denied):
        await capi.update_image(DROPLET, "team/web")
    api.scopes = SCOPES
    api.prepare("GET", PATH, httpx.Response(200, json=droplet()))

    time.now += 59
    await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 1

    time.now += 2
    await capi.find_droplet(DROPLET)
    assert len(api.tokens) == 2
    assert capi.status().missing_scopes == ()


async def test_another_refusal_is_not_about_scopes(capi: CloudController, api: Api) -> None:
    api.prepare("PATCH", PATH, refusal(403, 330002, "CF-FeatureDisabled"))

    with pytest.raises(Denied, match="cloud-controller-refused"):
        await capi.update_image(DROPLET, "team/web")


async def test_credentials_in_an_answer_are_not_shown(capi: CloudController, api: Api) -> None:
    told = "https://robot:hunter2-secret@registry.example/x bearer eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.sig"
    api.prepare("PATCH", PATH, refusal(422, 10008, "CF-UnprocessableEntity", told))

    with pytest.raises(Invalid) as caught:
        await capi.update_image(DROPLET, "team/web")

    assert "hunter2" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


async def test_nothing_is_sent_by_who_is_not_active(capi: CloudController, api: Api, tenure: Tenure) -> None:
    tenure.is_over = lambda: True

    for call in (capi.find_droplet(DROPLET), capi.update_image(DROPLET, "team/web")):
        with pytest.raises(LeaseLost):
            await call

    assert api.requests == []


async def test_a_lease_that_ends_while_a_request_waits_stops_it(
    capi: CloudController, api: Api, time: Time, tenure: Tenure
) -> None:
    end = time.now + 60
    tenure.is_over = lambda: time.now > end
    api.prepare("GET", PATH, limited(600))
    await capi.find_droplet(DROPLET)

    with pytest.raises(LeaseLost):
        await capi.background().find_droplet(DROPLET)

    assert len(api.asked) == 1


async def test_the_state_says_since_when_it_fails_and_what_it_says(
    capi: CloudController, api: Api, time: Time
) -> None:
    assert capi.status().reachable_since is capi.status().failing_since is None

    api.prepare("GET", PATH, THERE, HIDDEN, *[refusal(503, 10015, "CF-ServiceUnavailable")] * 2, THERE)
    await capi.find_droplet(DROPLET)
    time.now += 10
    await capi.find_droplet(DROPLET)
    status = capi.status()
    assert (status.reachable_since, status.failing_since) == (1_800_001_000.0, None)
    assert (status.last_success, status.requests_left) == (1_800_001_000.0, 1998)
    assert status.window_ends_at == 1_800_001_000.0 + 3600

    for _ in range(2):
        time.now += 10
        with pytest.raises(Unavailable):
            await capi.find_droplet(DROPLET)
    status = capi.status()
    assert (status.reachable_since, status.failing_since) == (None, 1_800_001_020.0)
    assert "CF-ServiceUnavailable" in status.error

    time.now += 10
    await capi.find_droplet(DROPLET)
    status = capi.status()
    assert (status.reachable_since, status.failing_since, status.error) == (1_800_001_040.0, None, "")


async def test_whoever_counts_requests_is_told_what_was_asked_and_how_it_ended(
    capi: CloudController, api: Api, seen: Seen
) -> None:
    api.prepare("GET", PATH, THERE, HIDDEN, refusal(429, 10013, "CF-RateLimitExceeded"))
    api.prepare("GET", "/v3/droplets", page([], total=0))
    await capi.find_droplet(DROPLET)
    await capi.find_droplet(DROPLET)
    assert [each async for each in capi.list_droplets()] == []
    with pytest.raises(RateLimited):
        await capi.find_droplet(DROPLET)

    assert seen.asked_for == [
        (ApiCall.FIND_DROPLET, ApiOutcome.OK),
        (ApiCall.FIND_DROPLET, ApiOutcome.NOT_FOUND),
        (ApiCall.LIST_DROPLETS, ApiOutcome.OK),
        (ApiCall.FIND_DROPLET, ApiOutcome.RATE_LIMITED),
    ]


def _headers(limit: str = "2000", remaining: str = "1800", reset: str = "1900", **more: str) -> httpx.Headers:
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    return httpx.Headers(dict(zip(names, (limit, remaining, reset), strict=True)) | more)


def test_the_reset_is_counted_by_the_clock_of_the_server() -> None:
    date = format_datetime(datetime.fromtimestamp(1000, UTC), usegmt=True)

    stated = stated_limit(_headers(Date=date), now=50.0, wall_now=77.0)

    assert stated == StatedLimit(2000, 1800, resets_at=950.0)
    assert stated_limit(_headers(), now=50.0, wall_now=1890.0) == StatedLimit(2000, 1800, resets_at=60.0)


def test_a_limit_that_cannot_be_is_bounded_or_none() -> None:
    assert stated_limit(_headers(reset="5"), now=50.0, wall_now=1890.0) == StatedLimit(2000, 1800, 51.0)
    assert stated_limit(_headers(reset="9" * 12), now=0.0, wall_now=0.0) == StatedLimit(2000, 1800, 86400.0)
    assert stated_limit(_headers(remaining="9999"), now=0.0, wall_now=1890.0) == StatedLimit(2000, 2000, 10.0)
    for broken in (
        _headers(limit="0"),
        _headers(limit="-5"),
        _headers(remaining=""),
        _headers(reset="x" * 99),
        httpx.Headers({"X-RateLimit-Limit": "2000"}),
    ):
        assert stated_limit(broken, now=0.0, wall_now=0.0) is None
