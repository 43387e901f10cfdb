"""What carrying out an action does, in which order, and what is written before it.

Passes over a simulated BBS, with a real store, are tested in `controller/test_reconciler`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from reconcile.actions import Action, BeginMigration, Continue, UpdateLogin
from reconcile.apply import ActionPorts, Outcome, apply
from reconcile.bridges import BRIDGE_DOMAIN, bridge_of
from reconcile.copying_ports import ImageEngine, Verifier
from reconcile.errors import Conflict, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.facts import Coverage, Facts, OverrideFacts, RecordFacts
from reconcile.failure_spread import Cause
from reconcile.lrps import ActualLrp, Credentials, DesiredLrp, ModificationTag, ProcessGuid, Pull, Secret
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed
from reconcile.orders import Order
from reconcile.ports import CacheRequests
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CacheRequest, JobId, JobState
from reconcile.references import CacheGuid, Rootfs
from reconcile.start_failures import Blame, StartFailure, start_failure
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    Step,
    TurnBack,
    UpdateBridge,
    UpdateRoutes,
)
from tests.reconcile.protocol_samples import (
    CLAIMED,
    CRASHED,
    EXITED,
    LIMITS,
    NEW,
    NO_SUCH_COPY,
    ON_COPY,
    OURS,
    ROUTES,
    SOURCE,
    SSH,
    TARGET,
    UNCLAIMED,
    UNREACHABLE,
    crashed,
    instance,
    row,
    turned_back,
)
from tests.reconcile.test_decide import GUID, IMAGE, LRP, NOW, PROCESS, READY, RULES

SEGMENT = frozenset({"segment-1"})
REFUSED = StartFailure(Blame.REGISTRY, "connection refused")
RECREATED = row(Phase.STARTING, strategy=Strategy.RECREATE)


@dataclass
class Ports:
    """The BBS, the journal and the rest, as far as actions reach them; every effect is noted in its order.

    Attributes:
        refusals: Raised by the next calls of a name.
    """

    lrp: DesiredLrp | None = LRP
    instances: tuple[ActualLrp, ...] = ()
    migration: Migration | None = None
    has_image: bool = True
    stores_logins: bool = True
    done: list[object] = field(default_factory=list)
    refusals: dict[str, DockerCacheError] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)

    @property
    def ports(self) -> ActionPorts:
        return ActionPorts(
            lrps=self,
            logins=self,
            bridges=self,
            instances=self,
            journal=self,
            original_sources=self,
            images=self,
            engine=cast("ImageEngine", self),
            verifier=cast("Verifier", self),
            requests=cast("CacheRequests", self),
            pulls=self,
            cache=RULES.cache,
            limits=LIMITS,
        )

    @property
    def facts(self) -> Facts:
        records, overrides = cast("RecordFacts", self), cast("OverrideFacts", self)
        return Facts(self, records, coverage=cast("Coverage", self), overrides=overrides, migrations=self)

    def _do(self, name: str, *what: object) -> None:
        self.done.append((name, *what))
        refusal = self.refusals.pop(name, None)
        if refusal is not None:
            raise refusal

    # The BBS

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        return self.lrp if process_guid == PROCESS else None

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        return self.instances if process_guid == PROCESS else ()

    async def list_domains(self) -> frozenset[str]:
        return frozenset()

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        return ()

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        self._do("remove", process_guid)

    async def desire_lrp(self, lrp: DesiredLrp, rootfs: Rootfs, credentials: Credentials | None) -> None:
        self._do("desire", lrp.process_guid, Pull(rootfs, credentials))

    async def desire_another(
        self, lrp: DesiredLrp, process_guid: ProcessGuid, domain: str, pull: Pull, *, instances: int
    ) -> None:
        self._do("desire another", lrp, process_guid, domain, pull, instances)

    async def update_routes(self, process_guid: ProcessGuid, routes: Mapping[str, bytes]) -> None:
        self._do("routes", process_guid, routes)

    async def update_from(self, process_guid: ProcessGuid, lrp: DesiredLrp) -> None:
        self._do("update", process_guid, lrp)

    async def update_credentials(self, process_guid: ProcessGuid, credentials: Credentials | None) -> None:
        self._do("login", process_guid, credentials)
        if self.lrp is not None and self.stores_logins:
            self.lrp = replace(self.lrp, credentials=credentials)

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        self._do("domain", domain)

    async def retire_actual_lrp(self, process_guid: ProcessGuid, *, index: int, domain: str) -> None:
        self._do("retire", index)

    # The store

    @property
    def is_durable(self) -> bool:
        return True

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        return self.migration

    async def list_migrations(self) -> tuple[Migration, ...]:
        return ()

    async def list_undecryptable(self) -> tuple[Invalid, ...]:
        return ()

    async def save_migration(self, migration: Migration) -> None:
        self.migration = migration
        self._do("save", migration.phase, migration.goal)

    async def delete_migration(self, process_guid: ProcessGuid, stale: frozenset[str] = frozenset()) -> None:
        self.migration = None
        self._do("delete")

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        return None

    async def save_original_source(self, original_source: OriginalSource) -> None:
        self._do("save source", original_source.rootfs)

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        return IMAGE if self.has_image else None

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        self._do("mark", cache_guid, at)

    async def is_present(self, target: object, digest: object) -> bool:
        return True

    # Evidence

    def why_not(self, placement_tags: frozenset[str]) -> str | None:
        return None

    def is_refuted(self, placement_tags: frozenset[str]) -> bool:
        return False

    def note_failure(
        self, cell_id: str, placement_tags: frozenset[str], failure: StartFailure, *, cause: Cause
    ) -> None:
        self._do("failure", cell_id, placement_tags, failure.blame)

    def note_success(self, cell_id: str, placement_tags: frozenset[str]) -> None:
        self._do("success", cell_id, placement_tags)

    # Observation

    def observed(self, before: Migration | None = None) -> Observed:
        return replace(READY, lrp=self.lrp, instances=self.instances, migration=before)

    async def carry_out(self, action: Action, before: Migration | None = None) -> Outcome:
        return await apply(action, self.observed(before), self.facts, self.ports)

    async def take(self, step: Step, target: Pull = TARGET, *, before: Migration | None = None) -> Outcome:
        """Take a step of a migration whose row was read before."""
        return await self.carry_out(Continue(step, target), before)

    @property
    def names(self) -> list[str]:
        return [cast("tuple[str]", each)[0] for each in self.done]


class TestTurningBack:
    """An LRP that does not start from its copy."""

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.BRIDGING])
    async def test_a_removed_one_or_one_with_a_bridge_to_wait_for_has_its_row_written_alone(
        self, phase: Phase
    ) -> None:
        ports = Ports(lrp=ON_COPY)

        outcome = await ports.take(TurnBack(turned_back(phase)))

        assert ports.done == [("save", phase, Goal.SOURCE)]
        assert (outcome.retry_after, outcome.ended) == (0.0, None)

    async def test_another_one_is_removed_after_the_row_says_that_it_goes_back(self) -> None:
        ports = Ports(lrp=ON_COPY, instances=(crashed(UNREACHABLE),))
        back = turned_back(Phase.STARTING, strategy=Strategy.RECREATE)

        outcome = await ports.take(TurnBack(back, REFUSED), before=RECREATED)

        assert ports.done == [
            ("failure", "", frozenset(), Blame.REGISTRY),
            ("save", Phase.REMOVING, Goal.SOURCE),
            ("remove", PROCESS),
            ("save", Phase.REMOVED, Goal.SOURCE),
        ]
        assert ports.migration is not None
        assert ports.migration.way_back == SOURCE
        assert outcome.reason is Reason.REMOVED

    async def test_one_whose_instance_runs_after_all_stays_as_its_row_was(self) -> None:
        ports = Ports(lrp=ON_COPY, instances=NEW[:1])

        outcome = await ports.take(
            TurnBack(turned_back(Phase.STARTING, strategy=Strategy.RECREATE)), before=RECREATED
        )

        assert "remove" not in ports.names
        assert ports.migration == RECREATED
        assert outcome.reason is Reason.INSTANCES_CHANGED

    async def test_a_failed_pull_is_evidence_for_cells_with_its_placement_tags(self) -> None:
        ports = Ports(lrp=None)
        back = turned_back(Phase.REMOVED, original=replace(LRP, placement_tags=SEGMENT))

        await ports.take(TurnBack(back, REFUSED))

        assert ports.done[0] == ("failure", "", SEGMENT, Blame.REGISTRY)

    @pytest.mark.parametrize("blame", [Blame.PROCESS, Blame.APP])
    async def test_a_failure_of_something_else_is_none(self, blame: Blame) -> None:
        ports = Ports(lrp=None)

        await ports.take(TurnBack(turned_back(Phase.REMOVED), StartFailure(blame, "why")))

        assert "failure" not in ports.names

    @pytest.mark.parametrize(
        ("ended", "is_suspect"),
        [
            (Reason.COPY_NOT_PULLED, True),
            (Reason.NOT_STARTED, True),
            (Reason.IMAGE_NOT_STARTED, True),
            (Reason.NOT_PULLED, False),
            (Reason.RESTORED, False),
        ],
    )
    async def test_a_copy_that_may_be_the_cause_is_read_back_before_it_is_used_again(
        self,
        ended: Reason,
        is_suspect: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        ports = Ports(lrp=None)

        await ports.take(TurnBack(turned_back(Phase.REMOVED, ended=ended)))

        assert (("mark", GUID, NOW) in ports.done) == is_suspect

    async def test_it_is_desired_from_its_source_with_the_login_of_that(self) -> None:
        ports = Ports(lrp=None)

        await ports.take(DesireOriginal(turned_back(Phase.REMOVED)), SOURCE)

        assert ports.done == [
            ("desire", PROCESS, SOURCE),
            ("save", Phase.STARTING, Goal.SOURCE),  # whoever removes it from now on is its owner
        ]


class TestRemoval:
    async def test_the_row_is_written_before_and_after(self) -> None:
        ports = Ports(instances=(instance(0, CLAIMED, guid="a"),))
        prepared = row(Phase.PREPARED, strategy=Strategy.RECREATE)

        await ports.take(RemoveOriginal(prepared), before=prepared)

        assert ports.names == ["save", "remove", "save"]
        assert ports.migration is not None
        assert ports.migration.instance_guids == {"a"}
        assert ports.migration.unknown_until == 0.0

    async def test_a_lost_answer_leaves_the_row_that_says_so(self) -> None:
        ports = Ports(refusals={"remove": Unavailable("bbs", "timeout", "no answer", may_have_happened=True)})
        prepared = row(Phase.PREPARED, strategy=Strategy.RECREATE)

        outcome = await ports.take(RemoveOriginal(prepared), before=prepared)

        assert outcome.reason is Reason.REMOVAL_UNCONFIRMED
        assert ports.migration is not None
        assert (ports.migration.phase, ports.migration.unknown_until) == (
            Phase.REMOVING,
            NOW + LIMITS.unknown,
        )

    async def test_one_that_its_owner_removed_first_is_not_desired_again(self) -> None:
        ports = Ports(refusals={"remove": NotFound("bbs", "ResourceNotFound", "gone")})
        prepared = row(Phase.PREPARED, strategy=Strategy.RECREATE)

        outcome = await ports.take(RemoveOriginal(prepared), before=prepared)

        assert outcome.reason is Reason.REMOVED_BY_OWNER
        assert ports.migration == prepared


class TestRetiring:
    async def test_that_they_are_retired_is_written_before_they_are(self) -> None:
        """Otherwise a process that dies in between asks cells again and again."""
        ports = Ports()
        written = row(Phase.STARTING, retired_at=NOW)

        outcome = await ports.take(RetireInstances(OURS, migration=written))

        assert ports.done == [("save", Phase.STARTING, Goal.CACHE), ("retire", 0), ("retire", 1)]
        assert ports.migration == written
        assert (outcome.reason, outcome.retry_after) == (Reason.INSTANCES_STOPPING, LONGEST_RETRY)

    async def test_rows_without_a_container_are_gone_at_once(self) -> None:
        rows = (instance(0, UNCLAIMED), instance(1, CRASHED))

        outcome = await Ports().take(RetireInstances(rows))

        assert (outcome.retry_after, outcome.detail) == (SHORTEST_RETRY, "")

    async def test_without_an_open_migration_no_row_is_written(self) -> None:
        ports = Ports()

        await ports.carry_out(RetireInstances(OURS, Reason.RETIRED_STALE_INSTANCES))

        assert ports.names == ["retire", "retire"]

    async def test_what_is_gone_by_itself_is_fine(self) -> None:
        ports = Ports(refusals={"retire": NotFound("bbs", "ResourceNotFound", "gone")})

        await ports.take(RetireInstances(OURS))

        assert ports.names == ["retire", "retire"]


class TestBridge:
    ROW = row(Phase.REMOVED, is_stopgap=True)

    async def test_it_is_desired_in_a_fresh_domain_with_as_many_instances_as_the_step_says(self) -> None:
        ports = Ports(lrp=None)

        outcome = await ports.take(DesireBridge(self.ROW, 3))

        bridge = ("desire another", LRP, bridge_of(PROCESS), BRIDGE_DOMAIN, TARGET, 3)
        assert ports.done == [("domain", BRIDGE_DOMAIN), bridge]
        assert outcome.retry_after == SHORTEST_RETRY

    async def test_one_that_is_there_already_is_fine(self) -> None:
        ports = Ports(refusals={"desire another": Conflict("bbs", "ResourceExists", "there")})

        assert (await ports.take(DesireBridge(self.ROW, 3))).reason is Reason.BRIDGING

    async def test_it_is_given_instances_and_routes(self) -> None:
        ports = Ports(refusals={"update": NotFound("bbs", "ResourceNotFound", "gone")})
        drained = replace(LRP, routes={"diego-ssh": ROUTES["diego-ssh"]})

        outcome = await ports.take(UpdateBridge(self.ROW, drained, Reason.DRAINING_BRIDGE))

        assert ports.done == [("update", bridge_of(PROCESS), drained)]
        assert outcome.reason is Reason.DRAINING_BRIDGE

    async def test_it_is_removed(self) -> None:
        ports = Ports(refusals={"remove": NotFound("bbs", "ResourceNotFound", "gone")})

        assert (await ports.take(RemoveBridge(self.ROW))).reason is Reason.REMOVING_BRIDGE
        assert ports.done == [("remove", bridge_of(PROCESS))]

    async def test_a_wait_does_nothing(self) -> None:
        ports = Ports()

        assert await ports.take(RetryLater(Reason.DRAINING_BRIDGE, 1.5)) == Outcome(
            Reason.DRAINING_BRIDGE, retry_after=1.5
        )
        assert ports.done == []

    async def test_a_row_is_written_and_observed_again_at_once(self) -> None:
        ports = Ports()

        outcome = await ports.take(Enter(self.ROW))

        assert ports.migration == self.ROW
        assert (outcome.reason, outcome.retry_after) == (Reason.REMOVED, 0.0)


class TestRoutesOfTheOriginal:
    async def test_that_they_were_taken_is_written_before_they_are(self) -> None:
        """Otherwise what is left of them would pass for what the owner wants."""
        ports = Ports()
        sent = row(Phase.BRIDGED, drain_sent_at=NOW)

        outcome = await ports.take(UpdateRoutes(sent, SSH, Reason.DRAINING_ORIGINAL))

        assert ports.done == [("save", Phase.BRIDGED, Goal.CACHE), ("routes", PROCESS, SSH)]
        assert (outcome.reason, outcome.retry_after) == (Reason.DRAINING_ORIGINAL, SHORTEST_RETRY)

    async def test_an_lrp_that_is_gone_needs_none(self) -> None:
        ports = Ports(refusals={"routes": NotFound("bbs", "ResourceNotFound", "gone")})

        outcome = await ports.take(UpdateRoutes(row(Phase.BRIDGED), SSH, Reason.DRAINING_ORIGINAL))

        assert outcome.reason is Reason.DRAINING_ORIGINAL


class TestTheEnd:
    async def test_a_bridge_that_cells_could_not_pull_is_evidence_when_it_is_given_up(self) -> None:
        ports = Ports()
        given_up = row(Phase.REMOVING_BRIDGE, ended=Reason.NOT_PULLED)

        await ports.take(Enter(given_up, REFUSED))

        assert ports.names == ["failure", "save"]

    async def test_cells_that_run_it_from_its_copy_are_proven(self) -> None:
        segment = row(
            Phase.REMOVING_BRIDGE,
            original=replace(LRP, placement_tags=SEGMENT),
            instance_guids=frozenset({"a"}),
        )
        ports = Ports(lrp=ON_COPY, instances=(*NEW, OURS[0], instance(3, CLAIMED)))

        outcome = await ports.take(Close(segment, Reason.MIGRATED))

        assert ports.done == [("success", "cell", SEGMENT), ("success", "cell", SEGMENT), ("delete",)]
        assert (outcome.cache_guid, outcome.retry_after, outcome.ended) == (GUID, None, segment)

    @pytest.mark.parametrize(
        ("reason", "is_on_copy"),
        [
            (Reason.PROCESS_EXITED, True),
            (Reason.NO_ROOM, True),
            (Reason.NO_INSTANCES, True),
            (Reason.NOT_PULLED, False),
            (Reason.RESTORED, False),
            (Reason.BRIDGE_CRASHED, False),
        ],
    )
    async def test_the_outcome_says_whether_it_is_desired_from_its_copy_and_why(
        self,
        reason: Reason,
        is_on_copy: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        ports = Ports()
        ended = row(Phase.STARTING, detail="why")

        outcome = await ports.take(Close(ended, reason))

        assert outcome.detail == "why"
        assert outcome.cache_guid == (GUID if is_on_copy else None)
        assert outcome.retry_after == (None if is_on_copy else 0.0)
        assert "success" not in ports.names

    async def test_an_order_that_was_given_meanwhile_is_looked_at_next(self) -> None:
        ports = Ports(lrp=ON_COPY, instances=NEW)
        observed = replace(ports.observed(), order=Order(Goal.SOURCE, since=NOW))

        outcome = await apply(
            Continue(Close(row(Phase.STARTING), Reason.MIGRATED), TARGET), observed, ports.facts, ports.ports
        )

        assert outcome.retry_after == 0.0

    @pytest.mark.parametrize(
        ("reason", "goal", "is_suspect"),
        [
            (Reason.BRIDGE_CRASHED, Goal.CACHE, True),
            (Reason.PROCESS_EXITED, Goal.CACHE, True),
            (Reason.BRIDGE_CRASHED, Goal.SOURCE, False),
            (Reason.MIGRATED, Goal.CACHE, False),
            (Reason.NO_ROOM, Goal.CACHE, False),
        ],
    )
    async def test_a_copy_that_instances_crashed_from_needs_verification(
        self,
        reason: Reason,
        goal: Goal,
        is_suspect: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        ports = Ports()

        await ports.take(Close(row(Phase.STARTING, goal=goal), reason))

        assert (("mark", GUID, NOW) in ports.done) == is_suspect

    @pytest.mark.parametrize(
        ("reason", "rounds"), [(Reason.CANCELLED, 1), (Reason.NOT_PULLED, 2), (Reason.MIGRATED, 2)]
    )
    async def test_what_was_cancelled_is_no_round(self, reason: Reason, rounds: int) -> None:
        outcome = await Ports().take(Close(row(Phase.STARTING, rounds=2), reason))

        assert outcome.rounds == rounds


class TestDesiringAgain:
    async def test_an_owner_who_was_faster_is_no_failure(self) -> None:
        ports = Ports(lrp=None, refusals={"desire": Conflict("bbs", "ResourceExists", "there")})

        outcome = await ports.take(DesireOriginal(row(Phase.REMOVED)))

        assert outcome.reason is Reason.CHANGED_BY_CLOUD_CONTROLLER

    async def test_a_definition_that_the_bbs_refuses_comes_back_from_its_old_rootfs(self) -> None:
        ports = Ports(lrp=None, refusals={"desire": Invalid("bbs", "InvalidRequest", "no")})
        removed = row(Phase.REMOVED)

        outcome = await ports.take(DesireOriginal(removed), before=removed)

        assert ports.done[:2] == [("desire", PROCESS, TARGET), ("desire", PROCESS, SOURCE)]
        assert ports.migration is not None
        assert ports.migration.ended is Reason.BBS_REFUSED_DEFINITION
        assert outcome.reason is Reason.STARTING

    async def test_without_a_bridge_the_migration_ends_with_it(self) -> None:
        ports = Ports(lrp=None, refusals={"desire": Invalid("bbs", "InvalidRequest", "no")})
        removed = row(Phase.REMOVED, strategy=Strategy.RECREATE)

        outcome = await ports.take(DesireOriginal(removed), before=removed)

        assert (outcome.reason, outcome.detail) == (Reason.BBS_REFUSED_DEFINITION, "no")
        assert ports.migration is None


class TestBeginning:
    SOURCE = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)

    async def test_what_the_lrp_ran_from_is_kept_before_it_is_removed(self) -> None:
        ports = Ports()

        outcome = await ports.carry_out(BeginMigration(LRP, IMAGE, 1))

        assert ports.names == ["save", "save source", "save", "remove", "save"]
        assert outcome.reason is Reason.REMOVED

    @pytest.mark.parametrize(
        ("text", "ended", "marks"),
        [
            (UNREACHABLE, Reason.NOT_PULLED, []),
            (NO_SUCH_COPY, Reason.COPY_NOT_PULLED, [("mark", GUID, NOW)]),
        ],
        ids=["registry", "copy"],
    )
    async def test_one_that_is_put_back_has_its_source_in_its_row_and_is_evidence(
        self, text: str, ended: Reason, marks: list[object]
    ) -> None:
        ports = Ports(lrp=ON_COPY, instances=(crashed(text),))
        failure = start_failure(text)
        assert failure is not None
        action = BeginMigration(ON_COPY, None, 1, Goal.SOURCE, reason=ended, ended=ended, detail="why")
        observed = replace(ports.observed(), original_source=self.SOURCE)

        await apply(action, observed, ports.facts, ports.ports)

        assert ports.done[1:-3] == [("failure", "", frozenset(), failure.blame), *marks]
        assert ports.names[-3:] == ["save", "remove", "save"]
        assert ports.migration is not None
        assert (ports.migration.way_back, ports.migration.ended, ports.migration.detail) == (
            SOURCE,
            ended,
            "why",
        )

    async def test_one_that_an_operator_restores_is_not_turned_back(self) -> None:
        ports = Ports(lrp=ON_COPY)
        action = BeginMigration(ON_COPY, None, 1, Goal.SOURCE, reason=Reason.RESTORE_REQUESTED)
        observed = replace(ports.observed(), original_source=self.SOURCE)

        await apply(action, observed, ports.facts, ports.ports)

        assert "failure" not in ports.names
        assert ports.migration is not None
        assert not ports.migration.is_turned_back


FORMER, PRESENT = Credentials("cells", Secret("former")), Credentials("cells", Secret("present"))
WITH_FORMER = replace(ON_COPY, credentials=FORMER)
FIRST_SOURCE = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)


class TestUpdatingALogin:
    """Only reading it back shows whether a BBS stores a login that is updated in place."""

    async def update(self, ports: Ports, action_ports: ActionPorts) -> Outcome:
        observed = replace(ports.observed(), lrp=WITH_FORMER, original_source=FIRST_SOURCE)
        return await apply(UpdateLogin(WITH_FORMER, PRESENT), observed, ports.facts, action_ports)

    @pytest.mark.parametrize("stores", [True, False])
    async def test_what_is_read_back_is_remembered(self, stores: bool) -> None:  # noqa: FBT001 - a parameter
        ports = Ports(lrp=WITH_FORMER, stores_logins=stores)
        action_ports = ports.ports

        outcome = await self.update(ports, action_ports)

        assert action_ports.login_storage.is_stored is stores
        assert ports.done == [("login", PROCESS, PRESENT)]
        if stores:
            assert (outcome.reason, outcome.retry_after) == (Reason.LOGIN_UPDATED, None)
        else:
            assert (outcome.reason, outcome.retry_after) == (Reason.LOGIN_OUTDATED, 0.0)

    async def test_instances_that_were_refused_are_started_soon(self) -> None:
        ports = Ports(lrp=WITH_FORMER, instances=(crashed(UNREACHABLE), instance(1), crashed(EXITED, 2)))

        await self.update(ports, ports.ports)

        assert ports.done[1:] == [("retire", 0)]

    async def test_an_instance_that_was_refused_and_runs_meanwhile_is_left_alone(self) -> None:
        ports = Ports(lrp=WITH_FORMER, instances=(instance(0),))
        observed = replace(
            ports.observed(),
            lrp=WITH_FORMER,
            original_source=FIRST_SOURCE,
            instances=(crashed(UNREACHABLE),),
        )

        await apply(UpdateLogin(WITH_FORMER, PRESENT), observed, ports.facts, ports.ports)

        assert ports.done == [("login", PROCESS, PRESENT)]

    async def test_an_lrp_that_is_gone_meanwhile_shows_nothing_of_the_bbs(self) -> None:
        ports = Ports(lrp=WITH_FORMER, refusals={"login": NotFound("bbs", "ResourceNotFound", "gone")})
        action_ports = ports.ports

        outcome = await self.update(ports, action_ports)

        assert outcome.reason is Reason.NOT_DESIRED
        assert action_ports.login_storage.is_stored is None

    async def test_one_that_its_owner_desired_from_its_source_meanwhile_gets_its_own_login_back(self) -> None:
        """Otherwise its cells would offer the login of the private registry to that source."""
        ports = Ports(lrp=replace(LRP, tag=ModificationTag("epoch-9", 0)))
        action_ports = ports.ports

        outcome = await self.update(ports, action_ports)

        assert ports.done == [("login", PROCESS, PRESENT), ("login", PROCESS, LRP.credentials)]
        assert action_ports.login_storage.is_stored is None
        assert outcome.retry_after == 0.0


class TestRenewingALoginByAMigration:
    ACTION = BeginMigration(
        WITH_FORMER, IMAGE, 1, strategy=Strategy.BRIDGE, reason=Reason.LOGIN_OUTDATED, renews_login=True
    )

    async def test_its_source_stays_as_it_is_known(self) -> None:
        ports = Ports(lrp=WITH_FORMER)

        await ports.carry_out(self.ACTION)

        assert ports.migration is not None
        assert ports.migration.renews_login
        assert "save source" not in ports.names

    async def test_a_copy_that_has_vanished_is_not_requested_with_the_login_of_the_private_registry(
        self,
    ) -> None:
        ports = Ports(lrp=WITH_FORMER, has_image=False)
        asked = list[CacheRequest]()

        class Requests:
            async def request(self, request: CacheRequest) -> CacheJob:
                asked.append(request)
                return CacheJob(JobId("j"), request.source, JobState.QUEUED, request.reason, 0.0, 0.0)

        observed = replace(ports.observed(), binding=None, current_copy=IMAGE, original_source=FIRST_SOURCE)
        await apply(self.ACTION, observed, ports.facts, replace(ports.ports, requests=Requests()))

        assert [(each.source, each.credentials) for each in asked] == [(IMAGE.source, LRP.credentials)]
        assert ports.migration is None
