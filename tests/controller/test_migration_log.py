"""The one line of each migration: whose it was, from where to where, how long it took and how few served."""

from dataclasses import replace
from typing import Any

import pytest

from controller.migration_log import MigrationLog
from reconcile.apply import Outcome
from reconcile.lrps import Pull
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed
from reconcile.reasons import Reason
from tests.reconcile.protocol_samples import (
    BRIDGE,
    BRIDGED,
    NEW,
    ON_COPY,
    OURS,
    ROW,
    SOURCE,
    instance,
    row,
    turned_back,
)
from tests.reconcile.test_decide import GUID, LRP, NOW, PROCESS, RULES
from tests.written_lines import written_lines

COPY = str(RULES.cache.image(GUID))
TAGS = {"app_name": "web", "space_name": "dev", "organization_name": "acme", "process_type": "worker"}
NAMED = replace(LRP, metric_tags=TAGS)


def logging() -> MigrationLog:
    return MigrationLog(RULES.cache, lambda: NOW + 41.5)


def seen(migration: Migration, **changes: object) -> Observed:
    observed = Observed(PROCESS, now=NOW, process_age=1000.0, run_id="run-1", migration=migration)
    return replace(observed, **changes)  # type: ignore[arg-type] # fields by name


class Ended:
    """Ends migrations of which nothing else was seen, and gives their lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, migration: Migration, reason: Reason, **changes: object) -> dict[str, Any]:
        outcome = Outcome(reason, "some cause", ended=migration)
        logging().ended(seen(migration, **changes), outcome, 5000)
        return self.line()

    def line(self) -> dict[str, Any]:
        (line,) = written_lines(self._capsys)
        found: dict[str, Any] = line["data"]
        return {"message": line["message"], "level": line["level"], **found}


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Ended:
    return Ended(capsys)


def test_all_of_a_migration_is_in_one_line(ended: Ended) -> None:
    line = ended(row(Phase.REMOVING_BRIDGE, original=NAMED), Reason.MIGRATED)

    assert line == {
        "message": "docker-cache.reconciler.migrated",
        "level": "info",
        "app": "web",
        "space": "dev",
        "organization": "acme",
        "app-guid": LRP.app_guid,
        "process-guid": PROCESS,
        "process-type": "worker",
        "comes-from": "registry.example.com/team/app:1",
        "goes-to": COPY,
        "goal": "cache",
        "strategy": "bridge",
        "reason": "migrated",
        "detail": "some cause",
        "bytes": 5000,
        "duration-s": 42.5,
        "instances": LRP.instances,
        "lowest-instances": None,
        "round": 1,
    }


@pytest.mark.parametrize(
    ("reason", "event", "level"),
    [
        (Reason.RESTORED, "migrated", "info"),
        (Reason.FELL_BACK_TO_SOURCE, "migrated", "info"),
        (Reason.BRIDGE_CRASHED, "failed-to-migrate", "error"),
        (Reason.NOT_HEALTHY, "failed-to-migrate", "error"),
        (Reason.REVERTED_EXTERNALLY, "failed-to-migrate", "error"),
        (Reason.CHANGED_BY_CLOUD_CONTROLLER, "ended-migration", "info"),
        (Reason.REMOVED_BY_OWNER, "ended-migration", "info"),
        (Reason.CANCELLED, "ended-migration", "info"),
    ],
)
def test_a_failure_is_an_error_and_an_end_that_others_brought_about_is_none(
    ended: Ended, reason: Reason, event: str, level: str
) -> None:
    line = ended(ROW, reason)

    assert (line["message"], line["level"]) == (f"docker-cache.reconciler.{event}", level)


def test_a_way_back_goes_from_the_copy_to_the_source(ended: Ended) -> None:
    original = OriginalSource(PROCESS, GUID, SOURCE.rootfs, needs_credentials=False, credentials=None)
    restored = row(Phase.STARTING, goal=Goal.SOURCE, original=ON_COPY)

    known = ended(restored, Reason.RESTORED, original_source=original)
    unknown = ended(restored, Reason.REMOVED_BY_OWNER)

    assert (known["comes-from"], known["goes-to"]) == (COPY, "registry.example.com/team/app:1")
    assert (unknown["comes-from"], unknown["goes-to"]) == (COPY, "")


def test_an_lrp_that_was_turned_back_was_to_go_to_the_copy(ended: Ended) -> None:
    line = ended(turned_back(Phase.STARTING), Reason.NOT_PULLED)

    assert (line["comes-from"], line["goes-to"]) == ("registry.example.com/team/app:1", COPY)
    assert line["level"] == "error"


def test_another_login_is_no_other_image(ended: Ended) -> None:
    line = ended(row(Phase.STARTING, original=ON_COPY, renews_login=True), Reason.MIGRATED)

    assert (line["comes-from"], line["goes-to"]) == (COPY, COPY)


def test_no_login_that_a_user_wrote_into_a_rootfs_is_shown(ended: Ended) -> None:
    rootfs = replace(LRP.rootfs, uri="docker://user:marker-password@registry.example.com/team/app#1")
    line = ended(row(Phase.STARTING, original=replace(LRP, rootfs=rootfs)), Reason.MIGRATED)
    back = ended(replace(turned_back(Phase.STARTING), way_back=Pull(rootfs, None)), Reason.NOT_PULLED)

    assert "marker-password" not in str(line) + str(back)


def lowest(ended: Ended, *observations: Observed) -> object:
    log = logging()
    for each in observations:
        log.look(each)
    log.ended(observations[-1], Outcome(Reason.MIGRATED, ended=observations[-1].migration), None)
    return ended.line()["lowest-instances"]


def test_the_bridge_counts_for_the_instances_that_serve(ended: Ended) -> None:
    """Two are wanted, and more than two is no better."""
    assert LRP.instances == 2
    both = seen(ROW, instances=OURS, bridge=BRIDGE, bridge_instances=BRIDGED)
    alone = seen(row(Phase.REMOVED), bridge=BRIDGE, bridge_instances=BRIDGED)
    back = seen(row(Phase.STARTING), instances=NEW[:1], bridge=BRIDGE, bridge_instances=BRIDGED[:1])

    assert lowest(ended, both, alone, back) == 2


def test_the_lowest_number_ever_is_kept(ended: Ended) -> None:
    row_without = row(Phase.REMOVED, strategy=Strategy.RECREATE)
    not_routable = (instance(0, guid="a"), instance(1, guid="b", routable=False))

    one_less = seen(ROW, instances=not_routable)

    assert lowest(ended, seen(ROW, instances=OURS), one_less, seen(ROW, instances=OURS)) == 1
    assert lowest(ended, seen(ROW, instances=OURS), seen(row_without), seen(ROW, instances=NEW)) == 0


def test_the_next_migration_of_an_lrp_begins_anew(ended: Ended) -> None:
    log = logging()
    log.look(seen(row(Phase.REMOVED)))
    log.look(replace(seen(ROW), migration=None))
    log.look(seen(ROW, instances=OURS))
    log.ended(seen(ROW), Outcome(Reason.MIGRATED, ended=ROW), None)

    assert ended.line()["lowest-instances"] == 2
