"""Checks that whatever is called cached can be started on a cell that holds nothing.

It is tried as a cell would, with the rootfs and the login of the LRP, and with an empty store. What was lost may be
unknown to the daemon for the time that it is documented to take; each daemon begins that time anew.
"""

import asyncio
from collections.abc import Iterable

from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import NOTICED_WITHIN
from tests.daemon.environment import DaemonProcess
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_network import CellNetwork
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_store import LayerStore
from tests.simulators.registry_login import Credentials
from tests.simulators.registry_session import RegistryAccess

LONGEST_TIME = 2.5
"""Seconds between two looks that count at most: a busy machine lets all wait."""


class ColdStarts:
    """Tries for apps that are called cached whether an instance could start from nothing.

    Attributes:
        tries: How many starts were tried.
    """

    def __init__(self, scene: Scene) -> None:
        self.tries = 0
        self._scene = scene
        self._daemon: DaemonProcess | None = None
        self._looked_at = 0.0
        self._failing: dict[str, float] = {}
        self._reported: set[str] = set()

    @property
    def failing(self) -> list[str]:
        """The LRPs that were called cached at the last look, and could not be started."""
        return list(self._failing)

    async def check(self, guids: Iterable[str], at: float) -> None:
        """Try those that are called cached, by the process GUIDs of their LRPs, at a time of any one clock."""
        if self._scene.daemon is not self._daemon:
            self._daemon, self._failing = self._scene.daemon, {}
        seconds = min(at - self._looked_at, LONGEST_TIME)
        self._looked_at = at
        wanted = {guid: each for guid in guids if (each := self._wanted(guid)) is not None}
        distinct = list(dict.fromkeys(wanted.values()))
        problems = dict(zip(distinct, await asyncio.gather(*map(self._try, distinct)), strict=True))
        before, self._failing = self._failing, {}
        for guid, each in wanted.items():
            if problems[each] and self._wanted(guid) == each:
                self._failing[guid] = before[guid] + seconds if guid in before else 0.0
                if self._failing[guid] > NOTICED_WITHIN:
                    self._report(guid, each, problems[each])

    def _wanted(self, guid: str) -> Wanted | None:
        """Give what a cell would pull for an LRP; None if there is none, or not from a copy."""
        lrp = self._scene.env.bbs.state.desired.get(guid)
        if lrp is None or not self._scene.downtime.is_copy(lrp.root_fs):
            return None
        return Wanted(lrp.root_fs, Credentials(lrp.image_username, lrp.image_password), lrp.disk_mb)

    async def _try(self, wanted: Wanted) -> str:
        self.tries += 1
        access = RegistryAccess(CellNetwork(), {}, first_pause=0.05, reconnect_pause=0.05)
        try:
            await Puller(access, LayerStore()).pull(wanted)
        except PullFailed as problem:
            return str(problem)
        return ""

    def _report(self, guid: str, wanted: Wanted, problem: str) -> None:
        if guid not in self._reported:
            self._reported.add(guid)
            what = f"{guid} is called cached, and a cell that holds nothing cannot start it"
            self._scene.invariants.violate(what, f"from {wanted.rootfs}: {problem}")
