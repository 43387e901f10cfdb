"""What any BBS must do for us, of 2024 and of 2026, simulated or real.

The suite plays the cell's part itself. Its LRPs and tasks carry a placement tag that no cell has.
Against a real BBS: TEST_BBS_URL, TEST_BBS_CA, TEST_BBS_CERT and TEST_BBS_KEY; TEST_BBS_HAS_CELL=1 where
a cell starts what is desired and stops it within about a second; TEST_BBS_CELL_ROOTFS if it needs another one.
"""

import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from controller.bbs.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    ActualLrpRemoved,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskChanged,
    TaskCreated,
    TaskRemoved,
)
from controller.bbs.messages import LrpUpdate
from controller.transport import client_tls
from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.images import Rootfs
from reconcile.lrps import (
    ActualLrpState,
    Credentials,
    Presence,
    ProcessGuid,
    RunAction,
    Secret,
    TaskGuid,
    TaskState,
)
from tests.contracts.bbs_full_lrp import NEW_FIELDS, full_lrp
from tests.contracts.bbs_scene import Scene, Target, comparable, eventually, open_scene, read_until
from tests.simulators.bbs import Version, serve_bbs
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates

MISSING = ProcessGuid("suite-missing")
NOT_FOUND = "the requested resource could not be found"
EXISTS = "the requested resource already exists"
INVALID = "the request received is invalid"


