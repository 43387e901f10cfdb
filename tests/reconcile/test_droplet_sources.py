"""What an LRP goes back to that Cloud Controller desired from a droplet that names its copy."""

from dataclasses import dataclass, field, replace

import pytest

from reconcile.actions import BeginMigration, Skip, UpdateLogin
from reconcile.decide import decide
from reconcile.droplet_sources import source_of_droplet
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.facts import PassContext
from reconcile.known_records import KnownCopy
from reconcile.lrps import ActualLrpState, AppGuid, Credentials, DesiredLrp, ProcessGuid, Secret
from reconcile.migrations import Goal, OriginalSource, Strategy
from reconcile.observe import observe
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.plan import PlannedMigration, plan_lrp, planned_action
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import AppState, Reason
from reconcile.records import LrpRecord
from reconcile.references import CacheGuid, CacheRepositories, Rootfs
from tests.reconcile.protocol_samples import EXITED, UNREACHABLE, crashed
from tests.reconcile.test_decide import APP, BRIDGING, GUID, IMAGE, LRP, NOW, PROCESS, RULES, RUNNING, row
from tests.reconcile.test_observe import CONTEXT, Reads

CELLS = Credentials("cells", Secret("of-the-private-registry"))
ROBOT = Credentials("robot", Secret("pw"))
TEXT = "registry.example.com/team/app:1"
DROPLET = DropletRecord(
    DropletGuid("droplet-1"),
    APP,
    None,
    original=TEXT,
    username="robot",
    cache_guid=GUID,
    registry="cache.example:8080",
    target=str(RULES.cache.image(GUID)),
    phase=DropletPhase.PATCHED,
    reason=Reason.DROPLET_PATCHED,
    created_at=NOW - 60,
    updated_at=NOW - 60,
    rounds=1,
)
DESIRED = replace(
    LRP,
    process_guid=ProcessGuid("another-process-guid-of-the-app"),
    rootfs=RULES.cache.rootfs(GUID),
    credentials=ROBOT,
)
"""What Cloud Controller desires from the droplet: the copy, with the login of the source."""
WITH_LOGIN = replace(CONTEXT, pull_credentials=CELLS)


@dataclass
class Pulls:
    """What canaries have shown of logins that are not those of cells."""

    problem: str | None = None
    asked: list[tuple[frozenset[str], str]] = field(default_factory=list)

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        self.asked.append((placement_tags, username))
        return self.problem


@pytest.mark.parametrize("phase", [each for each in DropletPhase if each is not DropletPhase.LEFT])
def test_the_record_of_its_droplet_has_its_source_and_the_lrp_has_the_login(phase: DropletPhase) -> None:
    source = source_of_droplet(DESIRED, GUID, [replace(DROPLET, phase=phase)], CELLS)

    assert source == OriginalSource(
        DESIRED.process_guid, GUID, LRP.rootfs, needs_credentials=True, credentials=ROBOT
    )


@pytest.mark.parametrize(
    "record",
    [
        replace(DROPLET, phase=DropletPhase.LEFT, rounds=0),
        replace(DROPLET, cache_guid=CacheGuid("another")),
        replace(DROPLET, cache_guid=None),
    ],
    ids=["nobody wrote it", "it names another copy", "it names none"],
)
def test_a_droplet_that_this_program_did_not_make_name_the_copy_says_nothing(record: DropletRecord) -> None:
    assert source_of_droplet(DESIRED, GUID, [record], CELLS) is None


def test_a_droplet_that_was_left_after_it_named_the_copy_says_it_still() -> None:
    left = replace(DROPLET, phase=DropletPhase.LEFT, rounds=MAX_ROUNDS)

    assert source_of_droplet(DESIRED, GUID, [left], CELLS) is not None


def test_a_public_source_needs_no_login() -> None:
    public = replace(DESIRED, credentials=None)

    source = source_of_droplet(public, GUID, [replace(DROPLET, username="")], CELLS)

    assert source is not None
    assert (source.needs_credentials, source.credentials) == (False, None)


def test_of_two_droplets_with_one_copy_that_of_the_login_counts() -> None:
    other = replace(DROPLET, original="hub.example/other:1", username="somebody")

    source = source_of_droplet(DESIRED, GUID, [other, DROPLET], CELLS)

    assert source is not None
    assert source.rootfs == LRP.rootfs


