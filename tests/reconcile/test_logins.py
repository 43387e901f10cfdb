"""What is decided on an LRP whose login for the private registry is not the configured one."""

from dataclasses import replace

import pytest

from reconcile.actions import BeginMigration, Skip, UpdateLogin, VerifyImage
from reconcile.decide import decide
from reconcile.logins import OUTDATED, is_outdated
from reconcile.lrps import Credentials, Secret
from reconcile.migration_choice import RETRY_FAILED_AFTER
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed
from reconcile.orders import Order
from reconcile.plan import PlannedMigration, Skipped, changes_since_plan, plan_lrp, planned_action
from reconcile.policy import MigrateRunning, RunningPolicy
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, Rootfs
from tests.reconcile.protocol_samples import NO_SUCH_COPY, UNREACHABLE, crashed
from tests.reconcile.test_decide import BRIDGING, GUID, IMAGE, LRP, NOW, PROCESS, READY, RECORD, RUNNING

FORMER = Credentials("cells", Secret("former"))
PRESENT = Credentials("cells", Secret("present"))
RULES = replace(BRIDGING, pull_credentials=PRESENT)
SOURCE = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)
COPY = replace(LRP, rootfs=RULES.cache.rootfs(GUID), credentials=FORMER)
REFUSED = UNREACHABLE.replace("connection refused", "authentication required")
OUTDATED_LRP = replace(
    READY,
    lrp=COPY,
    instances=(RUNNING,),
    binding=None,
    job=None,
    image=None,
    current_copy=IMAGE,
    original_source=SOURCE,
    record=RECORD,
)
MIGRATING = replace(OUTDATED_LRP, stores_logins=False)
"""The same where the BBS is known not to store a login that is updated in place."""
ORDER = Order(Goal.CACHE, since=NOW)