class BbsContract:
    """Subclasses provide the `target` fixture."""

    @pytest.fixture
    async def scene(self, target: Target) -> AsyncIterator[Scene]:
        async with open_scene(target) as scene:
            yield scene

    # General

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

    # Desired LRPs

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

    async def test_an_lrp_may_have_no_instance(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=0))

        assert await scene.client.find_desired_lrp(guid) is not None
        assert await scene.client.list_actual_lrps(guid) == ()

    # Actual LRPs

    async def test_an_instance_is_unclaimed_then_claimed_then_running_then_gone(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=2))
        client = scene.client
        assert [row.state for row in await client.list_actual_lrps(guid)] == [ActualLrpState.UNCLAIMED] * 2

        await scene.claim(guid, scene.instance("i"), index=1)
        (claimed,) = [row for row in await client.list_actual_lrps(guid) if row.index == 1]
        await scene.start(guid, scene.instance("i"), index=1)
        (running,) = [row for row in await client.list_actual_lrps(guid) if row.index == 1]
        assert (claimed.state, running.state) == (ActualLrpState.CLAIMED, ActualLrpState.RUNNING)
        assert (running.instance_guid, running.cell_id) == ("i", scene.cell_id)
        assert (running.domain, running.presence, running.routable) == (scene.domain, Presence.ORDINARY, True)
        assert running.tag.epoch == claimed.tag.epoch
        assert running.tag.supersedes(claimed.tag)

        await scene.drop_row(guid, index=1)
        assert [row.index for row in await client.list_actual_lrps(guid)] == [0]

    async def test_the_third_crash_in_a_row_is_not_restarted_at_once(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        states = []
        for name in ("one", "two", "three"):
            await scene.start(guid, scene.instance(name))
            await scene.crash(guid, scene.instance(name))
            (row,) = await scene.client.list_actual_lrps(guid)
            states.append(row.state)
            assert (row.instance_guid, row.cell_id) == ("", "")

        assert states == [ActualLrpState.UNCLAIMED, ActualLrpState.UNCLAIMED, ActualLrpState.CRASHED]
        (message,) = await scene.rows(guid)
        assert (message.crash_count, message.crash_reason) == (3, "boom")

    async def test_a_failed_placement_leaves_the_instance_unclaimed(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        request = actual_requests.FailActualLRPRequest(
            actual_lrp_key=scene.key(guid), error_message="insufficient resources"
        )
        await scene.do("/v1/actual_lrps/fail", request)
        (row,) = await scene.rows(guid)
        assert (row.state, bool(row.placement_error)) == ("UNCLAIMED", True)

        await scene.start(guid, scene.instance())
        error = await scene.send("/v1/actual_lrps/fail", request)
        assert error is not None
        assert (error.type, error.message) == (Error.ActualLRPCannotBeFailed, "cannot fail actual LRP")

    async def test_another_instance_cannot_claim_what_runs(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance("one"))
        request = actual_requests.ClaimActualLRPRequest(
            process_guid=guid, index=0, actual_lrp_instance_key=scene.instance("two")
        )
        error = await scene.send("/v1/actual_lrps/claim", request)

        assert error is not None
        assert (error.type, error.message) == (Error.ActualLRPCannotBeClaimed, "cannot claim actual LRP")

    async def test_a_removed_lrp_leaves_rows_of_running_instances_behind(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=2))
        await scene.start(guid, scene.instance())

        await scene.client.remove_desired_lrp(guid)

        assert await scene.client.find_desired_lrp(guid) is None

        async def only_the_running_one_is_left() -> bool:
            rows = await scene.client.list_actual_lrps(guid)
            return [(row.index, row.state) for row in rows] == [(0, ActualLrpState.RUNNING)]

        await eventually(only_the_running_one_is_left)
        with pytest.raises(NotFound):
            await scene.client.remove_desired_lrp(guid)

    async def test_a_new_definition_over_a_running_row_starts_nothing(self, scene: Scene) -> None:
        """Why a replacement waits until no row is left."""
        message = scene.lrp()
        guid = await scene.desire(message)
        await scene.start(guid, scene.instance("old"))
        await scene.client.remove_desired_lrp(guid)

        await scene.desire(message)

        (row,) = await scene.client.list_actual_lrps(guid)
        assert (row.state, row.instance_guid) == (ActualLrpState.RUNNING, "old")

    async def test_a_retired_instance_on_a_lost_cell_is_gone_at_once(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance())
        async with scene.client.subscribe_lrp_instances() as events:
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)
            (removed,) = await read_until(events, is_row(ActualLrpRemoved, guid))

        assert isinstance(removed, ActualLrpRemoved)
        assert removed.lrp.instance_guid == "instance"
        assert await scene.client.list_actual_lrps(guid) == ()
        with pytest.raises(NotFound):
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)

    async def test_a_draining_cell_keeps_its_instance_beside_the_new_row(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance("old"))

        await scene.evacuate(guid, scene.instance("old"))

        rows = {row.presence: row for row in await scene.client.list_actual_lrps(guid)}
        assert set(rows) == {Presence.ORDINARY, Presence.EVACUATING}
        assert rows[Presence.EVACUATING].instance_guid == "old"
        assert rows[Presence.ORDINARY].state is ActualLrpState.UNCLAIMED

    # Events

    async def test_a_stream_is_open_before_its_first_event(self, scene: Scene) -> None:
        async with scene.client.subscribe_lrp_instances() as events, scene.client.subscribe_tasks() as tasks:
            guid = await scene.desire(scene.lrp())
            task = await scene.desire_task()
            (created,) = await read_until(events, is_created(guid))
            (task_created,) = await read_until(tasks, is_task(TaskCreated, task))

        assert isinstance(created, DesiredLrpCreated)
        assert isinstance(task_created, TaskCreated)

    async def test_events_of_a_desired_lrp_hold_all_of_it(self, scene: Scene) -> None:
        original = full_lrp(scene.lrp())
        async with scene.client.subscribe_lrp_instances() as events:
            guid = await scene.desire(original)
            await scene.client.update_desired_lrp(guid, LrpUpdate(annotation="new"))
            await scene.client.remove_desired_lrp(guid)
            created, changed, removed = await read_until(
                events,
                is_created(guid),
                lambda event: isinstance(event, DesiredLrpChanged) and event.after.process_guid == guid,
                is_removed(guid),
            )

        assert isinstance(created, DesiredLrpCreated)
        assert isinstance(changed, DesiredLrpChanged)
        assert isinstance(removed, DesiredLrpRemoved)
        assert created.lrp.credentials == Credentials("user", Secret("password"))
        assert changed.before == created.lrp
        assert changed.after.tag.supersedes(changed.before.tag)
        before = DesiredLRP.FromString(created.lrp.definition)
        after = DesiredLRP.FromString(removed.lrp.definition)
        assert (before.annotation, after.annotation) == (original.annotation, "new")
        assert comparable(before, without=["annotation"]) == comparable(after, without=["annotation"])

    async def test_events_of_an_instance_follow_its_life(self, scene: Scene) -> None:
        async with scene.client.subscribe_lrp_instances() as events:
            guid = await scene.desire(scene.lrp())
            await scene.claim(guid, scene.instance())
            await scene.start(guid, scene.instance())
            created, claimed, running = await read_until(
                events,
                is_row(ActualLrpCreated, guid),
                is_state(guid, ActualLrpState.CLAIMED),
                is_state(guid, ActualLrpState.RUNNING),
            )
            await scene.crash(guid, scene.instance())
            crashed, recreated, removed = await read_until(
                events,
                lambda event: isinstance(event, ActualLrpCrashed) and event.process_guid == guid,
                is_row(ActualLrpCreated, guid),
                is_row(ActualLrpRemoved, guid),
            )

        assert isinstance(created, ActualLrpCreated)
        assert created.lrp.state is ActualLrpState.UNCLAIMED
        assert isinstance(claimed, ActualLrpChanged)
        assert isinstance(running, ActualLrpChanged)
        assert (running.after.instance_guid, running.after.cell_id) == ("instance", scene.cell_id)
        assert isinstance(crashed, ActualLrpCrashed)
        assert (crashed.crash_count, crashed.crash_reason) == (1, "boom")
        assert (crashed.instance_guid, crashed.cell_id) == ("instance", scene.cell_id)
        assert isinstance(recreated, ActualLrpCreated)
        assert isinstance(removed, ActualLrpRemoved)
        assert removed.lrp.instance_guid == "instance"

    async def test_a_cell_filter_leaves_desired_lrps_and_one_cells_instances(self, scene: Scene) -> None:
        async with (
            scene.client.subscribe_lrp_instances(scene.cell_id) as here,
            scene.client.subscribe_lrp_instances("suite-no-such-cell") as elsewhere,
        ):
            guid = await scene.desire(scene.lrp())
            await scene.claim(guid, scene.instance())
            await scene.client.remove_desired_lrp(guid)
            await read_until(here, is_created(guid), is_state(guid, ActualLrpState.CLAIMED))
            about_instances: list[Event] = []

            def ends(event: Event) -> bool:
                if isinstance(event, ActualLrpCreated | ActualLrpChanged | ActualLrpRemoved):
                    about_instances.append(event)
                return is_removed(guid)(event)

            await read_until(elsewhere, ends)

        assert about_instances == []

    # Tasks

    async def test_a_task_goes_from_pending_to_nothing(self, scene: Scene) -> None:
        client = scene.client
        async with client.subscribe_tasks() as events:
            guid = await scene.desire_task()
            pending = await client.find_task(guid)
            assert await scene.start_task(guid)
            assert not await scene.start_task(guid)  # the same cell asks again
            running = await client.find_task(guid)
            assert await scene.complete_task(guid) is None
            completed = await client.find_task(guid)
            await client.resolve_task(guid)
            resolving = await client.find_task(guid)
            await client.delete_task(guid)
            assert await client.find_task(guid) is None
            created, finished, removed = await read_until(
                events,
                is_task(TaskCreated, guid),
                lambda event: (
                    isinstance(event, TaskChanged)
                    and event.after.task_guid == guid
                    and event.after.state is TaskState.COMPLETED
                ),
                is_task(TaskRemoved, guid),
            )

        states = [task.state for task in (pending, running, completed, resolving) if task is not None]
        assert states == [TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED, TaskState.RESOLVING]
        assert isinstance(created, TaskCreated)
        assert created.task == pending
        assert created.task.credentials == Credentials("u", Secret("p"))
        assert created.task.action == RunAction("/bin/true", ("-a",))
        assert created.task.metric_tags == {"app_id": "the-app"}
        assert isinstance(finished, TaskChanged)
        assert (finished.before.state, finished.after.failed) == (TaskState.RUNNING, False)
        assert isinstance(removed, TaskRemoved)
        assert removed.task.state is TaskState.RESOLVING

    async def test_a_completed_task_has_lost_its_cell(self, scene: Scene) -> None:
        guid = await scene.desire_task()
        await scene.start_task(guid)
        assert (await scene.stored_task(guid)).cell_id == scene.cell_id

        error = await scene.complete_task(guid, cell_id="suite-other-cell")
        assert error is not None
        assert error.type == Error.RunningOnDifferentCell
        assert error.message == f"Running on cell {scene.cell_id} not suite-other-cell"

        await scene.complete_task(guid)
        task = await scene.stored_task(guid)
        assert (task.cell_id, task.result) == ("", "the result")
        assert task.first_completed_at >= task.created_at > 0

    async def test_a_cancelled_task_is_completed_and_failed(self, scene: Scene) -> None:
        guid = await scene.desire_task()

        await scene.client.cancel_task(guid)

        task = await scene.client.find_task(guid)
        assert task is not None
        assert (task.state, task.failed) == (TaskState.COMPLETED, True)
        assert task.failure_reason == "task was cancelled"
        with pytest.raises(Conflict, match="Cannot transition from Completed to Completed"):
            await scene.client.cancel_task(guid)

    async def test_tasks_are_listed_by_domain(self, scene: Scene) -> None:
        guid = await scene.desire_task()

        assert [task.task_guid for task in await scene.client.list_tasks(scene.domain)] == [guid]
        assert guid in {task.task_guid for task in await scene.client.list_tasks()}
        assert await scene.client.list_tasks("suite-no-such-domain") == ()

    async def test_only_a_claimed_task_is_deleted_and_only_once_completed_it_is_claimed(
        self, scene: Scene
    ) -> None:
        guid = await scene.desire_task()

        with pytest.raises(Conflict, match="Cannot transition from Pending to Resolving"):
            await scene.client.resolve_task(guid)
        with pytest.raises(Conflict, match="Cannot transition from Pending to Resolving"):
            await scene.client.delete_task(guid)
        with pytest.raises(NotFound, match=NOT_FOUND):
            await scene.client.cancel_task(TaskGuid("suite-missing"))

    # With a cell

    @pytest.mark.needs_cell
    async def test_a_removed_lrp_is_stopped_later_and_its_rows_tell_when(self, scene: Scene) -> None:
        guid = await scene.desire(for_a_cell(scene.lrp(instances=2)))
        await eventually(runs(scene, guid, 2))
        assert {row.cell_id for row in await scene.client.list_actual_lrps(guid)} <= {
            cell.cell_id for cell in await scene.client.list_cells()
        }

        await scene.client.remove_desired_lrp(guid)

        left = await scene.client.list_actual_lrps(guid)
        assert [row.state for row in left] == [ActualLrpState.RUNNING] * 2  # there is no state for stopping

        async def is_empty() -> bool:
            return not await scene.client.list_actual_lrps(guid)

        await eventually(is_empty)

    @pytest.mark.needs_cell
    async def test_after_the_last_row_is_gone_a_new_definition_starts_at_once(self, scene: Scene) -> None:
        """The way of a replacement, without a wait for convergence."""
        guid = await scene.desire(for_a_cell(scene.lrp()))
        await eventually(runs(scene, guid, 1))
        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        await scene.client.remove_desired_lrp(guid)

        async def is_empty() -> bool:
            return not await scene.client.list_actual_lrps(guid)

        await eventually(is_empty)
        await scene.client.desire_lrp(lrp, lrp.rootfs, None)

        await eventually(runs(scene, guid, 1))

    @pytest.mark.needs_cell
    async def test_a_retired_instance_is_said_to_be_removed_before_it_is(self, scene: Scene) -> None:
        """Why such an event proves nothing: there are two for one row."""
        guid = await scene.desire(for_a_cell(scene.lrp()))
        await eventually(runs(scene, guid, 1))
        (running,) = await scene.client.list_actual_lrps(guid)
        async with scene.client.subscribe_lrp_instances() as events:
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)
            is_removed_row = is_row(ActualLrpRemoved, guid)
            premature, final = await read_until(events, is_removed_row, is_removed_row)

        for event in (premature, final):
            assert isinstance(event, ActualLrpRemoved)
            assert event.lrp.instance_guid == running.instance_guid

    @pytest.mark.needs_cell
    async def test_a_cell_runs_a_task_to_its_end(self, scene: Scene) -> None:
        guid = await scene.desire_task(placement_tags=())

        async def is_completed() -> bool:
            task = await scene.client.find_task(guid)
            return task is not None and task.state is TaskState.COMPLETED

        await eventually(is_completed)


