"""Places instances and tasks on cells, or says why none will do.

Source: auction auctiontypes/types.go, auctionrunner/; rep resources.go.
"""

from collections.abc import Callable, Iterable

from protos.bbs.cells_pb2 import CellPresence
from tests.simulators.bbs.state import Rep, State


class NoPlacement(Exception):
    """No cell will take it; the text is the placement error."""


def choose_cell(
    state: State, rootfs: str, tags: Iterable[str], drivers: Iterable[str], memory_mb: int, disk_mb: int
) -> Rep:
    """Choose the first cell that matches and has room.

    Raises:
        NoPlacement: There is none.
    """
    cells = list(state.registered_cells().values())
    if not cells:
        raise NoPlacement("unable to communicate to compatible cells")
    wanted = frozenset(tags)
    steps: tuple[tuple[Callable[[CellPresence], bool], str], ...] = (
        (lambda cell: _offers(cell, rootfs), "found no compatible cell for required rootfs"),
        (lambda _cell: not any(drivers), "found no compatible cell with required volume drivers"),
        (lambda cell: _accepts(cell, wanted), f"found no compatible cell with {_tag_text(sorted(wanted))}"),
    )
    for matches, problem in steps:
        cells = [cell for cell in cells if matches(cell.presence)]
        if not cells:
            raise NoPlacement(problem)
    for cell in cells:
        if not cell.fits(memory_mb, disk_mb):
            return cell
    lacking = sorted({name for cell in cells for name in cell.fits(memory_mb, disk_mb)})
    raise NoPlacement(f"insufficient resources: {', '.join(lacking)}")


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
