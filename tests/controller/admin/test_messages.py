"""Values of the admin API on the wire, and plans that come back from there."""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admin import messages, plan_messages
from controller.admin.apply_run import ApplyEvent
from controller.admin.copies import CopyStatus, ReadBackResult
from controller.admin.grpc_status import BadRequest
from controller.admin.listing import AppRow
from controller.admin.plan_messages import messages_from_plan, plan_from_messages
from controller.admin.planner import PlanCriteria
from controller.admin.reason_names import REASON_NAMES
from controller.engines.progress import CopyProgress
from protos.admin import admin_pb2 as pb
from reconcile.copying_ports import SourceContent
from reconcile.droplet_plan import (
    DropletChange,
    DropletPlan,
    DropletSubject,
    PlannedDroplet,
    SkippedDroplet,
)
from reconcile.droplets import DropletGuid, DropletPhase
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.plan import Plan, PlannedCopy, PlannedMigration, Skipped, Subject, subject_of
from reconcile.reasons import AppState, Reason
from reconcile.records import MAX_ATTEMPTS, AuditEntry, JobState
from reconcile.references import CacheGuid, Digest, Rootfs, parse_image_reference
from reconcile.selection import Owner, Selection
from tests.reconcile.test_decide import DIGEST, GUID, IMAGE, JOB, LRP, NOW, PROCESS, RULES, SOURCE, TAGGED

CACHE = RULES.cache
OTHER = parse_image_reference("docker.io/library/nginx:latest")
MOVE = PlannedMigration(subject_of(TAGGED), None, SOURCE, Strategy.BRIDGE, 2, 1, Reason.NOT_CACHED)
PROPOSAL = Plan(
    Goal.CACHE,
    CACHE.address,
    NOW,
    copies=(PlannedCopy(SOURCE, 1, SourceContent(DIGEST, 0, {}), missing_bytes=5, requests=3),),
    migrations=(MOVE,),
    skipped=(Skipped(subject_of(LRP), Reason.PINNED_TO_SOURCE, "why"),),
    considered=2,
)


class TestNames:
    @pytest.mark.parametrize(
        ("enum", "prefix", "words"),
        [
            (pb.AppState, "APP_STATE", AppState),
            (pb.JobState, "JOB_STATE", JobState),
            (pb.Goal, "GOAL", Goal),
            (pb.Strategy, "STRATEGY", Strategy),
            (pb.Phase, "PHASE", Phase),
            (pb.CopyStatus, "COPY_STATUS", CopyStatus),
            (pb.DropletPhase, "DROPLET_PHASE", DropletPhase),
            (pb.DropletChange, "DROPLET_CHANGE", DropletChange),
        ],
        ids=["AppState", "JobState", "Goal", "Strategy", "Phase", "CopyStatus", "DropletPhase", "Change"],
    )
    def test_the_wire_has_exactly_the_programs_words(
        self, enum: Any, prefix: str, words: Iterable[StrEnum]
    ) -> None:
        names = {f"{prefix}_{str(word).upper().replace('-', '_')}" for word in words}

        assert set(enum.keys()) == names | {f"{prefix}_UNSPECIFIED"}

    def test_the_wire_has_exactly_the_reasons_that_have_a_meaning(self) -> None:
        """Appended with the next number: numbers that were given never change."""
        assert set(pb.Reason.keys()) == set(REASON_NAMES.values()) | {"REASON_UNSPECIFIED"}

    def test_no_two_reasons_share_a_name(self) -> None:
        assert len(set(REASON_NAMES.values())) == len(Reason)