def for_a_cell(lrp: DesiredLRP) -> DesiredLRP:
    """Let a cell take it, and run what that cell can run."""
    lrp.ClearField("PlacementTags")
    lrp.root_fs = os.environ.get("TEST_BBS_CELL_ROOTFS", lrp.root_fs)
    return lrp


def runs(scene: Scene, guid: ProcessGuid, count: int) -> Callable[[], Awaitable[bool]]:
    async def is_running() -> bool:
        rows = await scene.client.list_actual_lrps(guid)
        return [row.state for row in rows] == [ActualLrpState.RUNNING] * count

    return is_running


def without_new_fields(lrp: DesiredLRP) -> DesiredLRP:
    """Drop what a BBS of 2024 drops."""
    copy = comparable(lrp, without=NEW_FIELDS)
    copy.action.run_action.ClearField("volume_mounted_files")
    return copy


def is_created(guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DesiredLrpCreated) and event.lrp.process_guid == guid


def is_removed(guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DesiredLrpRemoved) and event.lrp.process_guid == guid


def is_row(kind: type[ActualLrpCreated | ActualLrpRemoved], guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and event.lrp.process_guid == guid


def is_state(guid: str, state: ActualLrpState) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, ActualLrpChanged)
        and event.after.process_guid == guid
        and event.after.state is state
    )


