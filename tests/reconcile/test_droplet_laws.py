"""What holds for every decision about a droplet, whatever is observed of it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from reconcile.droplet_actions import (
    Leave,
    ObservedDroplet,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_decisions import MOST_SAVES, decide_droplet, predict_droplet_action
from reconcile.droplet_outcomes import after_answer, after_leaving
from reconcile.droplet_texts import check_text, image_of_text
from reconcile.droplets import Droplet, DropletOrder, DropletPhase, DropletRecord
from reconcile.known_records import StagedCopy
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.records import CachedImage, JobState, requester_of_droplet
from tests.examples import examples
from tests.reconcile.droplet_samples import (
    ADDRESS,
    BINDING,
    BUILD,
    DROPLET,
    FORMER,
    FORMER_TARGET,
    IMAGE,
    JOB,
    ORIGINAL,
    OTHER,
    OTHER_GUID,
    PUSHED,
    RULES,
    SOURCE,
    TARGET,
    droplet,
    record,
)
from tests.reconcile.test_decide import NOW

USUAL, RARE = (
    [ORIGINAL, TARGET, FORMER_TARGET],
    [OTHER, f"{ADDRESS}/{OTHER_GUID}:latest", f"{ADDRESS}/team/app:1"],
)
texts = st.sampled_from([*USUAL * 3, *RARE, "Bad", None])
rarely = st.sampled_from([False] * 5 + [True])
times = st.sampled_from([0.0, NOW - 4000, NOW - 30, NOW, NOW + 30, NOW + 1e9])
images = st.builds(
    lambda registry, missing, lost, needs: replace(
        IMAGE,
        registry=registry,
        missing_since=NOW if missing else 0.0,
        lost_since=NOW if missing and lost else 0.0,
        needs_verification_since=NOW if needs else 0.0,
    ),
    st.sampled_from([ADDRESS, ADDRESS, FORMER, ""]),
    *[rarely] * 3,
)


@st.composite
def records(draw: st.DrawFn) -> DropletRecord:
    is_written = draw(st.booleans())
    known = replace(
        record(draw(st.sampled_from(DropletPhase)), reason=draw(st.sampled_from(Reason))),
        registry=draw(st.sampled_from([ADDRESS, FORMER])),
        target=draw(st.sampled_from([TARGET, FORMER_TARGET])),
        attempts=draw(st.integers(0, 40)),
        rounds=draw(st.integers(0, 5)),
        not_before=draw(times),
        updated_at=draw(times),
    )
    if is_written:
        return known
    return replace(known, phase=DropletPhase.LEFT, original=ORIGINAL, target="", registry="", cache_guid=None)


@st.composite
def observations(draw: st.DrawFn) -> ObservedDroplet:
    text = draw(texts)
    shown: Droplet | None = replace(
        droplet(text, state="EXPIRED" if draw(rarely) else "STAGED"),
        created_at=draw(times),
        package_guid=draw(st.sampled_from([None, PUSHED.guid])),
    )
    job = replace(
        JOB, state=draw(st.sampled_from([JobState.CACHED] * 4 + list(JobState))), updated_at=draw(times)
    )
    binding = replace(
        BINDING,
        requester=draw(st.sampled_from([BINDING.requester, requester_of_droplet(DROPLET), "task:other"])),
        source=draw(st.sampled_from([SOURCE, SOURCE, image_of_text(OTHER) or SOURCE])),
    )
    copy: CachedImage | None = draw(images | images | images | st.none())
    has_binding = not draw(rarely)
    return ObservedDroplet(
        DROPLET,
        NOW,
        None if draw(rarely) else shown,
        draw(st.none() | records() | records()),
        build_guid=draw(st.sampled_from([BUILD, None])),
        binding=binding if has_binding else None,
        job=job if has_binding else None,
        image=copy if job.state is JobState.CACHED else None,
        newest=None if copy is None else StagedCopy(binding, copy),
        current_copy=draw(images | images | st.none()),
        has_current_reference=draw(st.booleans()),
        package=draw(st.sampled_from([None, PUSHED, replace(PUSHED, image=TARGET)])),
        siblings=draw(st.sampled_from([(), (record(),)])),
        username=draw(st.sampled_from(["", "robot"])),
        order=draw(st.builds(DropletOrder, st.sampled_from(Goal), times)) if draw(rarely) else None,
        is_pinned=draw(rarely),
        is_paused=draw(rarely),
        is_restoring=draw(rarely),
        obstacle=Leave(Reason.DROPLET_PULLS_NOT_PROVEN) if draw(rarely) else None,
    )


@given(observations())
@settings(max_examples=examples(gate=60, long=300))
def test_a_text_is_written_only_where_it_may_be(observed: ObservedDroplet) -> None:
    action = decide_droplet(observed, RULES)
    if not isinstance(action, PatchDroplet | RestoreDroplet):
        return
    shown = observed.droplet
    assert shown is not None
    assert shown.is_staged
    check_text(action.text)
    named = image_of_text(shown.image)
    assert named is not None
    original = image_of_text(action.record.original)
    assert original is not None
    assert not RULES.cache.owns(original), "what it named at first is no URL of ours"
    assert RULES.cache.owns(named) or named == original, "nobody else has written another image"
    if isinstance(action, PatchDroplet):
        image = action.image
        assert RULES.cache.guid_of(image_of_text(action.text) or named) == image.cache_guid
        assert (image.missing_since, image.needs_verification_since) == (0.0, 0.0)
        assert observed.obstacle is None
        assert image.registry in {"", ADDRESS}
        assert action.record.phase is DropletPhase.PATCHING
    else:
        assert RULES.cache.owns(named), "its own text is not written again"
        assert action.record.phase is DropletPhase.RESTORING
    if observed.record is not None and observed.record.target:
        assert action.record.original == observed.record.original


@given(observations())
@settings(max_examples=examples(gate=60, long=300))
def test_nothing_is_begun_during_a_pause_without_an_order(observed: ObservedDroplet) -> None:
    paused = replace(observed, is_paused=True, order=None)

    assert not isinstance(
        decide_droplet(paused, RULES), PatchDroplet | RestoreDroplet | RequestCopy | VerifyDropletCopy
    )


@given(observations())
@settings(max_examples=examples(gate=60, long=300))
def test_what_is_only_saved_comes_to_an_end(observed: ObservedDroplet) -> None:
    foreseen = predict_droplet_action(observed, RULES)
    action, saves = decide_droplet(observed, RULES), 0
    while isinstance(action, SaveDropletRecord):
        saves += 1
        assert saves < MOST_SAVES
        observed = replace(observed, record=action.record)
        action = decide_droplet(observed, RULES)
    assert foreseen == (observed, action)


@given(observations())
@settings(max_examples=examples(gate=60, long=300))
def test_a_droplet_that_is_left_is_left_again_and_nothing_new_is_written_down(
    observed: ObservedDroplet,
) -> None:
    observed, action = predict_droplet_action(observed, RULES)
    if not isinstance(action, Leave):
        return
    known = after_leaving(observed, action, RULES)
    again = observed if known is None else replace(observed, record=known)

    following = decide_droplet(again, RULES)
    if isinstance(following, Leave) and following.reason is action.reason:
        assert after_leaving(again, following, RULES) is None


@given(observations())
@settings(max_examples=examples(gate=60, long=300))
def test_an_answer_leaves_nothing_to_do(observed: ObservedDroplet) -> None:
    _, action = predict_droplet_action(observed, RULES)
    shown = observed.droplet
    if not isinstance(action, PatchDroplet | RestoreDroplet) or shown is None:
        return
    answer = replace(shown, image=action.text)
    after = after_answer(action.record, answer, NOW)
    copy = action.image if isinstance(action, PatchDroplet) else None
    seen = replace(observed, droplet=answer, record=after, current_copy=copy)

    assert isinstance(decide_droplet(seen, RULES), Leave | RequestCopy | VerifyDropletCopy | PatchDroplet)
    if isinstance(action, PatchDroplet) and not (observed.is_pinned or observed.is_restoring):
        assert decide_droplet(replace(seen, order=None), RULES) == Leave(Reason.DROPLET_PATCHED)