guids = st.text(min_size=1, max_size=5)
counts = st.integers(0, 2**63 - 1)
references = st.sampled_from([SOURCE, OTHER, OTHER.at(DIGEST), parse_image_reference("localhost:5000/a/b:t")])
rootfses = st.sampled_from(["docker:///library/nginx#latest", "docker://r.example/a@sha256#00", "x"]).map(
    Rootfs
)
contents = st.builds(
    SourceContent,
    st.sampled_from([DIGEST, Digest("sha512", "0" * 128)]),
    documents=st.just(0),
    blobs=st.just({}),
)
copies = st.builds(
    PlannedCopy,
    references,
    lrps=counts,
    content=st.none() | contents,
    missing_bytes=counts,
    requests=counts,
    problem=st.text(),
)
subjects = st.builds(
    Subject,
    guids.map(ProcessGuid),
    st.text().map(AppGuid),
    st.builds(Owner, st.text(), st.text(), st.text()),
    rootfses,
)
migrations = st.builds(
    PlannedMigration,
    subjects,
    st.none() | rootfses,
    st.none() | references,
    st.sampled_from(Strategy),
    instances=counts,
    running=counts,
    reason=st.sampled_from(list(Reason)),
)
droplet_subjects = st.builds(
    DropletSubject,
    guids.map(DropletGuid),
    st.text().map(AppGuid),
    st.builds(Owner, st.text(), st.text(), st.text()),
    st.sampled_from(["registry.example/team/web:7", "web", "cache.internal:5000/x:latest"]),
    is_newest=st.booleans(),
    is_running=st.booleans(),
)
changes = st.builds(
    PlannedDroplet,
    droplet_subjects,
    st.sampled_from(DropletChange),
    st.none() | st.sampled_from(["web", "cache.internal:5000/x:latest"]),
    st.sampled_from(list(Reason)),
    st.none() | references,
    st.booleans(),
)
droplet_plans = st.builds(
    DropletPlan,
    st.lists(changes, max_size=3, unique_by=lambda each: each.subject.droplet_guid).map(tuple),
    st.lists(
        st.builds(SkippedDroplet, droplet_subjects, st.sampled_from(list(Reason)), st.text()), max_size=2
    ).map(tuple),
    counts,
    st.lists(st.text(), max_size=2).map(tuple),
)
proposals = st.builds(
    Plan,
    droplets=droplet_plans,
    goal=st.sampled_from(Goal),
    cache=st.text(),
    made_at=st.floats(0, 2**33),
    copies=st.lists(copies, max_size=3).map(tuple),
    migrations=st.lists(migrations, max_size=3, unique_by=lambda move: move.subject.process_guid).map(tuple),
    skipped=st.lists(st.builds(Skipped, subjects, st.sampled_from(list(Reason)), st.text()), max_size=3).map(
        tuple
    ),
    considered=counts,
    problems=st.lists(st.text(), max_size=2).map(tuple),
    obstacles=st.lists(st.text(), max_size=2).map(tuple),
)


class TestPlan:
    @given(proposal=proposals)
    def test_a_plan_comes_back_as_it_was_made_apart_from_what_is_left_alone(self, proposal: Plan) -> None:
        sent = [entry.SerializeToString() for entry in messages_from_plan(proposal)]

        read = plan_from_messages(map(pb.PlanEntry.FromString, sent))

        assert read == replace(proposal, skipped=(), droplets=replace(proposal.droplets, skipped=()))

    def test_of_what_a_copy_consists_of_its_digest_comes_back(self) -> None:
        """The rest was for people, and is in the numbers beside it."""
        content = SourceContent(DIGEST, 2, {Digest("sha256", "b" * 64): 7})
        made = replace(PROPOSAL, copies=(PlannedCopy(SOURCE, 1, content, 7, 4),))

        (copy,) = plan_from_messages(messages_from_plan(made)).copies

        assert copy == PlannedCopy(SOURCE, 1, SourceContent(DIGEST, 0, {}), 7, 4)

    def test_a_login_in_a_rootfs_is_not_written(self) -> None:
        subject = replace(MOVE.subject, rootfs=Rootfs("docker://robot:marker-pw@r.example/app#1"))
        made = replace(
            PROPOSAL,
            migrations=(replace(MOVE, subject=subject),),
            skipped=(Skipped(subject, Reason.PINNED_TO_SOURCE),),
        )

        sent = b"".join(entry.SerializeToString() for entry in messages_from_plan(made))

        assert b"r.example/app#1" in sent
        assert b"marker-pw" not in sent

    def test_what_is_left_alone_is_written_with_its_state(self) -> None:
        (entry,) = [each for each in messages_from_plan(PROPOSAL) if each.HasField("skipped")]

        assert entry.skipped == pb.SkippedLrp(
            process_guid=PROCESS,
            app_guid="app-1",
            rootfs=str(LRP.rootfs),
            state="APP_STATE_SKIPPED",
            reason="REASON_PINNED_TO_SOURCE",
            detail="why",
        )

    def test_its_end_comes_last(self) -> None:
        kinds = [entry.WhichOneof("entry") for entry in messages_from_plan(PROPOSAL)]

        assert kinds == ["copy", "migration", "skipped", "end"]

    def test_a_plan_that_does_not_say_where_it_leads_is_refused(self) -> None:
        with pytest.raises(BadRequest, match="where it leads"):
            plan_from_messages([pb.PlanEntry(end=pb.PlanEnd())])


