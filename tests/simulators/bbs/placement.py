"""Places instances and tasks on cells, or says why none will do.

Source: auction auctiontypes/types.go, auctionrunner/{scheduler,cell,zone_sorter}.go; rep resources.go.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from protos.bbs.cells_pb2 import CellPresence
from tests.simulators.bbs.state import Rep, State

LOCALITY_OFFSET = 1000
STARTING_CONTAINER_WEIGHT = 0.25


class NoPlacement(Exception):
    """No cell will take it; the text is the placement error."""


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """What an instance or a task needs of a cell.

    Attributes:
        tags: Placement tags.
        drivers: Volume drivers.
        process_guid: Of an instance; empty for a task.
    """

    rootfs: str
    memory_mb: int
    disk_mb: int
    tags: Iterable[str] = ()
    drivers: Iterable[str] = ()
    process_guid: str = ""


def choose_cell(state: State, request: PlacementRequest) -> Rep:
    """Choose the cell that matches and has room, and that spreads instances and tasks best.

    An instance goes to the zone, and within it to the cell, with fewest instances of its process; a task goes to
    the cell with fewest tasks. Among equals the cell with most free room is chosen.

    Raises:
        NoPlacement: There is none.
    """
    cells = _matching(list(state.registered_cells().values()), request)
    by_zone = dict[str, list[Rep]]()
    for cell in cells:
        by_zone.setdefault(cell.presence.zone, []).append(cell)
    zones = sorted(by_zone.values(), key=lambda zone: _held(zone, request))
    for _, equals in groupby(zones, key=lambda zone: _held(zone, request)):
        fitting = [cell for zone in equals for cell in zone if not _lacking(cell, request)]
        if fitting:
            return min(fitting, key=lambda cell: _score(cell, request))
    # What all of them lack.
    lacking = sorted(frozenset.intersection(*(_lacking(cell, request) for cell in cells)))
    raise NoPlacement("insufficient resources" + (f": {', '.join(lacking)}" if lacking else ""))


def _matching(cells: list[Rep], request: PlacementRequest) -> list[Rep]:
    if not cells:
        raise NoPlacement("unable to communicate to compatible cells")
    wanted = frozenset(request.tags)
    steps: tuple[tuple[Callable[[CellPresence], bool], str], ...] = (
        (lambda cell: _offers(cell, request.rootfs), "found no compatible cell for required rootfs"),
        (lambda _cell: not any(request.drivers), "found no compatible cell with required volume drivers"),
        (lambda cell: _accepts(cell, wanted), f"found no compatible cell with {_tag_text(sorted(wanted))}"),
    )
    for matches, problem in steps:
        cells = [cell for cell in cells if matches(cell.presence)]
        if not cells:
            raise NoPlacement(problem)
    return cells


def _held(zone: list[Rep], request: PlacementRequest) -> int:
    if not request.process_guid:
        return 0  # tasks are not spread over zones
    return sum(cell.resources.lrps.get(request.process_guid, 0) for cell in zone)


def _lacking(cell: Rep, request: PlacementRequest) -> frozenset[str]:
    resources = cell.resources
    there = {
        "containers": (1, resources.containers),
        "disk": (request.disk_mb, resources.disk_mb),
        "memory": (request.memory_mb, resources.memory_mb),
    }
    return frozenset(name for name, (needed, free) in there.items() if needed > free)


def _score(cell: Rep, request: PlacementRequest) -> float:
    """Weigh a cell, the lowest wins: instances of the same process, or tasks, count far more than its room."""
    resources, whole = cell.resources, cell.presence.capacity
    left = (
        (resources.memory_mb - request.memory_mb, whole.memory_mb),
        (resources.disk_mb - request.disk_mb, whole.disk_mb),
        (resources.containers - 1, whole.containers),
    )
    used = sum(1 - free / total for free, total in left) / len(left)
    same = resources.lrps.get(request.process_guid, 0) if request.process_guid else resources.tasks
    return LOCALITY_OFFSET * same + used + resources.starting * STARTING_CONTAINER_WEIGHT


def _offers(cell: CellPresence, rootfs: str) -> bool:
    scheme, _, rest = rootfs.partition(":")
    for provider in cell.rootfs_providers:
        if provider.name == scheme:
            return not provider.properties or rest.partition("?")[0] in provider.properties
    return False


def _accepts(cell: CellPresence, tags: frozenset[str]) -> bool:
    required = set(cell.placement_tags)
    return required <= tags <= required | set(cell.optional_placement_tags)


def _tag_text(tags: list[str]) -> str:
    quoted = [f'"{tag}"' for tag in tags]
    if not quoted:
        return "no placement tags"
    if len(quoted) == 1:
        return f"placement tag {quoted[0]}"
    return f"placement tags {', '.join(quoted[:-1])} and {quoted[-1]}"