def test_the_image_of_a_revision_comes_with_the_login_of_the_current_droplet() -> None:
    """Cloud Controller would desire both together from the source, too."""
    current = replace(DROPLET, cache_guid=CacheGuid("another"))
    former = replace(DROPLET, username="former-robot")

    source = source_of_droplet(DESIRED, GUID, [current, former], CELLS)

    assert source is not None
    assert source.credentials == ROBOT


@pytest.mark.parametrize(
    ("login", "username"),
    [
        (CELLS, "robot"),
        (Credentials("cells", Secret("former")), "robot"),
        (Credentials("former-cells", Secret("former")), "robot"),
        (CELLS, "cells"),
    ],
    ids=["the present one", "a former one", "one of another user", "the name of which the source has too"],
)
def test_the_login_of_cells_is_never_taken_for_that_of_the_source(login: Credentials, username: str) -> None:
    """As when the database was lost after the LRP had got it."""
    given = replace(DESIRED, credentials=login)

    source = source_of_droplet(given, GUID, [replace(DROPLET, username=username)], CELLS)

    assert source is not None
    assert (source.needs_credentials, source.credentials) == (True, None)


def test_a_text_that_cloud_controller_refuses_is_nothing_to_go_back_to() -> None:
    assert source_of_droplet(DESIRED, GUID, [replace(DROPLET, original="https://a/b")], CELLS) is None


async def observed(reads: Reads, context: PassContext = WITH_LOGIN) -> Observed:
    return await observe(PROCESS, reads.facts(), context)


class TestObservation:
    def reads(self, lrp: DesiredLrp = DESIRED, source: OriginalSource | None = None) -> Reads:
        return Reads(lrp=lrp, copy=KnownCopy(), original_source=source, droplets=(DROPLET,))

    async def test_an_unknown_source_is_found_by_the_app(self) -> None:
        reads = self.reads()

        seen = await observed(reads)

        assert reads.read[3:6] == [f"original source {PROCESS}", f"image {GUID}", f"droplets {APP}"]
        assert seen.original_source is not None
        assert (seen.original_source.rootfs, seen.is_source_found) == (LRP.rootfs, True)
        assert seen.has_source_login

    async def test_one_that_names_no_app_is_nobodys(self) -> None:
        seen = await observed(self.reads(replace(DESIRED, app_guid=AppGuid(""))))

        assert (seen.original_source, seen.has_source_login) == (None, False)

    async def test_what_is_saved_is_not_found_again(self) -> None:
        saved = OriginalSource(PROCESS, GUID, Rootfs("docker:///saved#1"), True, ROBOT)

        seen = await observed(self.reads(source=saved))

        assert (seen.original_source, seen.is_source_found, seen.has_source_login) == (saved, False, True)

    @pytest.mark.parametrize("username", ["robot", "somebody"])
    async def test_a_login_that_was_not_saved_is_found_in_the_lrp(self, username: str) -> None:
        """As when `rebuild` has found the source beside the copy; but no login that may be another's."""
        saved = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=None)
        reads = self.reads(replace(DESIRED, process_guid=PROCESS), saved)
        reads.droplets = (replace(DROPLET, username=username),)

        seen = await observed(reads)

        is_known = username == "robot"
        assert seen.is_source_found is is_known
        assert seen.original_source == replace(saved, credentials=ROBOT if is_known else None)

    async def test_an_lrp_with_the_login_of_cells_whose_source_is_known_costs_no_query(self) -> None:
        saved = OriginalSource(PROCESS, GUID, LRP.rootfs, True, ROBOT)
        reads = self.reads(replace(DESIRED, credentials=CELLS), saved)

        seen = await observed(reads)

        assert f"droplets {APP}" not in reads.read
        assert not seen.has_source_login

    async def test_the_source_of_another_copy_is_replaced(self) -> None:
        """The app's droplet names another copy by now, and the sync desired the LRP anew."""
        former = OriginalSource(PROCESS, CacheGuid("former"), Rootfs("docker:///former#1"), False, None)

        seen = await observed(self.reads(source=former))

        assert seen.original_source is not None
        assert (seen.original_source.rootfs, seen.is_source_found) == (LRP.rootfs, True)

    @pytest.mark.parametrize(("problem", "can_pull"), [(None, True), ("nobody knows", False)])
    async def test_canaries_say_whether_cells_can_pull_with_its_login(
        self,
        problem: str | None,
        can_pull: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        pulls = Pulls(problem)

        seen = await observed(self.reads(), replace(WITH_LOGIN, droplet_pulls=pulls))

        assert seen.can_pull_with_own_login is can_pull
        assert pulls.asked == [(LRP.placement_tags, "robot")]

    async def test_one_from_a_former_registry_goes_to_its_true_source(self) -> None:
        former = CacheRepositories("former.example:8080")
        cache = replace(RULES.cache, former=(former,))
        reads = self.reads(replace(DESIRED, rootfs=former.rootfs(GUID)))

        seen = await observed(reads, replace(WITH_LOGIN, cache=cache))

        assert seen.original_source is not None
        assert seen.original_source.credentials == ROBOT
        assert seen.is_source_found
        assert seen.former_copy is not None
        assert seen.former_copy.is_of_app
        assert (str(seen.source), seen.source_credentials) == (TEXT, ROBOT)


FROM_DROPLET = Observed(
    PROCESS,
    now=NOW,
    process_age=1000.0,
    run_id="run-1",
    lrp=replace(DESIRED, process_guid=PROCESS),
    current_copy=IMAGE,
    instances=(RUNNING,),
    original_source=OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=ROBOT),
    has_source_login=True,
    can_pull_with_own_login=True,
)
GIVING = replace(BRIDGING, pull_credentials=CELLS)


