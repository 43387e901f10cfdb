from collections import Counter
from dataclasses import replace
from typing import Any

from controller.app_placements import AppPlacements
from controller.droplets.index import DropletIndex, State
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from tests.controller.droplets.conftest import APP, TEXT, guid_of, text_of

OTHER = AppGuid("app-2")
RECORD = DropletRecord(
    DropletGuid("droplet-1"),
    APP,
    None,
    original=TEXT,
    username="",
    cache_guid=guid_of(1),
    registry="cache.example:8080",
    target=text_of(1),
    phase=DropletPhase.PATCHED,
    reason=Reason.DROPLET_PATCHED,
    created_at=1.0,
    updated_at=1.0,
)
GUID = RECORD.droplet_guid


def test_a_droplet_is_found_by_its_app_and_by_the_copy_that_it_names() -> None:
    index = DropletIndex()
    index.put_record(RECORD)

    assert index.droplets_of_app(APP) == index.droplets_of_copy(guid_of(1)) == {GUID}
    assert index.copies() == {guid_of(1)}
    assert index.names(guid_of(1))
    assert GUID in index
    assert index.counts == {(DropletPhase.PATCHED, Reason.DROPLET_PATCHED): 1}


def test_one_that_went_back_names_no_copy_and_is_counted_once() -> None:
    index = DropletIndex()
    index.put_record(RECORD)
    index.put_record(replace(RECORD, phase=DropletPhase.RESTORED, reason=Reason.PINNED_TO_SOURCE))

    assert index.droplets_of_copy(guid_of(1)) == frozenset()
    assert index.counts == {(DropletPhase.RESTORED, Reason.PINNED_TO_SOURCE): 1}
    assert (index.count(DropletPhase.PATCHED), index.count(DropletPhase.RESTORED)) == (0, 1)


class Changing(Counter[State]):
    """Gets another entry while somebody goes through it, as from another thread."""

    def items(self) -> Any:
        for item in super().items():
            self[DropletPhase.LEFT, Reason.DROPLET_GONE] += 1
            yield item


def test_a_scrape_counts_while_another_thread_changes_the_counts() -> None:
    index = DropletIndex()
    index._counts = Changing()
    index.put_record(RECORD)

    assert index.count(DropletPhase.PATCHED) == 1


def test_only_what_waits_is_not_settled() -> None:
    index = DropletIndex()
    index.put(GUID, APP)
    assert not index.is_settled(GUID), "nobody has looked at it"

    index.put_record(replace(RECORD, phase=DropletPhase.LEFT, reason=Reason.WAITING_FOR_COPY))
    assert not index.is_settled(GUID)
    index.put_record(RECORD)
    assert index.is_settled(GUID)


def test_a_droplet_of_another_app_and_one_that_is_gone_leave_nothing() -> None:
    index = DropletIndex()
    index.put_record(RECORD)
    index.put(GUID, OTHER)
    assert index.droplets_of_app(APP) == frozenset()
    assert index.droplets_of_app(OTHER) == {GUID}

    index.remove([GUID, DropletGuid("never-known")])
    assert (len(index), index.counts) == (0, {})
    assert index.copies() == frozenset()
    assert index.droplets() == frozenset()


def test_placement_tags_are_those_of_the_last_listing_or_of_a_later_event() -> None:
    placements = AppPlacements()
    placements.replace({APP: frozenset({"segment"}), OTHER: frozenset()})
    assert placements.tags_of(APP) == {"segment"}
    assert placements.tags_of(OTHER) == frozenset()

    placements.put(APP, frozenset())
    placements.put(OTHER, frozenset({"other"}))
    assert placements.tags_of(APP) == frozenset()
    assert placements.tags_of(OTHER) == {"other"}