class TestOutdated:
    @pytest.mark.parametrize(
        ("has", "wants"),
        [(FORMER, PRESENT), (FORMER, None), (None, PRESENT)],
        ids=["other", "too many", "none"],
    )
    @pytest.mark.parametrize("stores_logins", [None, True])
    def test_it_is_updated_in_place_where_the_bbs_may_store_it(
        self,
        has: Credentials | None,
        wants: Credentials | None,
        stores_logins: bool | None,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        observed = replace(OUTDATED_LRP, lrp=replace(COPY, credentials=has), stores_logins=stores_logins)

        action = decide(observed, replace(RULES, pull_credentials=wants))

        assert action == UpdateLogin(replace(COPY, credentials=has), wants)
        assert action.reason is Reason.LOGIN_OUTDATED

    @pytest.mark.parametrize(
        ("instances", "how"), [((RUNNING,), Strategy.BRIDGE), ((), Strategy.RECREATE)], ids=["runs", "rests"]
    )
    def test_it_is_migrated_to_the_same_copy_where_the_bbs_does_not(
        self, instances: tuple[()], how: Strategy
    ) -> None:
        action = decide(replace(MIGRATING, instances=instances), RULES)

        assert isinstance(action, BeginMigration)
        assert (action.image, action.goal, action.strategy) == (IMAGE, Goal.CACHE, how)
        assert (action.reason, action.renews_login) == (Reason.LOGIN_OUTDATED, True)
        assert action.rounds == RECORD.rounds + 1

    def test_the_configured_one_is_left(self) -> None:
        for stores_logins in (None, True, False):
            observed = replace(
                OUTDATED_LRP, lrp=replace(COPY, credentials=PRESENT), stores_logins=stores_logins
            )
            assert decide(observed, RULES) == Skip(Reason.ALREADY_CACHED)
            assert not is_outdated(observed, replace(COPY, credentials=PRESENT), RULES)

    def test_an_lrp_that_runs_from_its_source_has_its_own(self) -> None:
        assert not is_outdated(replace(READY, original_source=SOURCE), LRP, RULES)

    def test_while_the_daemon_is_paused_only_an_order_changes_it(self) -> None:
        paused = replace(OUTDATED_LRP, is_paused=True)

        assert decide(paused, RULES) == Skip(Reason.PAUSED, OUTDATED)
        assert isinstance(decide(replace(paused, order=ORDER), RULES), UpdateLogin)

    def test_a_pin_does_not_keep_an_app_on_a_login_that_ends(self) -> None:
        """It is to stay on its source, and until it is there its new instances pull from the copy."""
        assert isinstance(decide(replace(OUTDATED_LRP, is_pinned=True), RULES), UpdateLogin)
        assert isinstance(decide(replace(MIGRATING, is_pinned=True), RULES), BeginMigration)


class TestForeign:
    """Whoever desires an LRP from a copy by name brings a login, or reads no image of others."""

    @pytest.mark.parametrize("source", [None, replace(SOURCE, cache_guid=CacheGuid("another"))])
    def test_one_that_this_program_has_not_migrated_there_gets_no_login(
        self, source: OriginalSource | None
    ) -> None:
        foreign = replace(OUTDATED_LRP, lrp=replace(COPY, credentials=None), original_source=source)

        assert decide(foreign, RULES) == Skip(Reason.FOREIGN_LOGIN)

    def test_another_image_of_the_private_registry_is_none_of_our_copies(self) -> None:
        own = replace(COPY, rootfs=Rootfs("docker://cache.example:8080/team/own#1"))

        assert decide(replace(OUTDATED_LRP, lrp=own), RULES) == Skip(Reason.ALREADY_CACHED)


class TestMigration:
    def test_one_that_may_have_no_bridge_waits_and_says_so(self) -> None:
        never = replace(RULES, running=RunningPolicy(MigrateRunning.NEVER))

        action = decide(MIGRATING, never)

        assert action == Skip(Reason.LOGIN_OUTDATED, "waiting-until-stopped: migrate_running is never")
        assert isinstance(decide(OUTDATED_LRP, never), UpdateLogin), "which touches no instance"

    def test_a_copy_without_a_record_cannot_be_looked_for(self) -> None:
        action = decide(replace(MIGRATING, current_copy=None), RULES)

        assert isinstance(action, Skip)
        assert action.reason is Reason.LOGIN_OUTDATED

    def test_a_copy_that_needs_verification_is_read_first(self) -> None:
        suspect = replace(IMAGE, needs_verification_since=NOW - 1)

        assert decide(replace(MIGRATING, current_copy=suspect), RULES) == VerifyImage(COPY, suspect)

    def test_one_that_failed_is_tried_again_after_a_while(self) -> None:
        failed = replace(MIGRATING, record=replace(RECORD, reason=Reason.BRIDGE_CRASHED, detail="why"))

        assert decide(failed, RULES) == Skip(Reason.BRIDGE_CRASHED, "why")
        assert isinstance(decide(replace(failed, now=NOW + RETRY_FAILED_AFTER + 1), RULES), BeginMigration)

    def test_it_ends_when_somebody_else_keeps_changing_the_login(self) -> None:
        often = replace(MIGRATING, record=replace(RECORD, rounds=MAX_ROUNDS))

        action = decide(often, RULES)

        assert isinstance(action, Skip)
        assert action.reason is Reason.LOGIN_OUTDATED


class TestRefused:
    """Cells cannot pull the copy, and its login is not the configured one."""

    DOWN = replace(OUTDATED_LRP, instances=(crashed(REFUSED),))

    def test_it_gets_the_login_rather_than_going_back_to_its_source(self) -> None:
        action = decide(self.DOWN, RULES)

        assert isinstance(action, UpdateLogin)
        assert action.instead is not None
        assert (action.instead.goal, action.instead.ended) == (Goal.SOURCE, Reason.NOT_PULLED)

    def test_the_same_by_a_migration(self) -> None:
        action = decide(replace(self.DOWN, stores_logins=False), RULES)

        assert isinstance(action, BeginMigration)
        assert action.renews_login
        assert action.instead is not None

    def test_a_copy_that_is_gone_is_not_helped_by_a_login(self) -> None:
        action = decide(replace(self.DOWN, instances=(crashed(NO_SUCH_COPY),)), RULES)

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE


class TestPlan:
    def plan(self, observed: Observed) -> PlannedMigration | Skipped:
        ordered = replace(observed, order=ORDER)
        assert ordered.lrp is not None
        return plan_lrp(ordered, ordered.lrp, planned_action(ordered, RULES), RULES)

    @pytest.mark.parametrize(
        ("stores_logins", "how"),
        [(None, Strategy.BRIDGE), (True, Strategy.UPDATE), (False, Strategy.BRIDGE)],
        ids=["not known: the most that it may take", "in place", "by a migration"],
    )
    def test_it_names_the_drift(
        self,
        stores_logins: bool | None,  # noqa: FBT001 - a parameter of the test
        how: Strategy,
    ) -> None:
        planned = self.plan(replace(OUTDATED_LRP, stores_logins=stores_logins))

        assert isinstance(planned, PlannedMigration)
        assert (planned.reason, planned.strategy, planned.copy) == (Reason.LOGIN_OUTDATED, how, None)
        assert planned.to_rootfs == planned.subject.rootfs == COPY.rootfs
        assert not planned.gets_unseen_content
        assert "former" not in str(planned)
        assert "present" not in str(planned)

    def test_an_update_in_place_is_less_than_any_plan_has_said_and_a_migration_is_more(self) -> None:
        unknown, by_update, by_bridge = (
            self.plan(replace(OUTDATED_LRP, stores_logins=stores)) for stores in (None, True, False)
        )
        assert isinstance(unknown, PlannedMigration)
        assert isinstance(by_update, PlannedMigration)

        assert changes_since_plan(unknown, by_update) == ""
        assert changes_since_plan(unknown, by_bridge) == ""
        assert "by bridge, not update" in changes_since_plan(by_update, by_bridge)
        order = replace(ORDER, strategy=Strategy.UPDATE)
        action = decide(replace(MIGRATING, order=order), RULES)
        assert isinstance(action, Skip)
        assert action.reason is Reason.PLAN_IS_STALE

    def test_one_that_is_in_flight_goes_back_to_its_true_source(self) -> None:
        row = Migration(PROCESS, GUID, Phase.BRIDGING, COPY, 1, "run-1", NOW, renews_login=True)
        observed = replace(OUTDATED_LRP, migration=row, order=Order(Goal.SOURCE, since=NOW))

        planned = plan_lrp(observed, COPY, planned_action(observed, RULES), RULES)

        assert isinstance(planned, PlannedMigration)
        assert planned.to_rootfs == LRP.rootfs