class TestLogin:
    @pytest.mark.parametrize("rules", [GIVING, BRIDGING], ids=["cells have one", "cells need none"])
    @pytest.mark.parametrize("stores_logins", [None, True])
    def test_it_is_brought_in_line_in_place(
        self,
        rules: Rules,
        stores_logins: bool | None,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        action = decide(replace(FROM_DROPLET, stores_logins=stores_logins), rules)

        assert isinstance(action, UpdateLogin)
        assert action.credentials == rules.pull_credentials

    def test_no_app_is_migrated_for_it(self) -> None:
        action = decide(replace(FROM_DROPLET, stores_logins=False), GIVING)

        assert isinstance(action, Skip)
        assert (action.reason, action.reason.state) == (Reason.ALREADY_CACHED, AppState.CACHED)
        assert "login of its source" in action.detail

    @pytest.mark.parametrize(("can_pull", "how"), [(True, Strategy.UPDATE), (False, Strategy.BRIDGE)])
    def test_a_plan_says_so(self, can_pull: bool, how: Strategy) -> None:  # noqa: FBT001 - a parameter
        observed = replace(FROM_DROPLET, order=Order(Goal.CACHE, since=NOW), can_pull_with_own_login=can_pull)
        assert observed.lrp is not None

        planned = plan_lrp(observed, observed.lrp, planned_action(observed, GIVING), GIVING)

        assert isinstance(planned, PlannedMigration)
        assert (planned.strategy, planned.reason) == (how, Reason.LOGIN_OUTDATED)

    def test_where_cells_are_not_known_to_pull_with_it_it_is_migrated_after_all(self) -> None:
        unproven = replace(FROM_DROPLET, stores_logins=False, can_pull_with_own_login=False)

        action = decide(unproven, GIVING)

        assert isinstance(action, BeginMigration)
        assert (action.renews_login, action.strategy) == (True, Strategy.BRIDGE)

    def test_a_login_that_could_not_be_kept_is_left_where_it_is(self) -> None:
        """Without a journal key it would be lost, and with it the way back."""
        lost = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=None)

        action = decide(replace(FROM_DROPLET, original_source=lost), GIVING)

        assert isinstance(action, Skip)
        assert action.reason is Reason.ALREADY_CACHED

    def test_a_copy_that_is_named_by_somebody_else_gets_no_login(self) -> None:
        foreign = replace(FROM_DROPLET, original_source=None, has_source_login=False)

        assert decide(foreign, GIVING) == Skip(Reason.FOREIGN_LOGIN)


def starting(since: float | None) -> Observed:
    """Let it be desired, and its cell pull; since some time it was seen not to run."""
    record = (
        None
        if since is None
        else LrpRecord(
            PROCESS,
            APP,
            str(DESIRED.rootfs),
            None,
            rounds=0,
            reason=Reason.NOT_RUNNING,
            updated_at=since,
        )
    )
    return replace(
        FROM_DROPLET,
        lrp=replace(DESIRED, process_guid=PROCESS, credentials=CELLS),
        instances=(row(ActualLrpState.CLAIMED),),
        has_source_login=False,
        record=record,
    )