def entries(**changes: pb.PlanEntry) -> list[pb.PlanEntry]:
    kept = {each.WhichOneof("entry") or "": each for each in messages_from_plan(PROPOSAL)}
    return list({**kept, **changes}.values())


def move(**fields: Any) -> pb.PlanEntry:
    (made,) = [each for each in messages_from_plan(PROPOSAL) if each.HasField("migration")]
    made.migration.MergeFrom(pb.PlannedMigration(**fields))
    return made


def move_without(field: str) -> pb.PlanEntry:
    made = move()
    made.migration.ClearField(field)
    return made


END = pb.PlanEntry(end=pb.PlanEnd())
REFUSED = {
    "cut before its end": (entries()[:-1], "plan-cut"),
    "empty": ([], "plan-cut"),
    "going on after its end": ([*entries(), move(process_guid="p-2")], "plan-after-end"),
    "with a second end": ([*entries(), END], "plan-after-end"),
    "with an LRP twice": ([move(), *entries()], "plan-unreadable"),
    "with an empty entry": ([pb.PlanEntry(), *entries()], "plan-unreadable"),
    "with a migration of nothing": (entries(migration=move_without("process_guid")), "plan-unreadable"),
    "with a move that does not say how": (entries(migration=move_without("strategy")), "plan-unreadable"),
    "with a move of a newer program": (entries(migration=move(strategy=9999)), "plan-unreadable"),
    "with a move that waits for no image": (entries(migration=move(copy="UPPER case")), "plan-unreadable"),
    "with a copy of no image": (
        entries(copy=pb.PlanEntry(copy=pb.PlannedCopy(source="a b"))),
        "plan-unreadable",
    ),
    "with a copy of no digest": (
        entries(copy=pb.PlanEntry(copy=pb.PlannedCopy(source="nginx", known=True, platform_digest="x"))),
        "plan-unreadable",
    ),
}


