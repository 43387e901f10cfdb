"""What is asked for each call, and what becomes of the answers."""

import json
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.capi import messages
from controller.capi.client import APPS_PER_LIST, CloudController
from controller.capi.messages import MAX_IMAGE
from reconcile.droplets import Build, BuildGuid, BuildState, Droplet, DropletGuid, Package, PackageGuid
from reconcile.errors import Denied, Invalid, NotFound, Unavailable
from reconcile.lrps import AppGuid
from tests.controller.capi.api import (
    API,
    APP,
    BUILD,
    DROPLET,
    IMAGE,
    PACKAGE,
    Api,
    build,
    droplet,
    package,
    page,
    refusal,
)

CREATED = 1767607208.0
CACHED = "cache.example:8080/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest"
THERE = Droplet(
    DropletGuid(DROPLET), "STAGED", True, IMAGE, AppGuid(APP), PackageGuid(PACKAGE), CREATED, CREATED + 1
)
NOT_FOUND = refusal(404, 10010, "CF-ResourceNotFound", "Droplet not found")


async def test_a_build_leads_to_its_droplet_its_package_and_its_app(capi: CloudController, api: Api) -> None:
    api.prepare("GET", f"/v3/builds/{BUILD}", httpx.Response(200, json=build()))

    found = await capi.find_build(BuildGuid(BUILD))

    assert found == Build(
        BuildGuid(BUILD),
        BuildState.STAGED,
        DropletGuid(DROPLET),
        AppGuid(APP),
        PackageGuid(PACKAGE),
        CREATED - 8,
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (build(droplet=None), BuildState.STAGED),
        (build(state="FAILED", droplet=None), BuildState.FAILED),
        (build(state="STAGING", droplet=None, package={"guid": None}), BuildState.STAGING),
    ],
)
async def test_a_build_may_have_no_droplet(
    answer: dict[str, object], expected: BuildState, capi: CloudController, api: Api
) -> None:
    """Trap 9: STAGED and without a droplet for a moment, and FAILED."""
    api.prepare("GET", f"/v3/builds/{BUILD}", httpx.Response(200, json=answer))

    found = await capi.find_build(BuildGuid(BUILD))

    assert found is not None
    assert (found.state, found.droplet_guid) == (expected, None)


async def test_what_is_gone_is_none(capi: CloudController, api: Api) -> None:
    """Trap 9: a build that was pruned."""
    paths = ("builds/b-1", "droplets/d-1", "apps/a-1/droplets/current", "packages/p-1")
    for path in paths:
        api.prepare("GET", f"/v3/{path}", NOT_FOUND)

    assert await capi.find_build(BuildGuid("b-1")) is None
    assert await capi.find_droplet(DropletGuid("d-1")) is None
    assert await capi.find_current_droplet(AppGuid("a-1")) is None
    assert await capi.find_package(PackageGuid("p-1")) is None
    assert api.asked == [f"GET /v3/{path}" for path in paths]


@pytest.mark.parametrize("guid", ["", "..", "a/b", "../apps", "x?y=1", "a b", "é", "-x", "x" * 300])
async def test_what_cannot_be_a_guid_is_not_asked_for(guid: str, capi: CloudController, api: Api) -> None:
    assert await capi.find_build(BuildGuid(guid)) is None
    with pytest.raises(NotFound):
        await capi.update_image(DropletGuid(guid), CACHED)

    assert api.requests == []


async def test_a_droplet_is_read(capi: CloudController, api: Api) -> None:
    api.prepare("GET", f"/v3/droplets/{DROPLET}", httpx.Response(200, json=droplet()))
    api.prepare("GET", f"/v3/apps/{APP}/droplets/current", httpx.Response(200, json=droplet()))

    assert await capi.find_droplet(DropletGuid(DROPLET)) == THERE
    assert await capi.find_current_droplet(AppGuid(APP)) == THERE


async def test_a_droplet_of_an_older_api_names_its_app_by_a_link_alone(
    capi: CloudController, api: Api
) -> None:
    older = droplet(links={"app": {"href": f"{API}/v3/apps/{APP}"}}, image=None)
    del older["relationships"]
    api.prepare("GET", f"/v3/droplets/{DROPLET}", httpx.Response(200, json=older))

    found = await capi.find_droplet(DropletGuid(DROPLET))

    assert found is not None
    assert (found.app_guid, found.package_guid, found.image) == (APP, None, None)


