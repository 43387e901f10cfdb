"""What is said of instances that do not run: of the LRP or its bridge, and what they were pulling from."""

from dataclasses import replace

import pytest

from reconcile.causes import cause_of, cause_of_instances, detail_of_migration
from reconcile.foreign_text import MAX_FOREIGN_TEXT
from reconcile.lrps import ActualLrp, ActualLrpState, Presence, ProcessGuid
from reconcile.migrations import Migration, Phase, Strategy
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from tests.reconcile.test_decide import GUID, LRP, NOW, PROCESS, READY, RECORD, RULES, row

CACHE = RULES.cache
COPY = replace(LRP, rootfs=CACHE.rootfs(GUID))
BRIDGE = replace(COPY, process_guid=ProcessGuid("bridge"))
PULL = "failed to create container: running image plugin create: "
UNKNOWN = (
    PULL
    + "fetching image reference: creating image: reading manifest latest in r: manifest unknown\n: exit status 1"
)
NO_DISK = "insufficient resources: disk"


def crashed(reason: str, *, index: int = 0, state: ActualLrpState = ActualLrpState.CRASHED) -> ActualLrp:
    return replace(row(state, index=index, guid=""), crash_count=1, crash_reason=reason)


def waiting(error: str, *, index: int = 0) -> ActualLrp:
    return replace(row(ActualLrpState.UNCLAIMED, index=index, guid=""), placement_error=error)


@pytest.mark.parametrize(
    ("instance", "cause"),
    [
        (waiting(NO_DISK), "no cell has room: insufficient resources: disk"),
        (waiting("found no compatible cell"), "no cell takes it: found no compatible cell"),
        (crashed("Exited with status 3"), "crashed from its {}: Exited with status 3"),
        (crashed("exec failed: no such file"), "cannot be started from its {}: exec failed: no such file"),
        (
            crashed(UNKNOWN),
            "cells cannot pull from its {}: reading manifest latest in r: manifest unknown",
        ),
        (
            crashed("Exited with status 3", state=ActualLrpState.CLAIMED),
            "crashed from its {}: Exited with status 3",
        ),
        (crashed(""), ""),
        (waiting(""), ""),
        (row(ActualLrpState.CLAIMED), ""),
    ],
)
def test_a_cause_names_what_was_pulled_from(instance: ActualLrp, cause: str) -> None:
    one = replace(LRP, instances=1)

    assert cause_of_instances(one, [instance], CACHE) == cause.format("source")
    assert cause_of_instances(replace(COPY, instances=1), [instance], CACHE) == cause.format("copy")


def test_an_instance_that_runs_has_no_cause_although_it_crashed_before() -> None:
    runs = replace(row(ActualLrpState.RUNNING), crash_count=2, crash_reason="Exited with status 3")
    was_placed = replace(row(ActualLrpState.CLAIMED), placement_error=NO_DISK)
    never_crashed = replace(row(ActualLrpState.CLAIMED), crash_reason="Exited with status 3")

    assert cause_of_instances(LRP, [runs, was_placed, never_crashed], CACHE) == ""


def test_the_causes_of_several_instances_are_counted_and_two_are_named() -> None:
    lrp = replace(LRP, instances=5)
    rows = [
        crashed("Exited with status 1", index=0),
        waiting(NO_DISK, index=1),
        waiting(NO_DISK, index=2),
        crashed("Exited with status 2", index=3),
        replace(row(ActualLrpState.RUNNING, index=4), presence=Presence.EVACUATING),
        crashed("Exited with status 9", index=5),  # is being stopped
    ]

    assert cause_of_instances(lrp, reversed(rows), CACHE) == (
        "no cell has room: insufficient resources: disk (2 of 5 instances); "
        "crashed from its source: Exited with status 1 (1 of 5 instances)"
    )
    same = [waiting(NO_DISK, index=index) for index in range(5)]
    assert cause_of_instances(lrp, same, CACHE) == "no cell has room: insufficient resources: disk"


def test_a_long_cause_is_cut() -> None:
    assert len(cause_of_instances(LRP, [crashed("x" * 3000)], CACHE)) < MAX_FOREIGN_TEXT + 30


def bridging(*bridge_rows: ActualLrp, phase: Phase = Phase.BRIDGING) -> Observed:
    migration = Migration(
        PROCESS, GUID, phase, LRP, 1, "run-1", NOW, strategy=Strategy.BRIDGE, entered_at=NOW
    )
    own = (row(ActualLrpState.RUNNING), crashed("Exited with status 3", index=1))
    return replace(READY, migration=migration, instances=own, bridge=BRIDGE, bridge_instances=bridge_rows)


def test_with_a_bridge_it_is_said_which_of_the_two_does_not_run() -> None:
    observed = bridging(waiting(NO_DISK), waiting(NO_DISK, index=1))

    assert cause_of(observed, CACHE) == (
        "bridge: no cell has room: insufficient resources: disk; "
        "app: crashed from its source: Exited with status 3 (1 of 2 instances)"
    )
    assert cause_of(replace(observed, bridge=None, bridge_instances=()), CACHE) == (
        "crashed from its source: Exited with status 3 (1 of 2 instances)"
    )
    assert cause_of(replace(observed, lrp=None, bridge=None), CACHE) == "", (
        "its old instances are being stopped"
    )


def test_a_bridge_on_the_way_back_fails_from_the_source() -> None:
    to_source = replace(BRIDGE, rootfs=Rootfs("docker:///library/busybox#latest"), instances=1)
    observed = replace(bridging(crashed(UNKNOWN)), lrp=COPY, instances=(), bridge=to_source)

    assert cause_of(observed, CACHE).startswith("bridge: cells cannot pull from its source: ")


def test_what_a_migration_failed_by_is_kept_until_it_ends() -> None:
    failing = bridging(waiting(NO_DISK), waiting(NO_DISK, index=1))
    said = detail_of_migration(failing, Reason.REMOVING_BRIDGE, CACHE)
    assert failing.migration is not None
    ending = replace(failing.migration, phase=Phase.REMOVING_BRIDGE, ended=Reason.BRIDGE_TIMEOUT)
    recorded = replace(RECORD, reason=Reason.REMOVING_BRIDGE, detail=said)
    removed = replace(failing, migration=ending, record=recorded, bridge=None, bridge_instances=())

    assert said.startswith("bridge: no cell has room: ")
    assert detail_of_migration(removed, Reason.REMOVING_BRIDGE, CACHE) == said
    assert detail_of_migration(removed, Reason.BRIDGE_TIMEOUT, CACHE) == said
    before = replace(recorded, reason=Reason.RETRYING_COPY, detail="from before the migration")
    assert detail_of_migration(replace(removed, record=before), Reason.BRIDGE_TIMEOUT, CACHE).startswith(
        "crashed"
    )
    assert detail_of_migration(replace(removed, migration=None), Reason.BRIDGE_TIMEOUT, CACHE) == ""


def test_what_delayed_a_migration_is_not_said_of_its_success() -> None:
    late = bridging(phase=Phase.REMOVING_BRIDGE)
    assert late.migration is not None
    recorded = replace(RECORD, reason=Reason.REMOVING_BRIDGE, detail="bridge: no cell has room")
    ended = replace(late, migration=replace(late.migration, ended=Reason.MIGRATED), record=recorded)

    assert detail_of_migration(ended, Reason.MIGRATED, CACHE) == ""
    assert detail_of_migration(ended, Reason.REMOVING_BRIDGE, CACHE).startswith("app: crashed")