class TestProbation:
    """It was not migrated, and must start from its copy all the same, or it goes back."""

    def test_it_is_not_called_cached_before_it_runs(self) -> None:
        assert decide(starting(None), GIVING) == Skip(Reason.NOT_RUNNING, retry_after=1.0)
        assert decide(starting(NOW - 8), GIVING) == Skip(Reason.NOT_RUNNING, retry_after=8.0)
        assert decide(starting(NOW - 250), GIVING) == Skip(Reason.NOT_RUNNING, retry_after=20.0)
        running = replace(starting(NOW - 250), instances=(RUNNING,))
        assert decide(running, GIVING) == Skip(Reason.ALREADY_CACHED)

    def test_it_goes_back_when_no_cell_says_anything_for_too_long(self) -> None:
        action = decide(starting(NOW - GIVING.limits.start), GIVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy) == (Goal.SOURCE, Strategy.RECREATE)
        assert action.reason is action.ended is Reason.NOT_STARTED

    def test_it_goes_back_at_the_first_failed_pull(self) -> None:
        action = decide(replace(starting(None), instances=(crashed(UNREACHABLE),)), GIVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.ended) == (Goal.SOURCE, Reason.NOT_PULLED)

    def test_one_that_has_run_is_not_on_probation_again(self) -> None:
        """A cell that is replaced starts its instances anew, and its image may be large."""
        known = starting(NOW - 1000)
        assert known.record is not None
        known = replace(known, record=replace(known.record, reason=Reason.ALREADY_CACHED))

        assert decide(known, GIVING) == Skip(Reason.ALREADY_CACHED)

    @pytest.mark.parametrize(
        "instances",
        [(), (crashed(EXITED),), (replace(row(ActualLrpState.UNCLAIMED), placement_error="no room"),)],
        ids=["none is there", "it ends by itself", "no cell takes it"],
    )
    def test_what_its_source_would_not_mend_is_no_reason(self, instances: tuple[()]) -> None:
        late = replace(starting(NOW - 1000), instances=instances)

        assert decide(late, GIVING) == Skip(Reason.ALREADY_CACHED)

    def test_a_clock_that_was_set_back_ends_nothing(self) -> None:
        assert decide(starting(NOW + 1000), GIVING) == Skip(Reason.NOT_RUNNING, retry_after=1.0)


class TestRestore:
    ORDER = Order(Goal.SOURCE, since=NOW - 100)

    def reverted(self, rounds: int) -> Observed:
        record = LrpRecord(
            PROCESS,
            APP,
            str(DESIRED.rootfs),
            None,
            rounds=rounds,
            reason=Reason.CHANGED_BY_CLOUD_CONTROLLER,
            updated_at=NOW - 1,
        )
        return replace(FROM_DROPLET, order=self.ORDER, record=record)

    def test_an_order_brings_it_to_its_source(self) -> None:
        action = decide(replace(FROM_DROPLET, order=self.ORDER), GIVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.rounds, action.reason) == (Goal.SOURCE, 1, Reason.RESTORE_REQUESTED)

    def test_a_registry_that_does_not_answer_brings_it_there_too(self) -> None:
        action = decide(replace(FROM_DROPLET, is_restoring=True), GIVING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.reason) == (Goal.SOURCE, Reason.REGISTRY_UNREACHABLE)

    def test_it_is_tried_again_when_its_owner_was_faster_and_left_after_three_rounds(self) -> None:
        """Its droplet names the copy still, and Cloud Controller's sync has missed the LRP each time."""
        again = decide(self.reverted(MAX_ROUNDS - 1), GIVING)
        left = decide(self.reverted(MAX_ROUNDS), GIVING)

        assert isinstance(again, BeginMigration)
        assert again.rounds == MAX_ROUNDS
        assert isinstance(left, Skip)
        assert (left.reason, left.reason.state) == (Reason.REVERTED_EXTERNALLY, AppState.FAILED)

    def test_another_order_begins_anew(self) -> None:
        anew = replace(self.reverted(MAX_ROUNDS), order=replace(self.ORDER, since=NOW))

        action = decide(anew, GIVING)

        assert isinstance(action, BeginMigration)
        assert action.rounds == 1

    def test_one_that_cells_cannot_pull_goes_back_however_often_its_owner_was_faster(self) -> None:
        lrp = replace(DESIRED, process_guid=PROCESS, credentials=CELLS)
        failing = replace(self.reverted(MAX_ROUNDS), order=None, lrp=lrp, instances=(crashed(UNREACHABLE),))

        assert isinstance(decide(failing, GIVING), BeginMigration)
