"""What is remembered of LRPs that are being migrated."""

from dataclasses import replace

from controller import event_cache
from controller.event_cache import LrpEventCache
from reconcile.bridges import bridge_of
from reconcile.lrps import ModificationTag, ProcessGuid
from tests.reconcile.test_decide import LRP, PROCESS


def test_of_each_life_of_an_lrp_the_newest_version_is_kept_whatever_the_order_of_events() -> None:
    seen = LrpEventCache()
    seen.track(PROCESS)
    versions = [replace(LRP, tag=ModificationTag(*tag)) for tag in (("a", 1), ("a", 0), ("b", 0), ("a", 2))]
    for each in versions:
        seen.record(each)

    assert sorted(seen.versions(PROCESS), key=lambda lrp: lrp.tag.epoch) == [versions[3], versions[2]]


def test_nothing_is_kept_of_an_lrp_that_is_not_tracked() -> None:
    seen = LrpEventCache()
    seen.record(LRP)
    seen.track(PROCESS)
    seen.record(LRP)
    seen.untrack(PROCESS)

    assert seen.versions(PROCESS) == ()
    assert seen.key_of(PROCESS) is None


def test_what_is_told_of_a_bridge_is_about_its_lrp() -> None:
    seen = LrpEventCache()
    seen.track(PROCESS)

    assert seen.key_of(bridge_of(PROCESS)) == PROCESS
    assert seen.key_of(PROCESS) == PROCESS


def test_instances_from_before_a_removal_are_known_again_while_they_have_just_begun_to_run() -> None:
    now = 100.0
    seen = LrpEventCache(lambda: now)
    seen.untrack(PROCESS, frozenset({"a"}))
    seen.untrack(PROCESS, frozenset({"b"}))
    assert seen.stale(PROCESS) == frozenset(), "none runs"

    assert seen.note_begin(PROCESS, "a")
    assert not seen.note_begin(PROCESS, "another")
    assert seen.stale(PROCESS) == {"a"}
    now += event_cache.HAS_JUST_BEGUN + 0.1
    assert seen.note_begin(PROCESS, "b")
    assert seen.note_begin(PROCESS, "a"), "and it has served for a while"
    assert seen.stale(PROCESS) == {"b"}


def test_instances_from_before_a_removal_are_remembered_for_a_while() -> None:
    seen = LrpEventCache()
    seen.untrack(PROCESS, frozenset({"a"}))

    for n in range(event_cache.REMEMBERED_MIGRATIONS):
        seen.untrack(ProcessGuid(f"other-{n}"), frozenset({"x"}))
    assert not seen.note_begin(PROCESS, "a")


def test_the_cells_of_crashes_are_those_of_the_lrp_and_its_bridge_while_it_is_tracked() -> None:
    seen = LrpEventCache()
    seen.record_crash(PROCESS, "before")
    seen.track(PROCESS)
    seen.record_crash(PROCESS, "a")
    seen.record_crash(bridge_of(PROCESS), "b")
    seen.record_crash(ProcessGuid("other"), "c")

    assert seen.crashed_on(PROCESS) == {"a", "b"}
    seen.untrack(PROCESS)
    assert seen.crashed_on(PROCESS) == frozenset()
