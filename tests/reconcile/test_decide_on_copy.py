"""What is decided on an LRP that runs from its copy, or whose migration is open."""

from dataclasses import replace

import pytest

from reconcile.actions import BeginMigration, Continue, Skip
from reconcile.decide import decide
from reconcile.lrps import ActualLrpState, Credentials, ProcessGuid, Pull, Secret
from reconcile.migration_choice import RETRY_RESTORE_AFTER, ROUNDS_FORGOTTEN_AFTER
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Rules
from reconcile.orders import Order
from reconcile.reasons import AppState, Reason
from reconcile.references import Rootfs
from reconcile.steps import Enter
from tests.reconcile.protocol_samples import (
    EXITED,
    NO_PLATFORM,
    NO_PROCESS,
    NO_SUCH_COPY,
    UNREACHABLE,
    crashed,
)
from tests.reconcile.test_decide import (
    BRIDGING,
    GUID,
    IMAGE,
    LRP,
    NOW,
    PROCESS,
    READY,
    RECORD,
    RULES,
    RUNNING,
    row,
)

PULLER = Credentials("puller", Secret("cache-password"))


class TestACopyThatCellsCannotPullAnyMore:
    """An LRP that runs from a copy goes back to its source, and does not wait for anything."""

    ORIGINAL_SOURCE = OriginalSource(
        PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials
    )
    COPY = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
    FAILING = replace(
        READY,
        lrp=COPY,
        current_copy=IMAGE,
        instances=(crashed(UNREACHABLE),),
        original_source=ORIGINAL_SOURCE,
        record=RECORD,
    )

    @pytest.mark.parametrize(
        ("text", "reason"),
        [(UNREACHABLE, Reason.NOT_PULLED), (NO_SUCH_COPY, Reason.COPY_NOT_PULLED)],
        ids=["registry", "copy"],
    )
    def test_it_goes_back_to_its_source(self, text: str, reason: Reason) -> None:
        action = decide(replace(self.FAILING, instances=(crashed(text),)), BRIDGING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy, action.image) == (Goal.SOURCE, Strategy.RECREATE, None)
        assert action.reason is action.ended is reason
        assert action.detail
        assert "exit status" not in action.detail

    def test_one_of_which_instances_run_gets_a_bridge(self) -> None:
        action = decide(replace(self.FAILING, instances=(RUNNING, crashed(UNREACHABLE, 1))), BRIDGING)

        assert isinstance(action, BeginMigration)
        assert action.strategy is Strategy.BRIDGE

    def test_one_that_may_have_none_stays(self) -> None:
        action = decide(replace(self.FAILING, instances=(RUNNING, crashed(UNREACHABLE, 1))), RULES)

        assert isinstance(action, Skip)
        assert action.reason is Reason.WAITING_UNTIL_STOPPED

    @pytest.mark.parametrize("text", [EXITED, NO_PLATFORM, NO_PROCESS], ids=["app", "image", "process"])
    def test_one_that_fails_by_something_else_stays(self, text: str) -> None:
        """From its source it would fail as well."""
        assert decide(replace(self.FAILING, instances=(crashed(text),)), BRIDGING) == Skip(
            Reason.ALREADY_CACHED
        )

    def test_one_whose_instance_runs_again_stays(self) -> None:
        """The row keeps the reason of its last crash."""
        again = replace(crashed(UNREACHABLE), state=ActualLrpState.RUNNING, instance_guid="i")

        assert decide(replace(self.FAILING, instances=(again,)), BRIDGING) == Skip(Reason.ALREADY_CACHED)

    def test_one_whose_source_is_not_known_stays(self) -> None:
        assert decide(replace(self.FAILING, original_source=None), BRIDGING) == Skip(Reason.ALREADY_CACHED)
        lost = replace(self.ORIGINAL_SOURCE, credentials=None)
        action = decide(replace(self.FAILING, original_source=lost), BRIDGING)
        assert isinstance(action, Skip)
        assert action.reason is Reason.SOURCE_CREDENTIALS_UNKNOWN, "which somebody has to mend"

    def test_one_whose_source_did_not_serve_it_either_is_not_tried_again_for_a_while(self) -> None:
        record = replace(
            RECORD, rootfs=str(self.COPY.rootfs), reason=Reason.BRIDGE_CRASHED, detail="bridge: why"
        )
        failed = replace(self.FAILING, record=record)

        assert decide(failed, BRIDGING) == Skip(Reason.BRIDGE_CRASHED, "bridge: why")
        later = replace(failed, now=NOW + RETRY_RESTORE_AFTER + 1)
        assert isinstance(decide(later, BRIDGING), BeginMigration)

    def test_while_the_daemon_is_paused_it_stays(self) -> None:
        action = decide(replace(self.FAILING, is_paused=True), BRIDGING)

        assert isinstance(action, Skip)
        assert action.reason is Reason.PAUSED
        assert "connection refused" in action.detail

    def test_the_migration_that_led_there_counts_on(self) -> None:
        """Otherwise a copy that can be pulled now and then would have its app started again and again."""
        twice = replace(self.FAILING, record=replace(RECORD, rounds=2))

        action = decide(twice, BRIDGING)

        assert isinstance(action, BeginMigration)
        assert action.rounds == 2
        long_ago = replace(twice, now=NOW + ROUNDS_FORGOTTEN_AFTER + 1)
        action = decide(long_ago, BRIDGING)
        assert isinstance(action, BeginMigration)
        assert action.rounds == 1