async def test_a_package_has_the_source_and_its_user_and_never_a_password(
    capi: CloudController, api: Api
) -> None:
    api.prepare("GET", f"/v3/packages/{PACKAGE}", httpx.Response(200, json=package()))
    api.prepare("GET", "/v3/packages/p-2", httpx.Response(200, json=package(type="bits", data={})))

    assert await capi.find_package(PackageGuid(PACKAGE)) == Package(
        PackageGuid(PACKAGE), is_docker=True, image=IMAGE, username="robot"
    )
    bits = await capi.find_package(PackageGuid("p-2"))
    assert bits is not None
    assert (bits.is_docker, bits.image) == (False, None)


async def test_an_image_is_written_by_one_request_with_nothing_else_in_it(
    capi: CloudController, api: Api
) -> None:
    api.prepare("PATCH", f"/v3/droplets/{DROPLET}", httpx.Response(200, json=droplet(image=CACHED)))

    changed = await capi.update_image(DropletGuid(DROPLET), CACHED)

    assert changed.image == CACHED
    assert api.asked == [f"PATCH /v3/droplets/{DROPLET}"]
    assert json.loads(api.requests[-1].content) == {"image": CACHED}
    assert api.requests[-1].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("answer", "expected", "may_have_happened"),
    [
        (refusal(500, 10001, "UnknownError"), Unavailable, True),
        (refusal(503, 10015, "CF-ServiceUnavailable"), Unavailable, True),
        (httpx.Response(502, headers={"X-Cf-RouterError": "endpoint_failure"}), Unavailable, True),
        (httpx.ReadTimeout("too slow"), Unavailable, True),
        (httpx.RemoteProtocolError("hung up"), Unavailable, True),
        (httpx.ConnectError("refused"), Unavailable, False),
        (NOT_FOUND, NotFound, None),
        (refusal(422, 10008, "CF-UnprocessableEntity"), Invalid, None),
        (refusal(400, 1001, "CF-MessageParseError"), Invalid, None),
        (refusal(403, 10003, "CF-NotAuthorized"), Denied, None),
        (httpx.Response(404, content=b"<html>no such host"), Unavailable, True),
        (httpx.Response(400, content=b"bad gateway, sort of"), Unavailable, True),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), Invalid, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_change_is_never_repeated_and_its_error_says_what_is_known(
    answer: httpx.Response | Exception,
    expected: type[Exception],
    may_have_happened: bool | None,  # noqa: FBT001 - a parameter
    capi: CloudController,
    api: Api,
) -> None:
    api.prepare("PATCH", f"/v3/droplets/{DROPLET}", answer)

    with pytest.raises(expected) as caught:
        await capi.update_image(DropletGuid(DROPLET), CACHED)

    assert type(caught.value) is expected
    assert getattr(caught.value, "may_have_happened", None) is may_have_happened
    assert api.asked == [f"PATCH /v3/droplets/{DROPLET}"]


async def test_droplets_are_listed_over_all_pages_the_docker_ones(capi: CloudController, api: Api) -> None:
    following = f"{API}/v3/droplets?page=2&per_page=1000"
    buildpack = droplet(guid="d-2", lifecycle={"type": "buildpack", "data": {}}, image=None)
    pages = [
        page([droplet(guid="d-1"), buildpack], total=3, following=following),
        page([droplet(guid="d-3")], total=3),
    ]
    api.prepare("GET", "/v3/droplets", *pages)

    assert [each.guid async for each in capi.list_droplets()] == ["d-1", "d-3"]

    first, second = api.requests[-2:]
    assert dict(first.url.params) == {"states": "STAGED", "order_by": "-created_at", "per_page": "1000"}
    assert str(second.url) == following


async def test_a_page_is_read_again_when_something_was_deleted_after_it(
    capi: CloudController, api: Api
) -> None:
    """Else the droplet that has moved from the second page to the first is missed."""
    following = f"{API}/v3/droplets?page=2"
    api.prepare(
        "GET",
        "/v3/droplets",
        page([droplet(guid="d-1"), droplet(guid="d-2")], total=4, following=following),
        page([droplet(guid="d-4")], total=3),
        page([droplet(guid="d-2"), droplet(guid="d-3")], total=3, following=following),
        page([droplet(guid="d-4")], total=3),
    )

    assert {each.guid async for each in capi.list_droplets()} == {"d-1", "d-2", "d-3", "d-4"}


