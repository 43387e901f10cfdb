"""What goes wrong in the BBS and on cells."""

import asyncio
import contextlib

from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import START_DELAYS
from tests.simulators.bbs import Fault
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.faults import ANY_PATH

WRITES = ("/v1/desired_lrp/remove", "/v1/desired_lrp/desire.r2", "/v1/desired_lrp/update")
READS = (
    "/v1/desired_lrps/get_by_process_guid.r3",
    "/v1/actual_lrps/list",
    "/v1/desired_lrp_scheduling_infos/list",
    "/v1/domains/upsert",
    ANY_PATH,
)


class Disturbances:
    """Disturbs the BBS and cells, each by a method."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._env, self._chance = scene, scene.env, scene.chance

    async def fail_over(self) -> None:
        """Let another BBS become the master."""
        await self._env.bbs.fail_over(self._chance.uniform(0.0, 1.0), self._chance.uniform(0.0, 0.5))

    async def lose_events(self) -> None:
        """Lose events for a while, and end the streams."""
        bus = self._env.bbs.state.events
        bus.losing = True
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        bus.losing = False
        for stream in list(self._env.bbs.streams):
            stream.end()

    async def reset_streams(self) -> None:
        """Reset the connections of the streams."""
        for stream in list(self._env.bbs.streams):
            stream.reset()

    async def fail_calls(self) -> None:
        """Let the next calls of a path fail."""
        path = self._chance.choice(WRITES if self._chance.random() < 0.7 else READS)
        fault = self._chance.choice(list(Fault))
        self._env.bbs.faults.order(fault, path, calls=self._chance.randint(1, 2))

    async def lose_stop(self) -> None:
        """Let the next stop request of a cell get lost, or be refused."""
        cell = self._chance.choice(self._env.cells)
        if self._chance.random() < 0.5:
            cell.lost_stops = 1
        else:
            cell.refused_stops = 1

    async def crash(self) -> None:
        """Let an instance end by itself."""
        cell = self._chance.choice(self._env.cells)
        running = [each for each in cell.instances.values() if each.is_running]
        if not running:
            return
        key = self._chance.choice(running).key
        self._scene.invariants.will_crash(key.process_guid)
        self._scene.invariants.note(f"crash of {key.process_guid}/{key.index}")
        with contextlib.suppress(BbsError):  # its LRP is gone
            cell.crash(key.process_guid, key.index)

    async def clean(self) -> None:
        """Let a cell forget the layers that it does not use, so that it must pull them again."""
        self._chance.choice(self._env.cells).clean()

    async def change_speed(self) -> None:
        """Let a cell take another time for the start of an instance."""
        self._chance.choice(self._env.cells).settings.start_delay = self._chance.choice(START_DELAYS)