class TestACopyThatTheStoreDoesNotKnow:
    """As after the loss of the database: it runs, and is not called cached."""

    LOST = replace(
        READY,
        lrp=replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID)),
        instances=(RUNNING,),
        binding=None,
        job=None,
        image=None,
    )

    def test_it_has_a_reason_of_its_own_that_says_what_helps(self) -> None:
        assert decide(self.LOST, RULES) == Skip(Reason.COPY_UNKNOWN, "`rebuild` looks for its source")
        assert Reason.COPY_UNKNOWN.state is AppState.WAITING

    def test_what_it_ran_from_is_said_when_it_is_known(self) -> None:
        source = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)

        action = decide(replace(self.LOST, original_source=source), RULES)

        assert action == Skip(Reason.COPY_UNKNOWN, f"it ran from {LRP.rootfs} before")

    def test_it_is_called_cached_once_the_copy_is_known(self) -> None:
        assert decide(replace(self.LOST, current_copy=IMAGE), RULES) == Skip(Reason.ALREADY_CACHED)

    def test_an_image_of_that_registry_that_is_no_copy_is_none_of_ours(self) -> None:
        pushed = replace(LRP, rootfs=Rootfs(f"docker://{RULES.cache.address}/team/own#1"))

        assert decide(replace(self.LOST, lrp=pushed), RULES) == Skip(Reason.ALREADY_CACHED)

    def test_it_cannot_be_restored_and_the_reason_says_what_helps(self) -> None:
        ordered = replace(self.LOST, order=Order(Goal.SOURCE, since=NOW))

        action = decide(ordered, RULES)

        assert isinstance(action, Skip)
        assert action.reason is Reason.SOURCE_UNKNOWN
        assert "`rebuild`" in action.detail


class TestTargetOfAnOpenMigration:
    ORIGINAL_SOURCE = OriginalSource(
        PROCESS, GUID, Rootfs("docker:///team/first#1"), needs_credentials=False, credentials=None
    )
    OPEN = Migration(PROCESS, GUID, Phase.REMOVED, LRP, 1, "run-1", NOW, entered_at=NOW)

    def target_of(self, migration: Migration, source: OriginalSource | None = None) -> Pull:
        observed = replace(READY, lrp=None, migration=migration, original_source=source)
        action = decide(observed, replace(RULES, pull_credentials=PULLER))
        assert isinstance(action, Continue)
        return action.target

    def test_it_is_the_copy_with_the_login_of_cells(self) -> None:
        assert self.target_of(self.OPEN) == Pull(RULES.cache.rootfs(GUID), PULLER)

    def test_it_is_the_original_source_of_one_that_is_restored(self) -> None:
        restoring = replace(self.OPEN, goal=Goal.SOURCE)

        assert self.target_of(restoring, self.ORIGINAL_SOURCE) == Pull(Rootfs("docker:///team/first#1"), None)

    def test_it_is_what_it_ran_from_of_one_that_was_turned_back(self) -> None:
        """Whatever the record of its source says."""
        way_back = Pull(LRP.rootfs, LRP.credentials)
        back = replace(self.OPEN, goal=Goal.SOURCE, way_back=way_back)

        assert self.target_of(back, self.ORIGINAL_SOURCE) == way_back
        assert self.target_of(back) == way_back

    @pytest.mark.parametrize(
        ("rules", "process_guid", "may_bridge"),
        [(RULES, PROCESS, False), (BRIDGING, PROCESS, True), (BRIDGING, ProcessGuid("p" * 240), False)],
        ids=["not durable", "durable", "long name"],
    )
    def test_it_gets_a_stopgap_only_where_bridges_are_possible(
        self,
        rules: Rules,
        process_guid: ProcessGuid,
        may_bridge: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        pulling = replace(row(ActualLrpState.CLAIMED, guid="old"), process_guid=process_guid)
        lrp = replace(LRP, process_guid=process_guid)
        known = replace(
            self.OPEN,
            process_guid=process_guid,
            original=lrp,
            entered_at=NOW - 5,
            instance_guids=frozenset({"old"}),
        )
        observed = replace(READY, process_guid=process_guid, lrp=None, migration=known, instances=(pulling,))

        action = decide(observed, rules)

        assert isinstance(action, Continue)
        assert isinstance(action.step, Enter) == may_bridge


class TestLeftOnItsCopy:
    """It does not run from its copy, and would not run from its source either."""

    COPY = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
    RECORD = replace(
        RECORD, rootfs=str(COPY.rootfs), reason=Reason.PROCESS_EXITED, detail="Exited with status 3"
    )
    DOWN = replace(READY, lrp=COPY, current_copy=IMAGE, instances=(crashed(EXITED),), record=RECORD)

    @pytest.mark.parametrize("reason", [Reason.PROCESS_EXITED, Reason.NO_ROOM])
    def test_it_is_not_called_cached_while_nothing_runs(self, reason: Reason) -> None:
        record = replace(self.RECORD, reason=reason)

        assert decide(replace(self.DOWN, record=record), RULES) == Skip(reason, "Exited with status 3")

    def test_it_is_when_an_instance_runs(self) -> None:
        assert decide(replace(self.DOWN, instances=(RUNNING,)), RULES) == Skip(Reason.ALREADY_CACHED)

    def test_what_was_said_of_another_root_file_system_does_not_count(self) -> None:
        record = replace(self.RECORD, rootfs=str(LRP.rootfs))

        assert decide(replace(self.DOWN, record=record), RULES) == Skip(Reason.ALREADY_CACHED)

    def test_without_wanted_instances_it_waits_until_some_are_wanted(self) -> None:
        record = replace(self.RECORD, reason=Reason.NO_INSTANCES, detail="")
        none = replace(self.DOWN, lrp=replace(self.COPY, instances=0), instances=(), record=record)

        assert decide(none, RULES) == Skip(Reason.NO_INSTANCES, "")
        assert decide(replace(none, lrp=self.COPY), RULES) == Skip(Reason.ALREADY_CACHED)
