"""Journal rows and worlds that the tests of single steps of the migration protocol start from."""

from dataclasses import replace

from reconcile.bridges import bridge_of
from reconcile.lrps import ActualLrp, ActualLrpState, ModificationTag, Presence, Pull
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.protocol import next_step
from reconcile.reasons import Reason
from reconcile.references import Rootfs, source_from_rootfs
from reconcile.steps import Enter, PhaseLimits, Step, TurnBack, World
from tests.reconcile.test_decide import GUID, LRP, NOW, PROCESS, RULES

TARGET = Pull(RULES.cache.rootfs(GUID))
SOURCE = Pull(LRP.rootfs, LRP.credentials)
LIMITS = PhaseLimits(bridge=60.0, start=60.0, routes=5.0)
ROUTES = {"cf-router": b"[1]", "diego-ssh": b"{}"}
SSH = {"diego-ssh": b"{}"}
ON_COPY = replace(
    LRP, rootfs=TARGET.rootfs, credentials=TARGET.credentials, tag=ModificationTag("epoch-2", 0)
)
"""The LRP as this program desired it again."""
REVERTED = replace(LRP, tag=ModificationTag("epoch-3", 0))
"""The LRP as its owner desired it from the source, after the removal."""
ON_FORMER_COPY = replace(LRP, rootfs=Rootfs("docker://former.example/copy#latest"), credentials=None)
"""An LRP that runs from a copy in another private registry."""
OWNED = source_from_rootfs(LRP.rootfs)
"""What its owner desires it from."""
BRIDGE = replace(ON_COPY, process_guid=bridge_of(PROCESS))
SOURCE_BRIDGE = replace(BRIDGE, rootfs=SOURCE.rootfs)
"""The bridge of an LRP that was turned back."""
ROW = Migration(
    PROCESS,
    GUID,
    Phase.BRIDGING,
    LRP,
    rounds=1,
    run_id="run-1",
    started_at=NOW - 1,
    entered_at=NOW - 1,
    strategy=Strategy.BRIDGE,
)

_PULL = "failed to create container: running image plugin create: "
_IMAGE = f"{_PULL}fetching image reference: creating image: "
UNREACHABLE = (
    f"{_IMAGE}creating image source: pinging container registry cache.example:8080: "
    'Get "https://cache.example:8080/v2/": dial tcp 10.0.0.9:8080: connect: connection refused\n'
    ": exit status 1"
)
NO_SUCH_COPY = (
    f"{_IMAGE}creating image source: reading manifest latest in cache.example:8080/g: manifest unknown\n"
    ": exit status 1"
)
NO_PLATFORM = (
    f"{_IMAGE}choosing image instance: no image found in image index for architecture "
    '"amd64", variant "", OS "linux"\n: exit status 1'
)
NO_PROCESS = "unable to find user vcap: no matching entries in passwd file"
EXITED = "APP/PROC/WEB: Exited with status 3"
NO_ROOM = "insufficient resources: memory"

UNCLAIMED, CLAIMED = ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED
RUNNING, CRASHED = ActualLrpState.RUNNING, ActualLrpState.CRASHED


def instance(
    index: int = 0,
    state: ActualLrpState = RUNNING,
    *,
    guid: str = "",
    presence: Presence = Presence.ORDINARY,
    crashes: int = 0,
    routable: bool = True,
) -> ActualLrp:
    name = guid or f"i-{index}"
    tag = ModificationTag("e", 0)
    return ActualLrp(PROCESS, index, "cf-apps", state, presence, name, "cell", tag, routable, crashes)


def crashed(reason: str, index: int = 0, *, state: ActualLrpState = CRASHED, crashes: int = 3) -> ActualLrp:
    """Make the row of an instance that crashed, and is started again unless it is CRASHED."""
    row = instance(index, state, crashes=crashes)
    return replace(row, crash_reason=reason, instance_guid="", cell_id="")


def without_room(index: int = 0) -> ActualLrp:
    row = instance(index, UNCLAIMED)
    return replace(row, placement_error=NO_ROOM, instance_guid="", cell_id="")


OURS = (instance(0, guid="a"), instance(1, guid="b"))
"""The instances from before the removal."""
BRIDGED = (instance(0, guid="c"), instance(1, guid="d"))
NEW = (instance(0, guid="e"), instance(1, guid="f"))
WORLD = World(NOW, 1000.0, "run-1", lrp=LRP, instances=OURS, bridge=BRIDGE, bridge_instances=BRIDGED)
GONE = replace(WORLD, lrp=None, instances=())
BACK = replace(WORLD, lrp=ON_COPY, instances=NEW)
ALONE = replace(WORLD, lrp=ON_COPY, bridge=None, bridge_instances=(), may_bridge=True)
"""What an LRP that was recreated without a bridge looks like, with its old instances."""


def row(phase: Phase, **changes: object) -> Migration:
    return replace(ROW, phase=phase, **changes)  # type: ignore[arg-type] # fields by name


def turned_back(phase: Phase, **changes: object) -> Migration:
    """Make the row of an LRP that goes back to its source since cells cannot pull its copy."""
    back = row(phase, goal=Goal.SOURCE, ended=Reason.NOT_PULLED, way_back=SOURCE)
    return replace(back, **{"original": ON_COPY, **changes})  # type: ignore[arg-type] # fields by name


def step(migration: Migration, world: World) -> Step:
    return next_step(migration, world, target=migration.way_back or TARGET, limits=LIMITS)


def entered(migration: Migration, world: World) -> tuple[Phase, Reason | None]:
    made = step(migration, world)
    assert isinstance(made, Enter), made
    assert made.migration.entered_at == NOW
    return made.migration.phase, made.migration.ended


def turned(migration: Migration, world: World) -> TurnBack:
    made = step(migration, world)
    assert isinstance(made, TurnBack), made
    assert made.migration.goal is Goal.SOURCE
    assert made.migration.way_back == SOURCE
    return made
