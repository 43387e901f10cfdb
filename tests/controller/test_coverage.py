"""What the watcher knows: the newest staging of each app since the last subscription, and the LRP index."""

from controller.coverage import Coverage, LrpIndex
from reconcile.images import Rootfs, parse_image_reference
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.reasons import Reason
from reconcile.records import Binding, CacheRequest, JobId

APP = AppGuid("app-1")
SOURCE = parse_image_reference("team/app:1").canonical()


def request(staged_at: int) -> CacheRequest:
    return CacheRequest(APP, SOURCE, f"task:{staged_at}", staged_at, Reason.STAGING_TASK)


def binding(staged_at: int) -> Binding:
    return Binding(APP, SOURCE, f"task:{staged_at}", staged_at, JobId("job"))


def test_a_binding_from_before_the_subscription_is_not_current() -> None:
    assert not Coverage().is_current(binding(5))


def test_the_newest_staging_seen_is_current_and_an_older_one_is_not() -> None:
    coverage = Coverage()
    coverage.saw(request(7))
    coverage.saw(request(5))

    assert coverage.is_current(binding(7))
    assert not coverage.is_current(binding(5))


def test_a_gap_makes_all_that_was_seen_uncertain() -> None:
    coverage = Coverage()
    coverage.saw(request(7))
    coverage.restart()

    assert not coverage.is_current(binding(7))


def info(guid: str, *, app: str = "app-1", epoch: str = "e", index: int = 0) -> SchedulingInfo:
    tag = ModificationTag(epoch, index)
    return SchedulingInfo(ProcessGuid(guid), "cf-apps", AppGuid(app), Rootfs("docker:///a/b#1"), 1, tag)


def test_an_lrp_is_news_when_it_is_new_or_its_tag_changed() -> None:
    index = LrpIndex()

    assert index.put(info("p"))
    assert not index.put(info("p"))
    assert index.put(info("p", index=1))
    assert index.put(info("p", epoch="f"))


def test_the_lrps_of_an_app_are_those_not_removed() -> None:
    index = LrpIndex()
    for guid in ("p", "q", "r"):
        index.put(info(guid))
    index.put(info("other", app="app-2"))
    index.remove(ProcessGuid("p"))
    index.remove(ProcessGuid("never-there"))

    assert index.lrps_of(APP) == {"q", "r"}
    assert index.lrps_of(AppGuid("app-2")) == {"other"}
    assert index.lrps_of(AppGuid("nobody")) == frozenset()
    assert index.known() == {"q", "r", "other"}
