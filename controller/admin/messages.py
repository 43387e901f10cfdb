"""Values of the admin API to protobuf and back."""

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from controller.admin.applier import News
from controller.admin.errors import BadRequest
from controller.admin.listing import AppRow
from controller.admin.planner import Wanted
from controller.admin.reason_names import REASON_NAMES, named
from controller.cacher import Progress
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid
from reconcile.images import CacheRepositories, ImageReference, Rootfs, parse_digest, parse_image_reference
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.ports import SourceContent
from reconcile.proposal import PlannedCopy, PlannedMove, Proposal, Subject, Unmoved
from reconcile.reasons import AppState, state_of
from reconcile.records import (
    AuditEntry,
    CachedImage,
    CacheJob,
    Goal,
    JobState,
    Phase,
    Replacement,
    Strategy,
)
from reconcile.selection import Owner, Selection, owner_of

APP_STATE_NAMES = MappingProxyType({state: named("APP_STATE", state) for state in AppState})
JOB_STATE_NAMES = MappingProxyType({state: named("JOB_STATE", state) for state in JobState})
GOAL_NAMES = MappingProxyType({goal: named("GOAL", goal) for goal in Goal})
STRATEGY_NAMES = MappingProxyType({each: named("STRATEGY", each) for each in Strategy})
PHASE_NAMES = MappingProxyType({phase: named("PHASE", phase) for phase in Phase})

_REASONS = {pb.Reason.Value(name): reason for reason, name in REASON_NAMES.items()}
_GOALS = {pb.Goal.Value(name): goal for goal, name in GOAL_NAMES.items()}
_STRATEGIES = {pb.Strategy.Value(name): strategy for strategy, name in STRATEGY_NAMES.items()}


def selection_from_message(message: pb.Filter) -> Selection:
    """Read which LRPs a call is about.

    Raises:
        BadRequest: A glob can match nothing.
    """
    try:
        return Selection(
            tuple(message.orgs),
            tuple(message.spaces),
            tuple(message.apps),
            tuple(message.images),
            tuple(message.process_guids),
        )
    except Invalid as error:
        raise BadRequest(error.code, error.detail) from error


def wanted_from_message(message: pb.PlanRequest) -> Wanted:
    """Read what a plan is to be about; without a goal it leads to the copies."""
    return Wanted(
        selection=selection_from_message(message.filter),
        goal=Goal.SOURCE if message.goal == pb.GOAL_SOURCE else Goal.CACHE,
        strategy=_STRATEGIES.get(message.strategy),
        only_cached=message.only_cached,
        include_held=message.include_held,
    )


def job_states_from_numbers(numbers: Iterable[int]) -> tuple[JobState, ...]:
    """Read states of jobs."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in JOB_STATE_NAMES.items() if pb.JobState.Value(name) in wanted)


def app_states_from_numbers(numbers: Iterable[int]) -> tuple[AppState, ...]:
    """Read states of apps."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in APP_STATE_NAMES.items() if pb.AppState.Value(name) in wanted)


def app_message(row: AppRow, owner: Owner) -> pb.App:
    """Write one Docker LRP."""
    return pb.App(
        process_guid=row.lrp.process_guid,
        app_guid=row.lrp.app_guid,
        app_name=owner.app,
        space_name=owner.space,
        org_name=owner.org,
        rootfs=str(row.lrp.rootfs),
        wanted_rootfs="" if row.wanted is None else str(row.wanted),
        state=APP_STATE_NAMES[row.state],
        reason=REASON_NAMES[row.reason],
        detail=row.detail,
        instances=row.lrp.instances,
        running=row.running,
    )


def image_message(
    image: CachedImage, cache: CacheRepositories, users: Iterable[ProcessGuid] = ()
) -> pb.CachedImage:
    """Write a finished copy."""
    return pb.CachedImage(
        cache_guid=image.cache_guid,
        source=str(image.source),
        url=str(cache.image(image.cache_guid)),
        root_digest=str(image.root_digest),
        platform_digest=str(image.platform_digest),
        digest=str(image.digest),
        bytes=image.size,
        created_at=image.created_at,
        verified_at=image.verified_at,
        suspect_since=image.suspect_since,
        process_guids=list(users),
    )


