"""What Cloud Controller and UAA do that we depend on, asked for without a client of ours.

A real Cloud Controller is only read, and asked to change GUIDs that are made up.
"""

import base64
import json
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.contracts.capi_targets import CapiTarget, OnRealCapi, OnSimulator, Scene

NEEDED = {
    "cloud_controller.write",
    "cloud_controller.update_build_state",
    "cloud_controller.global_auditor",
}
MADE_UP = str(uuid.UUID(int=0x4000800000000000))


def error_of(answer: httpx.Response) -> tuple[int, int, str]:
    (error,) = answer.json()["errors"]
    assert error["detail"]
    return answer.status_code, error["code"], error["title"]


def claims_of(token: str) -> dict[str, Any]:
    text = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return claims


class CapiContract:
    """What any Cloud Controller with its UAA does. Subclasses provide the `scene` fixture."""

    async def test_the_root_names_the_api_and_its_token_server_to_everybody(self, scene: Scene) -> None:
        links = await scene.root()

        assert links["self"]["href"].rstrip("/") == scene.target.url
        assert links["cloud_controller_v3"]["href"] == f"{scene.target.url}/v3"
        assert links["cloud_controller_v3"]["meta"]["version"].startswith("3.")
        assert links["uaa"]["href"].startswith("http")

    async def test_the_version_lists_its_resources_to_everybody(self, scene: Scene) -> None:
        answer = await scene.call("GET", "/v3", "")

        assert answer.status_code == httpx.codes.OK
        assert answer.json()["links"]["droplets"]["href"] == f"{scene.target.url}/v3/droplets"

    @pytest.mark.parametrize("way", ["header", "form"])
    async def test_a_token_is_given_for_the_clients_secret(self, scene: Scene, way: str) -> None:
        form, login = {"grant_type": "client_credentials"}, (scene.target.client_id, scene.target.secret)
        if way == "form":
            form |= {"client_id": login[0], "client_secret": login[1]}

        answer = await scene.ask_token(form, login if way == "header" else None)

        body = answer.json()
        claims = claims_of(body["access_token"])
        assert (answer.status_code, body["token_type"]) == (httpx.codes.OK, "bearer")
        assert set(body["scope"].split()) >= NEEDED
        assert set(claims["scope"]) >= NEEDED
        assert claims["client_id"] == scene.target.client_id
        assert "cloud_controller" in claims["aud"]
        assert 0 <= claims["exp"] - claims["iat"] - body["expires_in"] <= 2
        assert "refresh_token" not in body

    async def test_a_token_can_be_narrowed(self, scene: Scene) -> None:
        form = {"grant_type": "client_credentials", "scope": "cloud_controller.write"}

        answer = await scene.ask_token(form, (scene.target.client_id, scene.target.secret))

        assert answer.json()["scope"] == "cloud_controller.write"
        refused = await scene.call("GET", "/v3/droplets", answer.json()["access_token"])
        assert error_of(refused) == (403, 10003, "CF-NotAuthorized")

    async def test_a_wrong_secret_is_refused_with_a_reason(self, scene: Scene) -> None:
        form = {"grant_type": "client_credentials"}

        answer = await scene.ask_token(form, (scene.target.client_id, "not the secret"))

        assert answer.status_code == httpx.codes.UNAUTHORIZED
        assert answer.json()["error"] in {"unauthorized", "invalid_client"}
        assert answer.json()["error_description"]

    async def test_no_token_and_a_wrong_one_are_told_apart(self, scene: Scene) -> None:
        assert error_of(await scene.call("GET", "/v3/droplets", "")) == (401, 10002, "CF-NotAuthenticated")
        assert error_of(await scene.call("GET", "/v3/droplets", "bad")) == (401, 1000, "CF-InvalidAuthToken")

    async def test_the_word_bearer_may_be_written_in_any_way(self, scene: Scene) -> None:
        headers = {"Authorization": f"BEARER {await scene.token()}"}

        answer = await scene.call("GET", "/v3/droplets?per_page=1", "", headers=headers)

        assert answer.status_code == httpx.codes.OK

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            (f"/v3/builds/{MADE_UP}", "Build"),
            (f"/v3/droplets/{MADE_UP}", "Droplet"),
            (f"/v3/packages/{MADE_UP}", "Package"),
            (f"/v3/apps/{MADE_UP}", "App"),
            (f"/v3/apps/{MADE_UP}/droplets/current", "App"),
            (f"/v3/packages/{MADE_UP}/droplets", "Package"),
        ],
    )
    async def test_what_is_not_there_is_named(self, scene: Scene, path: str, kind: str) -> None:
        answer = await scene.call("GET", path)

        assert error_of(answer) == (404, 10010, "CF-ResourceNotFound")
        assert answer.json()["errors"][0]["detail"].startswith(kind)

    async def test_an_unknown_path_is_another_error(self, scene: Scene) -> None:
        assert error_of(await scene.call("GET", "/v3/no-such-thing")) == (404, 10000, "CF-NotFound")

    @pytest.mark.parametrize("path", ["/v3/droplets", "/v3/builds"])
    async def test_an_unknown_parameter_of_a_list_is_refused(self, scene: Scene, path: str) -> None:
        answer = await scene.call("GET", f"{path}?odd=1")

        assert error_of(answer) == (400, 10005, "CF-BadQueryParameter")

    @pytest.mark.parametrize(
        "parameter", ["page=0", "per_page=0", "per_page=5001", "order_by=name", "page=x"]
    )
    async def test_a_wrong_page_is_refused(self, scene: Scene, parameter: str) -> None:
        answer = await scene.call("GET", f"/v3/droplets?{parameter}")

        assert error_of(answer) == (400, 10005, "CF-BadQueryParameter")

    async def test_a_list_is_read_page_by_page_by_its_own_links(self, scene: Scene) -> None:
        path = "/v3/droplets?states=STAGED&order_by=-created_at&per_page=1"
        times: list[str] = []
        for number in range(1, 4):
            body = (await scene.call("GET", path)).json()
            times += [each["created_at"] for each in body["resources"]]
            assert len(body["resources"]) <= 1
            assert body["pagination"]["total_pages"] >= number
            assert (body["pagination"]["previous"] is None) == (number == 1)
            link = body["pagination"]["next"]
            if link is None:
                break
            path = link["href"]
            assert path.startswith(f"{scene.target.url}/v3/droplets?")

        assert times == sorted(times, reverse=True)

    async def test_a_page_beyond_the_end_is_empty(self, scene: Scene) -> None:
        body = (await scene.call("GET", "/v3/builds?page=100000&per_page=5000")).json()

        assert body["resources"] == []
        assert body["pagination"]["next"] is None

    async def test_a_filter_by_apps_that_are_not_there_finds_nothing(self, scene: Scene) -> None:
        for path in ("/v3/droplets", "/v3/builds", "/v3/packages", "/v3/processes"):
            body = (await scene.call("GET", f"{path}?app_guids={MADE_UP},{uuid.uuid4()}")).json()

            assert body["resources"] == []
            assert body["pagination"]["total_results"] == 0

    async def test_a_staged_docker_droplet_leads_to_its_app_package_and_build(self, scene: Scene) -> None:
        droplet = await self.docker_droplet(scene)
        app_guid = droplet["relationships"]["app"]["data"]["guid"]
        package_link = droplet["links"]["package"]["href"]

        alone = (await scene.call("GET", f"/v3/droplets/{droplet['guid']}")).json()
        package = (await scene.call("GET", package_link)).json()
        query = f"app_guids={app_guid}&states=STAGED&per_page=100"
        builds = (await scene.call("GET", f"/v3/builds?{query}")).json()["resources"]

        assert (alone["guid"], alone["image"]) == (droplet["guid"], droplet["image"])
        assert (alone["state"], alone["lifecycle"]) == ("STAGED", {"type": "docker", "data": {}})
        assert package["type"] == "docker"
        assert package["relationships"]["app"]["data"]["guid"] == app_guid
        assert isinstance(package["data"]["image"], str)
        assert "://" not in package["data"]["image"]
        assert package["data"]["password"] in {None, "[PRIVATE DATA HIDDEN]", "***"}
        for build in builds:
            assert set(build["droplet"] or {"guid"}) >= {"guid"}
            assert build["lifecycle"]["type"] == "docker"
            assert set(build["package"]) >= {"guid"}

    async def test_an_app_leads_to_the_names_of_its_space_and_its_organization(self, scene: Scene) -> None:
        droplet = await self.docker_droplet(scene)
        app_guid = droplet["relationships"]["app"]["data"]["guid"]

        async def the_one(path: str, guid: str, more: str = "") -> dict[str, Any]:
            body = (await scene.call("GET", f"{path}?guids={guid}{more}&order_by=-created_at")).json()
            (found,) = body["resources"]
            assert (found["guid"], body["pagination"]["total_results"]) == (guid, 1)
            assert found["name"]
            return dict(found)

        app = await the_one("/v3/apps", app_guid, "&lifecycle_type=docker")
        space = await the_one("/v3/spaces", app["relationships"]["space"]["data"]["guid"])
        await the_one("/v3/organizations", space["relationships"]["organization"]["data"]["guid"])

    async def test_the_current_droplet_is_one_of_the_apps_droplets(self, scene: Scene) -> None:
        droplet = await self.docker_droplet(scene)
        app_guid = droplet["relationships"]["app"]["data"]["guid"]

        answer = await scene.call("GET", f"/v3/apps/{app_guid}/droplets/current")
        listed = (await scene.call("GET", f"/v3/apps/{app_guid}/droplets?current=true")).json()["resources"]

        if answer.status_code == httpx.codes.NOT_FOUND:
            assert listed == []
        else:
            assert [each["guid"] for each in listed] == [answer.json()["guid"]]

    async def test_the_filter_current_belongs_to_an_apps_list(self, scene: Scene) -> None:
        droplet = await self.docker_droplet(scene)
        app_guid = droplet["relationships"]["app"]["data"]["guid"]

        for path in ("/v3/droplets?current=true", f"/v3/apps/{app_guid}/droplets?current=false"):
            assert error_of(await scene.call("GET", path)) == (400, 10005, "CF-BadQueryParameter")

    async def test_a_droplet_that_is_not_there_cannot_be_changed(self, scene: Scene) -> None:
        answer = await self.patch(scene, json={"image": "registry.example.com/team/web:1"})

        assert error_of(answer) == (404, 10010, "CF-ResourceNotFound")

    async def test_a_change_without_a_token_is_refused(self, scene: Scene) -> None:
        answer = await self.patch(scene, token="", json={"image": "registry.example.com/team/web:1"})

        assert error_of(answer) == (401, 10002, "CF-NotAuthenticated")

    async def test_a_body_that_is_no_json_is_refused(self, scene: Scene) -> None:
        headers = {"Content-Type": "application/json"}

        answer = await self.patch(scene, content=b"{not json", headers=headers)

        assert error_of(answer) == (400, 1001, "CF-MessageParseError")

    async def test_a_request_id_comes_back_with_one_of_theirs(self, scene: Scene) -> None:
        sent = str(uuid.uuid4())

        answer = await scene.call("GET", "/v3/droplets?per_page=1", headers={"X-Vcap-Request-Id": sent})

        first, _, second = answer.headers["X-VCAP-Request-ID"].partition("::")
        assert first == sent
        assert uuid.UUID(second).version == 4

    async def test_what_was_made_until_some_time_can_be_listed_by_page(self, scene: Scene) -> None:
        until = "2100-01-01T00:00:00Z"
        for path in ("droplets", "builds"):
            params = {"order_by": "-created_at", "per_page": "1", "created_ats[lte]": until}
            some = await scene.call("GET", f"/v3/{path}", params=params)
            assert some.status_code == 200
            following = some.json()["pagination"]["next"]
            if following is not None:
                assert parse_qs(urlsplit(following["href"]).query)["created_ats[lte]"] == [until]
            before = params | {"created_ats[lte]": "2000-01-01T00:00:00Z"}
            none = await scene.call("GET", f"/v3/{path}", params=before)
            assert none.json()["resources"] == []

    async def test_a_rate_limit_is_told_in_three_headers_or_not_at_all(self, scene: Scene) -> None:
        answer = await scene.call("GET", "/v3/droplets?per_page=1")

        names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
        told = [answer.headers[name] for name in names if name in answer.headers]
        assert len(told) in {0, 3}
        assert all(text.isdigit() for text in told)

    async def docker_droplet(self, scene: Scene) -> dict[str, Any]:
        """Find a staged Docker droplet that was not copied from another app."""
        path = "/v3/droplets?states=STAGED&order_by=-created_at&per_page=1000"
        for each in (await scene.call("GET", path)).json()["resources"]:
            if each["lifecycle"]["type"] == "docker" and "package" in each["links"]:
                found: dict[str, Any] = each
                return found
        pytest.skip("no app was pushed with a Docker image there")

    async def patch(self, scene: Scene, token: str | None = None, **body: Any) -> httpx.Response:
        return await scene.call("PATCH", f"/v3/droplets/{uuid.uuid4()}", token, **body)


class TestSimulator(OnSimulator, CapiContract):
    async def test_a_rate_limit_is_told_when_there_is_one(self, scene: Scene, target: CapiTarget) -> None:
        assert target.simulator is not None
        target.simulator.limiter.limit = 10

        await self.test_a_rate_limit_is_told_in_three_headers_or_not_at_all(scene)


class TestRealCloudController(OnRealCapi, CapiContract):
    pass