def is_task(kind: type[TaskCreated | TaskRemoved], guid: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and event.task.task_guid == guid


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls_of(certificates: Certificates) -> ssl.SSLContext:
    pair = certificates.client
    return client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)


@asynccontextmanager
async def serve_simulator(
    certificates: Certificates, *, version: Version, request: pytest.FixtureRequest
) -> AsyncIterator[Target]:
    """Serve a simulator, with a cell for the tests that need one."""
    tls = tls_of(certificates)
    async with AsyncExitStack() as stack:
        bbs = await stack.enter_async_context(serve_bbs(certificates, version=version))
        if request.node.get_closest_marker("needs_cell"):
            await stack.enter_async_context(SimulatedCell(bbs, CellSettings(stop_delay=0.5)))
        yield Target(bbs.url, tls)


class TestSimulator2024(BbsContract):
    @pytest.fixture
    async def target(
        self, certificates: Certificates, request: pytest.FixtureRequest
    ) -> AsyncIterator[Target]:
        async with serve_simulator(certificates, version=Version.OLD, request=request) as target:
            yield target


class TestSimulator2026(BbsContract):
    @pytest.fixture
    async def target(
        self, certificates: Certificates, request: pytest.FixtureRequest
    ) -> AsyncIterator[Target]:
        async with serve_simulator(certificates, version=Version.NEW, request=request) as target:
            yield target


class TestRealBbs(BbsContract):
    @pytest.fixture
    def target(self, request: pytest.FixtureRequest) -> Target:
        names = ("TEST_BBS_URL", "TEST_BBS_CA", "TEST_BBS_CERT", "TEST_BBS_KEY")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            pytest.skip(f"{', '.join(missing)} not set")
        if request.node.get_closest_marker("needs_cell") and os.environ.get("TEST_BBS_HAS_CELL") != "1":
            pytest.skip("TEST_BBS_HAS_CELL is not 1")
        url, ca, certificate, key = (os.environ[name] for name in names)
        return Target(url, client_tls(ca, cert_file=certificate, key_file=key))