def job_message(job: CacheJob, cache: CacheRepositories, progress: Progress | None = None) -> pb.Job:
    """Write a cache job."""
    message = pb.Job(
        job_id=job.job_id,
        source=str(job.source),
        state=JOB_STATE_NAMES[job.state],
        reason=job.reason,
        attempts=job.attempts,
        not_before=job.not_before or 0.0,
        failure=job.failure,
        cache_guid=job.cache_guid or "",
        url="" if job.cache_guid is None else str(cache.image(job.cache_guid)),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
    if progress is not None:
        message.progress.total_bytes = progress.total
        message.progress.moved_bytes = progress.moved
        message.progress.skipped_bytes = progress.skipped
        message.progress.retries = progress.retries
    return message


def replacement_message(replacement: Replacement) -> pb.Replacement:
    """Write an open replacement."""
    return pb.Replacement(
        process_guid=replacement.process_guid,
        app_guid=replacement.original.app_guid,
        app_name=owner_of(replacement.original).app,
        cache_guid=replacement.cache_guid,
        goal=GOAL_NAMES[replacement.goal],
        strategy=STRATEGY_NAMES[replacement.strategy],
        phase=PHASE_NAMES[replacement.phase],
        rounds=replacement.rounds,
        started_at=replacement.started_at,
        entered_at=replacement.entered_at,
        from_rootfs=str(replacement.original.rootfs),
    )


def audit_message(entry: AuditEntry) -> pb.AuditEntry:
    """Write an entry of the audit."""
    return pb.AuditEntry(
        at=entry.at,
        caller=entry.caller,
        call=entry.call,
        arguments=entry.arguments,
        outcome=entry.outcome,
    )


def messages_from_proposal(proposal: Proposal) -> Iterator[pb.PlanEntry]:
    """Write a plan: copies, moves, what is left alone, and its end."""
    for copy in proposal.copies:
        yield pb.PlanEntry(copy=_copy_message(copy))
    for move in proposal.moves:
        yield pb.PlanEntry(move=_move_message(move))
    for subject in proposal.holds:
        yield pb.PlanEntry(hold=_hold_message(subject))
    for each in proposal.unmoved:
        yield pb.PlanEntry(left_alone=_unmoved_message(each))
    yield pb.PlanEntry(
        end=pb.PlanEnd(
            goal=GOAL_NAMES[proposal.goal],
            made_at=proposal.made_at,
            looked_at=proposal.looked_at,
            problems=list(proposal.problems),
            cache_registry=proposal.cache,
        )
    )


def _copy_message(copy: PlannedCopy) -> pb.PlannedCopy:
    content = copy.content
    return pb.PlannedCopy(
        source=str(copy.source),
        registry=copy.source.domain,
        known=content is not None,
        bytes=copy.missing_bytes,
        requests=copy.requests,
        platform_digest="" if content is None else str(content.platform_digest),
        problem=copy.problem,
        lrps=copy.lrps,
    )


def _move_message(move: PlannedMove) -> pb.PlannedMove:
    subject = move.subject
    return pb.PlannedMove(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        from_rootfs=str(subject.rootfs),
        to_rootfs="" if move.to_rootfs is None else str(move.to_rootfs),
        copy="" if move.copy is None else str(move.copy),
        strategy=STRATEGY_NAMES[move.strategy],
        instances=move.instances,
        running=move.running,
        reason=REASON_NAMES[move.reason],
        held=move.is_held,
    )


def _hold_message(subject: Subject) -> pb.PlannedHold:
    return pb.PlannedHold(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        rootfs=str(subject.rootfs),
    )


def _unmoved_message(each: Unmoved) -> pb.LeftAlone:
    subject = each.subject
    return pb.LeftAlone(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        rootfs=str(subject.rootfs),
        state=APP_STATE_NAMES[state_of(each.reason)],
        reason=REASON_NAMES[each.reason],
        detail=each.detail,
    )


def proposal_from_messages(entries: Iterable[pb.PlanEntry]) -> Proposal:
    """Read a plan that is to be applied; what it leaves alone does not matter for that.

    Raises:
        BadRequest: It is cut, goes on after its end, or holds what no plan holds.
    """
    whole = tuple(entries)
    end = _end_of(whole)
    moves = tuple(_move_from_message(entry.move) for entry in whole if entry.HasField("move"))
    if len({move.subject.process_guid for move in moves}) < len(moves):
        raise BadRequest("plan-unreadable", "the plan has an LRP twice")
    return Proposal(
        goal=_GOALS[end.goal],
        cache=end.cache_registry,
        made_at=end.made_at,
        copies=tuple(_copy_from_message(entry.copy) for entry in whole if entry.HasField("copy")),
        moves=moves,
        holds=tuple(_hold_from_message(entry.hold) for entry in whole if entry.HasField("hold")),
        looked_at=end.looked_at,
        problems=tuple(end.problems),
    )


def _end_of(entries: Sequence[pb.PlanEntry]) -> pb.PlanEnd:
    """Find the end of a plan, which is its last entry and says where it leads."""
    kinds = [entry.WhichOneof("entry") for entry in entries]
    if None in kinds:
        raise BadRequest("plan-unreadable", "the plan has an empty entry")
    if "end" not in kinds:
        raise BadRequest("plan-cut", "the plan has no end: it was cut, make a new one")
    if kinds.index("end") < len(kinds) - 1:
        raise BadRequest("plan-after-end", "the plan goes on after its end")
    end = entries[-1].end
    if end.goal not in _GOALS:
        raise BadRequest("plan-unreadable", "the plan does not say where it leads")
    return end


def _copy_from_message(message: pb.PlannedCopy) -> PlannedCopy:
    try:
        source = parse_image_reference(message.source)
        digest = parse_digest(message.platform_digest) if message.known else None
    except Invalid as error:
        raise BadRequest("plan-unreadable", error.detail) from error
    content = None if digest is None else SourceContent(digest, 0, {})
    return PlannedCopy(source, message.lrps, content, message.bytes, message.requests, message.problem)


def _move_from_message(message: pb.PlannedMove) -> PlannedMove:
    if not message.process_guid or message.strategy not in _STRATEGIES:
        raise BadRequest("plan-unreadable", f"a move has no LRP or no strategy: {message.process_guid!r}")
    return PlannedMove(
        subject=Subject(
            ProcessGuid(message.process_guid),
            AppGuid(message.app_guid),
            Owner(message.org_name, message.space_name, message.app_name),
            Rootfs(message.from_rootfs),
        ),
        to_rootfs=Rootfs(message.to_rootfs) if message.to_rootfs else None,
        copy=_reference(message.copy) if message.copy else None,
        strategy=_STRATEGIES[message.strategy],
        instances=message.instances,
        running=message.running,
        reason=_REASONS.get(message.reason, ""),
        is_held=message.held,
    )


def _hold_from_message(message: pb.PlannedHold) -> Subject:
    owner = Owner(message.org_name, message.space_name, message.app_name)
    return Subject(
        ProcessGuid(message.process_guid), AppGuid(message.app_guid), owner, Rootfs(message.rootfs)
    )


def _reference(text: str) -> ImageReference:
    try:
        return parse_image_reference(text)
    except Invalid as error:
        raise BadRequest("plan-unreadable", error.detail) from error


def news_message(news: News) -> pb.Progress:
    """Write what became of an LRP by now."""
    return pb.Progress(
        process_guid=news.move.subject.process_guid,
        app_name=news.move.subject.owner.app,
        state=_move_state(news),
        reason=REASON_NAMES[news.reason],
        detail=news.detail,
        done=news.done,
        total=news.total,
    )


def _move_state(news: News) -> pb.MoveState:
    state = state_of(news.reason)
    if not news.is_over:
        if news.reason == "waiting: caching":
            return pb.MOVE_STATE_COPYING
        return pb.MOVE_STATE_MOVING if state is AppState.MOVING else pb.MOVE_STATE_WAITING
    if not news.has_failed:
        return pb.MOVE_STATE_DONE
    return pb.MOVE_STATE_FAILED if state is AppState.FAILED else pb.MOVE_STATE_LEFT
