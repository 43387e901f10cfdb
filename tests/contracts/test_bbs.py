"""What any BBS must do for us with domains and desired LRPs; instances, events and tasks have files of their own.

How to run it against a real BBS is told in bbs_targets.py.
"""

import json

import pytest

from controller.bbs.messages import LrpUpdate
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from reconcile.bridges import BRIDGE_TAG, bridge_of
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.events import (
    DesiredLrpCreated,
    DesiredLrpRemoved,
)
from reconcile.lrps import (
    Credentials,
    ProcessGuid,
    Pull,
    RunAction,
    Secret,
)
from reconcile.references import Rootfs
from tests.contracts.bbs_full_lrp import NEW_FIELDS, full_lrp
from tests.contracts.bbs_scene import (
    Scene,
    comparable,
    eventually,
    is_created,
    is_removed,
    read_until,
)
from tests.contracts.bbs_targets import OnRealBbs, OnSimulator2024, OnSimulator2026

MISSING = ProcessGuid("suite-missing")
NOT_FOUND = "the requested resource could not be found"
EXISTS = "the requested resource already exists"
INVALID = "the request received is invalid"


class BbsContract:
    """What any BBS must do; the other half of a test class says which BBS."""

    async def test_an_active_bbs_answers_a_ping(self, scene: Scene) -> None:
        await scene.client.ping()

    async def test_cells_can_be_listed(self, scene: Scene) -> None:
        assert all(cell.cell_id for cell in await scene.client.list_cells())

    async def test_an_unknown_route_is_not_found_and_a_known_one_wants_a_post(self, scene: Scene) -> None:
        unknown = [await scene.post(path) for path in ("/v1/no_such_route", "/v1/desired_lrp/desire.r1")]
        wrong_method = await scene.http.get("/v1/ping")

        assert [answer.status_code for answer in unknown] == [404, 404]
        assert wrong_method.status_code == 405

    async def test_a_body_that_is_no_message_is_an_invalid_request(self, scene: Scene) -> None:
        answer = await scene.post("/v1/desired_lrps/list.r3", b"this is no protobuf")

        assert answer.status_code == 200
        error = desired_requests.DesiredLRPsResponse.FromString(answer.content).error
        assert (error.type, error.message) == (Error.InvalidRequest, INVALID)

    async def test_a_domain_is_fresh_for_its_time(self, scene: Scene) -> None:
        await scene.client.upsert_domain(scene.domain, ttl=60)
        assert scene.domain in await scene.client.list_domains()

        await scene.client.upsert_domain(scene.domain, ttl=1)

        async def is_stale() -> bool:
            return scene.domain not in await scene.client.list_domains()

        await eventually(is_stale)
        await scene.client.upsert_domain_for_ever(scene.domain)
        assert scene.domain in await scene.client.list_domains()

    async def test_a_domain_needs_a_name(self, scene: Scene) -> None:
        with pytest.raises(Invalid, match="Invalid field: domain"):
            await scene.client.upsert_domain("", ttl=60)

    async def test_what_is_missing_is_named_so(self, scene: Scene) -> None:
        client = scene.client

        assert await client.find_desired_lrp(MISSING) is None
        assert await client.list_actual_lrps(MISSING) == ()
        with pytest.raises(NotFound, match=NOT_FOUND):
            await client.remove_desired_lrp(MISSING)
        with pytest.raises(NotFound, match=NOT_FOUND):
            await client.update_desired_lrp(MISSING, LrpUpdate(instances=1))
        with pytest.raises(NotFound, match=NOT_FOUND):
            await client.retire_actual_lrp(MISSING, index=0, domain=scene.domain)

    async def test_what_is_desired_can_be_read(self, scene: Scene) -> None:
        message = scene.lrp(instances=2)
        guid = await scene.desire(message)

        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        assert len(guid) == 73
        assert (lrp.process_guid, lrp.domain, lrp.instances) == (guid, scene.domain, 2)
        assert (lrp.app_guid, lrp.rootfs) == ("the-app", Rootfs("docker:///suite/image#1"))
        assert lrp.action == RunAction("/bin/true")
        assert lrp.tag.epoch
        assert lrp.tag.index == 0
        assert lrp.credentials is None
        assert [one async for one in scene.client.list_desired_lrps(scene.domain)] == [lrp]

    async def test_the_light_listing_tells_the_same(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        other = scene.lrp()
        other.root_fs = f"{scene.placement_tag}:stack"
        await scene.desire(other)

        docker = [one async for one in scene.client.list_scheduling_infos(scene.domain, docker_only=True)]
        every = [one async for one in scene.client.list_scheduling_infos(scene.domain)]
        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        assert [(one.process_guid, one.rootfs, one.tag) for one in docker] == [(guid, lrp.rootfs, lrp.tag)]
        assert {one.process_guid for one in every} == {guid, other.process_guid}
        assert [one async for one in scene.client.list_scheduling_infos("suite-no-such-domain")] == []

    async def test_the_lrps_that_are_named_are_listed_alone_and_in_full(self, scene: Scene) -> None:
        guids = [await scene.desire(scene.lrp()) for _ in range(3)]

        listing = scene.client.list_desired_lrps(process_guids=[guids[2], MISSING, guids[0]])
        listed = {one.process_guid: one async for one in listing}

        assert listed == {guid: await scene.client.find_desired_lrp(guid) for guid in (guids[0], guids[2])}
        assert listing.skipped == 0

    async def test_of_the_lrps_that_are_named_those_of_a_domain_are_listed(self, scene: Scene) -> None:
        other = scene.lrp()
        other.domain = f"{scene.domain}-other"
        named = [await scene.desire(scene.lrp()), await scene.desire(other)]

        listing = scene.client.list_desired_lrps(scene.domain, process_guids=named)

        assert [one.process_guid async for one in listing] == named[:1]

    async def test_when_none_is_named_all_of_the_domain_are_listed(self, scene: Scene) -> None:
        guids = {await scene.desire(scene.lrp()) for _ in range(2)}

        listing = scene.client.list_desired_lrps(scene.domain, process_guids=[])

        assert {one.process_guid async for one in listing} == guids

    async def test_when_none_of_those_that_are_named_is_desired_nothing_is_listed(self, scene: Scene) -> None:
        listing = scene.client.list_desired_lrps(process_guids=[MISSING])

        assert [one async for one in listing] == []

    async def test_several_hundred_lrps_can_be_named_at_once(self, scene: Scene) -> None:
        """As a plan does, which asks for them by the hundred."""
        guid = await scene.desire(scene.lrp())
        named = [ProcessGuid(f"suite-missing-{number}") for number in range(500)]

        listing = scene.client.list_desired_lrps(process_guids=[*named, guid])

        assert [one.process_guid async for one in listing] == [guid]

    async def test_a_second_desire_is_a_conflict_and_changes_nothing(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        before = await scene.client.find_desired_lrp(guid)
        assert before is not None

        with pytest.raises(Conflict, match=EXISTS) as caught:
            await scene.client.desire_lrp(before, Rootfs("docker:///other/image#2"), None)

        assert caught.value.code == "ResourceExists"
        assert await scene.client.find_desired_lrp(guid) == before

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("process_guid", "has space", "Invalid field: process_guid"),
            ("domain", "", "Invalid field: domain"),
            ("root_fs", "", "Invalid field: rootfs"),
            ("root_fs", "no-scheme", "Invalid field: rootfs"),
            ("instances", -1, "Invalid field: instances"),
            ("annotation", "x" * 10241, "Invalid field: annotation"),
            ("image_username", "only", "Invalid field: image_password"),
            ("image_password", "only", "Invalid field: image_username"),
            ("metrics_guid", "other", "source_id should match metrics_guid"),
            ("metric_tags", None, "Invalid field: metric_tags"),
            ("action", None, "invalid action type"),
        ],
    )
    async def test_a_definition_must_be_valid(
        self, field: str, value: object, message: str, scene: Scene
    ) -> None:
        lrp = scene.lrp()
        if value is None:
            lrp.ClearField(field)
        else:
            setattr(lrp, field, value)
        error = await scene.send(
            "/v1/desired_lrp/desire.r2", desired_requests.DesireLRPRequest(desired_lrp=lrp)
        )

        assert error is not None
        assert error.type == Error.InvalidRequest
        assert message in error.message

    async def test_a_rootfs_is_longer_than_its_column_at_1025_characters(self, scene: Scene) -> None:
        lrp = scene.lrp()
        lrp.root_fs = "docker:///" + "x" * 1015
        error = await scene.send(
            "/v1/desired_lrp/desire.r2", desired_requests.DesireLRPRequest(desired_lrp=lrp)
        )

        assert error is not None
        assert (error.type, error.message) == (Error.InvalidRequest, INVALID)

    async def test_every_field_survives(self, scene: Scene) -> None:
        original = full_lrp(scene.lrp())
        guid = await scene.desire(original)

        stored = await scene.stored(guid)
        if not scene.is_2026:
            original = without_new_fields(original)
        assert comparable(stored, without=["routes"]) == comparable(original, without=["routes"])
        assert {key: json.loads(value) for key, value in stored.routes.routes.items()} == {
            key: json.loads(value) for key, value in original.routes.routes.items()
        }

    async def test_removed_and_desired_with_another_image_all_else_is_as_it_was(self, scene: Scene) -> None:
        guid = await scene.desire(full_lrp(scene.lrp()))
        before = await scene.stored(guid)
        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None

        await scene.client.remove_desired_lrp(guid)
        credentials = Credentials("cache", Secret("secret"))
        await scene.client.desire_lrp(lrp, Rootfs("docker://cache.example/g#latest"), credentials)

        after = await scene.stored(guid)
        image = ["root_fs", "image_username", "image_password"]
        assert comparable(after, without=image) == comparable(before, without=image)
        assert after.root_fs == "docker://cache.example/g#latest"
        assert (after.image_username, after.image_password) == ("cache", "secret")
        assert after.modification_tag.epoch != before.modification_tag.epoch

        await scene.client.remove_desired_lrp(guid)
        await scene.client.desire_definition(lrp)
        assert comparable(await scene.stored(guid)) == comparable(before)

    async def test_a_bridge_like_an_lrp_differs_in_key_domain_image_count_and_a_tag_alone(
        self, scene: Scene
    ) -> None:
        """The first one stays as it was."""
        guid = await scene.desire(full_lrp(scene.lrp()))
        before = await scene.stored(guid)
        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        other = bridge_of(guid)
        scene.process_guids.append(other)

        pull = Pull(Rootfs("docker://cache.example/g#latest"), Credentials("cache", Secret("secret")))
        more = lrp.instances + 1
        await scene.client.desire_another(lrp, other, f"{scene.domain}-bridge", pull, instances=more)

        made = await scene.stored(other)
        assert made.metric_tags.pop(BRIDGE_TAG).static == "true"
        own = ["process_guid", "domain", "root_fs", "image_username", "image_password", "instances"]
        assert comparable(made, without=own) == comparable(before, without=own)
        assert (made.process_guid, made.domain) == (other, f"{scene.domain}-bridge")
        assert (made.root_fs, made.image_username) == ("docker://cache.example/g#latest", "cache")
        assert await scene.stored(guid) == before
        assert len(await scene.client.list_actual_lrps(other)) == made.instances == more
        with pytest.raises(Conflict):
            await scene.client.desire_another(lrp, other, f"{scene.domain}-bridge", pull, instances=more)

    async def test_one_lrp_can_be_given_the_instances_and_routes_of_another(self, scene: Scene) -> None:
        first, second = await scene.desire(scene.lrp()), await scene.desire(scene.lrp())
        routes = {"cf-router": b'[{"port":8080,"hostnames":["<a>"]}]'}
        update = LrpUpdate(instances=2, routes=routes, annotation="2026-11-29")
        await scene.client.update_desired_lrp(first, update)
        like = await scene.client.find_desired_lrp(first)
        assert like is not None

        await scene.client.update_from(second, like)

        given = await scene.client.find_desired_lrp(second)
        assert given is not None
        assert (given.instances, given.routes) == (2, like.routes), "read twice, they are spelled the same"
        assert given.annotation == "2026-11-29"

    async def test_the_last_version_of_a_removed_lrp_is_in_its_event(self, scene: Scene) -> None:
        """A change between our last look and the removal would be lost without it."""
        guid = await scene.desire(scene.lrp())
        await scene.client.update_desired_lrp(guid, LrpUpdate(instances=3))
        async with scene.client.subscribe_lrp_instances() as events:
            await scene.client.remove_desired_lrp(guid)
            (removed,) = await read_until(events, is_removed(guid))

        assert isinstance(removed, DesiredLrpRemoved)
        assert (removed.lrp.instances, removed.lrp.tag.index) == (3, 1)

    async def test_routes_come_back_as_the_same_json_in_another_spelling(self, scene: Scene) -> None:
        lrp = scene.lrp()
        lrp.routes.routes["odd"] = b'{ "b" : "<&>",\n "a" : [ 1, 2 ] }'
        guid = await scene.desire(lrp)

        stored = (await scene.stored(guid)).routes.routes["odd"]
        assert json.loads(stored) == {"b": "<&>", "a": [1, 2]}
        assert b" " not in stored
        assert b"<" not in stored

    async def test_a_route_that_is_no_json_is_refused(self, scene: Scene) -> None:
        lrp = scene.lrp()
        lrp.routes.routes["odd"] = b"{"
        error = await scene.send(
            "/v1/desired_lrp/desire.r2", desired_requests.DesireLRPRequest(desired_lrp=lrp)
        )

        assert error is not None
        assert (error.type, error.message) == (Error.InvalidRequest, INVALID)

    async def test_the_source_id_is_filled_in_when_read_and_not_in_events(self, scene: Scene) -> None:
        async with scene.client.subscribe_lrp_instances() as events:
            guid = await scene.desire(scene.lrp())
            (created,) = await read_until(events, is_created(guid))
        stored = await scene.stored(guid)

        assert stored.metrics_guid == "s"
        assert isinstance(created, DesiredLrpCreated)
        assert DesiredLRP.FromString(created.lrp.definition).metrics_guid == ""

    async def test_an_update_changes_what_it_names_and_counts(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        client = scene.client

        await client.update_desired_lrp(guid, LrpUpdate(instances=2))
        await client.update_desired_lrp(guid, LrpUpdate(annotation="new"))
        await client.update_desired_lrp(guid, LrpUpdate())
        stored = await scene.stored(guid)
        assert (stored.instances, stored.annotation, stored.modification_tag.index) == (2, "new", 3)
        assert dict(stored.routes.routes) == {"cf-router": b"[]"}
        assert len(await client.list_actual_lrps(guid)) == 2

        await client.update_desired_lrp(guid, LrpUpdate(routes={"tcp-router": b"[1]"}, instances=0))
        stored = await scene.stored(guid)
        assert dict(stored.routes.routes) == {"tcp-router": b"[1]"}
        assert await client.list_actual_lrps(guid) == ()

        await client.update_desired_lrp(guid, LrpUpdate(routes={}))
        assert dict((await scene.stored(guid)).routes.routes) == {}

    async def test_an_update_of_credentials_is_ignored_by_a_bbs_of_2024(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())

        await scene.client.update_desired_lrp(guid, LrpUpdate(credentials=Credentials("u", Secret("p"))))

        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        assert lrp.tag.index == 1
        assert lrp.credentials == (Credentials("u", Secret("p")) if scene.is_2026 else None)

    async def test_a_login_is_changed_and_taken_away_in_place_by_a_bbs_of_2026_only(
        self, scene: Scene
    ) -> None:
        first, second = Credentials("cells", Secret("first")), Credentials("cells", Secret("second"))
        lrp = scene.lrp()
        lrp.image_username, lrp.image_password = "cells", "first"
        guid = await scene.desire(lrp)
        seen = []

        for login in (second, None):
            await scene.client.update_credentials(guid, login)
            found = await scene.client.find_desired_lrp(guid)
            assert found is not None
            seen.append((found.credentials, found.tag.index))

        assert seen == [(second, 1), (None, 2)] if scene.is_2026 else [(first, 1), (first, 2)]

    async def test_an_lrp_may_have_no_instance(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=0))

        assert await scene.client.find_desired_lrp(guid) is not None
        assert await scene.client.list_actual_lrps(guid) == ()


def without_new_fields(lrp: DesiredLRP) -> DesiredLRP:
    """Drop what a BBS of 2024 drops."""
    copy = comparable(lrp, without=NEW_FIELDS)
    copy.action.run_action.ClearField("volume_mounted_files")
    return copy


class TestSimulator2024(BbsContract, OnSimulator2024):
    pass


class TestSimulator2026(BbsContract, OnSimulator2026):
    pass


class TestRealBbs(BbsContract, OnRealBbs):
    pass