@pytest.mark.parametrize(
    "link",
    [
        "http://api.sys.example.com/v3/droplets?page=2",
        "https://api.sys.example.com:8443/v3/droplets?page=2",
        "https://api.sys.example.com.evil.example/v3/droplets",
        "https://evil.example/v3/droplets",
        "//evil.example/v3",
        "/v3/droplets?page=2",
        7,
    ],
)
async def test_a_page_that_leads_elsewhere_is_not_followed(
    link: object, capi: CloudController, api: Api
) -> None:
    """The token would go there."""
    first = page([droplet()], total=2)
    document = json.loads(first.content)
    document["pagination"]["next"] = {"href": link}
    api.prepare("GET", "/v3/droplets", httpx.Response(200, json=document))

    with pytest.raises(Invalid, match="cloud-controller-link-refused"):
        _ = [each async for each in capi.list_droplets()]

    assert api.asked == ["GET /v3/droplets"]


async def test_many_apps_are_asked_for_in_several_requests(capi: CloudController, api: Api) -> None:
    api.prepare("GET", "/v3/builds", page([build()], total=1))
    apps = [AppGuid(f"app-{number}") for number in range(APPS_PER_LIST + 1)]

    assert [each.guid async for each in capi.list_builds(apps)] == [BUILD, BUILD]

    assert [len(each.url.params["app_guids"].split(",")) for each in api.requests[-2:]] == [50, 1]


async def test_no_apps_have_no_builds(capi: CloudController, api: Api) -> None:
    assert [each async for each in capi.list_builds(())] == []
    assert [each async for each in capi.list_droplets(app_guids=(AppGuid("a/b"),))] == []
    assert api.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(200, json=["a"]),
        httpx.Response(200, json=droplet(guid=7)),
        httpx.Response(200, json=droplet(image={"a": 1})),
        httpx.Response(200, json=droplet(created_at="yesterday")),
        httpx.Response(200, json=droplet(state=None)),
        httpx.Response(200, json=droplet(relationships={"app": None}, links=None)),
        httpx.Response(200, content=b"[" * 100_000),
    ],
    ids=range(9),
)
async def test_an_answer_that_is_not_understood_is_invalid(
    answer: httpx.Response, capi: CloudController, api: Api
) -> None:
    api.prepare("GET", f"/v3/droplets/{DROPLET}", answer)

    with pytest.raises(Invalid, match="bad-answer"):
        await capi.find_droplet(DropletGuid(DROPLET))


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, content=b"<html>"), httpx.Response(200, json={"guid": "d-1"})],
    ids=range(2),
)
async def test_a_change_whose_answer_is_not_understood_may_have_happened(
    answer: httpx.Response, capi: CloudController, api: Api
) -> None:
    api.prepare("PATCH", f"/v3/droplets/{DROPLET}", answer)

    with pytest.raises(Unavailable, match="bad-answer") as caught:
        await capi.update_image(DropletGuid(DROPLET), CACHED)

    assert caught.value.may_have_happened


async def test_an_odd_image_of_one_app_does_not_spoil_the_list_of_all(
    capi: CloudController, api: Api
) -> None:
    """Tenants choose these texts. No such text is a reference, so none is ever written back."""
    odd = [droplet(guid="d-1", image="x" * 5000), droplet(guid="d-2", image="a\ud800\0b"), droplet()]
    api.prepare("GET", "/v3/droplets", page(odd, total=3))

    images = [each.image async for each in capi.list_droplets()]

    assert images == ["x" * MAX_IMAGE, "a??b", IMAGE]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_whatever_cloud_controller_answers_is_a_value_or_one_of_our_errors(data: st.DataObject) -> None:
    """Parts of real answers are replaced by anything that JSON can hold."""
    make, convert = data.draw(
        st.sampled_from(
            [
                (build, messages.build_from_json),
                (droplet, messages.droplet_from_json),
                (package, messages.package_from_json),
            ]
        )
    )
    document = make()
    names = data.draw(st.lists(st.sampled_from(sorted(document)), min_size=1, max_size=3))
    for name in names:
        document[name] = data.draw(JSON)

    with suppress(Invalid):
        repr(convert(document)).encode()


async def test_a_page_that_is_not_understood_is_invalid(capi: CloudController, api: Api) -> None:
    broken: list[dict[str, object]] = [
        {"resources": []},
        {"pagination": {"total_results": 1}},
        {"resources": [7], "pagination": {"total_results": 1}},
    ]
    for answer in broken:
        api.prepare("GET", "/v3/droplets", httpx.Response(200, json=answer))
        with pytest.raises(Invalid, match="bad-answer"):
            _ = [each async for each in capi.list_droplets()]


async def test_a_large_page_is_read(capi: CloudController, api: Api) -> None:
    many = [droplet(guid=f"d-{number}") for number in range(300)]
    api.prepare("GET", "/v3/droplets", page(many, total=300))

    assert len([each async for each in capi.list_droplets()]) == 300
