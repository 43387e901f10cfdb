"""What any BBS must tell on its event streams, and when."""

from collections.abc import Callable

from controller.bbs.messages import LrpUpdate
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    ActualLrpRemoved,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskCreated,
)
from reconcile.lrps import (
    ActualLrpState,
    Credentials,
    Secret,
)
from tests.contracts.bbs_full_lrp import full_lrp
from tests.contracts.bbs_scene import Scene, comparable, is_created, is_removed, is_row, is_task, read_until
from tests.contracts.bbs_targets import OnRealBbs, OnSimulator2024, OnSimulator2026


class BbsEventsContract:
    """What any BBS must do; the other half of a test class says which BBS."""

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
        assert changed.after.tag.epoch == changed.before.tag.epoch
        assert changed.after.tag.index > changed.before.tag.index
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


def is_state(guid: str, state: ActualLrpState) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, ActualLrpChanged)
        and event.after.process_guid == guid
        and event.after.state is state
    )


class TestSimulator2024(BbsEventsContract, OnSimulator2024):
    pass


class TestSimulator2026(BbsEventsContract, OnSimulator2026):
    pass


class TestRealBbs(BbsEventsContract, OnRealBbs):
    pass