@pytest.mark.parametrize(("sent", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_whole_plan_is_refused(sent: list[pb.PlanEntry], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        plan_from_messages(sent)

    assert caught.value.code == code


@given(proposal=proposals, at=st.integers(0, 20))
def test_a_plan_that_was_cut_anywhere_is_refused(proposal: Plan, at: int) -> None:
    sent = list(messages_from_plan(proposal))
    cut = sent[: at % len(sent)]

    with pytest.raises(BadRequest) as caught:
        plan_from_messages(cut)

    assert caught.value.code == "plan-cut"


class TestQuestions:
    def test_a_filter_is_read_list_by_list(self) -> None:
        message = pb.Filter(
            orgs=["o"], spaces=["s"], apps=["a", "b"], images=["docker.io/*"], process_guids=["p"]
        )

        assert messages.selection_from_message(message) == Selection(
            ("o",), ("s",), ("a", "b"), ("docker.io/*",), ("p",)
        )

    def test_a_filter_that_can_match_nothing_is_refused(self) -> None:
        with pytest.raises(BadRequest) as caught:
            messages.selection_from_message(pb.Filter(images=["nginx"]))

        assert caught.value.code == "bad-pattern"

    def test_a_plan_that_says_nothing_is_about_everything_that_has_no_copy_yet(self) -> None:
        assert plan_messages.criteria_from_message(pb.PlanRequest()) == PlanCriteria()

    def test_a_plan_says_what_it_is_about(self) -> None:
        request = pb.PlanRequest(
            filter=pb.Filter(orgs=["o"]),
            goal="GOAL_SOURCE",
            strategy="STRATEGY_BRIDGE",
            only_cached=True,
            include_pinned=True,
        )

        assert plan_messages.criteria_from_message(request) == PlanCriteria(
            Selection(("o",)), Goal.SOURCE, Strategy.BRIDGE, only_cached=True, include_pinned=True
        )

    def test_states_are_read_and_those_of_a_newer_client_left_out(self) -> None:
        numbers = [pb.JOB_STATE_FAILED, pb.JOB_STATE_UNSPECIFIED, 9999, pb.JOB_STATE_QUEUED]

        assert set(messages.job_states_from_numbers(numbers)) == {JobState.FAILED, JobState.QUEUED}
        assert messages.app_states_from_numbers([pb.APP_STATE_SKIPPED]) == (AppState.SKIPPED,)


class TestAnswers:
    def test_an_app_is_written_with_its_owner_and_state(self) -> None:
        row = AppRow(TAGGED, CACHE.rootfs(GUID), Reason.BRIDGING, "why", running=1)

        assert messages.app_message(row, Owner("acme", "prod", "web")) == pb.App(
            process_guid=PROCESS,
            app_guid="app-1",
            app_name="web",
            space_name="prod",
            org_name="acme",
            rootfs=str(TAGGED.rootfs),
            to_rootfs=CACHE.rootfs(GUID).uri,
            state="APP_STATE_MIGRATING",
            reason="REASON_BRIDGING",
            detail="why",
            instances=2,
            running=1,
        )

    def test_an_image_is_written_with_where_it_lies(self) -> None:
        assert messages.image_message(IMAGE, CACHE) == pb.CachedImage(
            cache_guid=GUID,
            source=str(SOURCE),
            url=f"cache.example:8080/{GUID}:latest",
            root_digest=str(DIGEST),
            platform_digest=str(DIGEST),
            digest=str(DIGEST),
            bytes=1,
            created_at=NOW,
            verified_at=NOW,
        )

    def test_an_image_is_written_with_the_further_repositories_that_have_shown_it(self) -> None:
        sources = (SOURCE.repository, "evil.example/a", "other.example/b")

        written = messages.image_message(IMAGE, CACHE, sources)

        assert list(written.further_sources) == ["evil.example/a", "other.example/b"]

    @pytest.mark.parametrize("status", list(CopyStatus))
    def test_a_copy_that_was_read_back_is_written_with_what_that_has_shown(self, status: CopyStatus) -> None:
        result = ReadBackResult(status, "" if status is CopyStatus.OK else "why")

        assert messages.verified_message(IMAGE, result, done=1, total=2) == pb.VerifiedCopy(
            cache_guid=GUID,
            source=str(SOURCE),
            status=f"COPY_STATUS_{status.upper()}",
            error=result.error,
            bytes=1,
            done=1,
            total=2,
        )

    def test_a_job_that_has_no_copy_yet_has_neither_guid_nor_url(self) -> None:
        job = replace(JOB, state=JobState.QUEUED, cache_guid=None, not_before=NOW + 5, failure="x: y")

        message = messages.job_message(job, CACHE)

        assert (message.state, message.next_attempt_at, message.error) == (
            pb.JOB_STATE_QUEUED,
            NOW + 5,
            "x: y",
        )
        assert message.max_attempts == MAX_ATTEMPTS
        assert (message.cache_guid, message.url, message.HasField("progress")) == ("", "", False)

    def test_a_job_that_copies_tells_how_far_it_is(self) -> None:
        message = messages.job_message(
            JOB, CACHE, CopyProgress(total=10, transferred=4, skipped=3, retries=1)
        )

        assert message.url == f"cache.example:8080/{GUID}:latest"
        assert message.progress == pb.CopyProgress(
            total_bytes=10, transferred_bytes=4, skipped_bytes=3, retries=1
        )

    def test_a_migration_is_written_with_its_app_and_without_its_definition(self) -> None:
        row = Migration(
            PROCESS,
            CacheGuid(GUID),
            Phase.BRIDGED,
            TAGGED,
            rounds=2,
            run_id="run-1",
            started_at=NOW,
            strategy=Strategy.BRIDGE,
            entered_at=NOW + 1,
        )

        assert messages.migration_message(row) == pb.Migration(
            process_guid=PROCESS,
            app_guid="app-1",
            app_name="web",
            cache_guid=GUID,
            goal="GOAL_CACHE",
            strategy="STRATEGY_BRIDGE",
            phase="PHASE_BRIDGED",
            rounds=2,
            started_at=NOW,
            entered_at=NOW + 1,
            from_rootfs=str(TAGGED.rootfs),
        )

    def test_an_entry_of_the_audit_is_written_whole(self) -> None:
        entry = AuditEntry(NOW, "CN=ops", "Evict", "{}", "done")

        assert messages.audit_message(entry) == pb.AuditEntry(
            at=NOW, caller="CN=ops", call="Evict", arguments="{}", outcome="done"
        )

    @pytest.mark.parametrize(
        ("reason", "is_over", "state"),
        [
            (Reason.WAITING_FOR_COPY, False, pb.MIGRATION_STATE_COPYING),
            (Reason.IN_FLIGHT_LIMIT, False, pb.MIGRATION_STATE_WAITING),
            (Reason.BRIDGING, False, pb.MIGRATION_STATE_MIGRATING),
            (Reason.CHANGED_BY_CLOUD_CONTROLLER, False, pb.MIGRATION_STATE_MIGRATING),
            (Reason.MIGRATED, True, pb.MIGRATION_STATE_DONE),
            (Reason.ALREADY_CACHED, True, pb.MIGRATION_STATE_DONE),
            (Reason.RESTORED, True, pb.MIGRATION_STATE_DONE),
            (Reason.PLAN_IS_STALE, True, pb.MIGRATION_STATE_SKIPPED),
            (Reason.CIRCUIT_BREAKER_OPEN, True, pb.MIGRATION_STATE_SKIPPED),
            (Reason.BRIDGE_CRASHED, True, pb.MIGRATION_STATE_FAILED),
        ],
    )
    def test_what_becomes_of_an_lrp_is_told_by_its_reason(
        self,
        reason: Reason,
        is_over: bool,  # noqa: FBT001 - a parameter of pytest
        state: pb.MigrationState,
    ) -> None:
        goal = Goal.SOURCE if reason is Reason.RESTORED else Goal.CACHE
        event = ApplyEvent(MOVE, goal, reason, "why", is_over=is_over, done=1, total=2)

        assert messages.event_message(event) == pb.ApplyEvent(
            process_guid=PROCESS,
            app_guid=MOVE.subject.app_guid,
            app_name="web",
            state=state,
            reason=REASON_NAMES[reason],
            detail="why",
            done=1,
            total=2,
        )

    @given(reason=st.sampled_from(list(Reason)), is_over=st.booleans())
    def test_news_of_any_reason_can_be_written(self, reason: Reason, is_over: bool) -> None:  # noqa: FBT001
        assert messages.event_message(ApplyEvent(MOVE, Goal.CACHE, reason, "", is_over, 0, 1)).state != 0

    def test_to_run_from_the_copy_is_no_success_on_the_way_back(self) -> None:
        event = ApplyEvent(MOVE, Goal.SOURCE, Reason.ALREADY_CACHED, "", is_over=True, done=1, total=1)

        assert messages.event_message(event).state == pb.MIGRATION_STATE_SKIPPED
