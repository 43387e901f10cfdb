"""The Docker LRPs that run from their source, by app."""

from controller.lrp_index import LrpIndex
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.references import Rootfs

APP = AppGuid("app-1")


def info(guid: str, *, app: str = "app-1", epoch: str = "e", index: int = 0) -> SchedulingInfo:
    tag = ModificationTag(epoch, index)
    return SchedulingInfo(ProcessGuid(guid), "cf-apps", AppGuid(app), Rootfs("docker:///a/b#1"), 1, tag)


def test_an_lrp_has_changed_when_it_is_new_or_has_another_tag() -> None:
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
    assert index.process_guids() == {"q", "r", "other"}
