"""What is known of which LRP runs from which copy."""

from controller.copy_uses import CopyUses
from reconcile.lrps import ProcessGuid
from reconcile.references import CacheGuid

FIRST, SECOND, THIRD = ProcessGuid("p-1"), ProcessGuid("p-2"), ProcessGuid("p-3")
COPY, OTHER = (CacheGuid(f"0000000{n}-0000-4000-8000-000000000000") for n in (1, 2))


def test_an_lrp_runs_from_one_copy_at_a_time() -> None:
    uses = CopyUses()

    uses.put(FIRST, COPY)
    uses.put(SECOND, COPY)
    uses.put(FIRST, OTHER)

    assert uses.lrps_of(COPY) == {SECOND}
    assert uses.lrps_of(OTHER) == {FIRST}
    assert uses.copy_of(FIRST) == OTHER
    assert uses.copies() == {COPY, OTHER}


def test_a_copy_without_lrps_is_none() -> None:
    uses = CopyUses()
    uses.put(FIRST, COPY)

    uses.remove(FIRST)
    uses.remove(FIRST)

    assert not uses.copies()
    assert uses.copy_of(FIRST) is None
    assert uses.lrps_of(COPY) == frozenset()


def test_a_listing_replaces_what_was_known_when_it_began() -> None:
    uses = CopyUses()
    uses.put(FIRST, COPY)
    uses.put(SECOND, COPY)
    before = uses.process_guids()
    uses.put(THIRD, OTHER)  # by an event during the listing

    uses.replace({FIRST: OTHER}, known_before=before)

    assert uses.process_guids() == {FIRST, THIRD}
    assert uses.copy_of(FIRST) == OTHER
