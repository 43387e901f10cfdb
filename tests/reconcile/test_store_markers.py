from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.store_markers import (
    MARGIN,
    MARKER_TTL,
    PATIENCE,
    REFRESH_INTERVAL,
    MarkerView,
    StoreId,
    marked_stores,
    marker_of,
)

LESSER = StoreId("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
GREATER = StoreId("9b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")


@given(st.sets(st.uuids(version=4)))
def test_a_marker_says_which_store_it_is_of(stores: set[UUID]) -> None:
    ids = {StoreId(str(store)) for store in stores}

    assert ids == marked_stores([*map(marker_of, ids), "cf-apps", "docker-cache-bridge"])


@pytest.mark.parametrize(
    "domain",
    ["docker-cache-store-", "docker-cache-store-prod", f"x{marker_of(LESSER)}", f"{marker_of(LESSER)}\n"],
)
def test_a_domain_of_another_form_is_no_marker(domain: str) -> None:
    """Whoever may write to the BBS can make any domain fresh, also for ever."""
    assert not marked_stores([domain])


def test_a_marker_is_relied_on_for_less_than_it_is_fresh_counted_from_when_it_was_sent() -> None:
    view = MarkerView().marked(started_at=100.0)

    last = 100.0 + MARKER_TTL - MARGIN
    assert view.may_change(last - 0.1)
    assert not view.may_change(last)
    assert REFRESH_INTERVAL < MARKER_TTL - MARGIN


def test_nothing_is_changed_before_the_first_marker_and_while_another_is_fresh() -> None:
    claimed = MarkerView().marked(started_at=0.0)
    beside = claimed.looked(frozenset({GREATER}), 1.0)

    assert not MarkerView().may_change(0.0)
    assert claimed.may_change(1.0)
    assert beside.has_claim(1.0)
    assert not beside.may_change(1.0)
    assert beside.looked(frozenset(), 2.0).may_change(2.0)


def test_of_two_that_run_the_greater_gives_way_once_the_other_has_been_refreshed() -> None:
    def seen(other: StoreId) -> MarkerView:
        return MarkerView().marked(0.0).looked(frozenset({other}), 10.0).looked(frozenset({other}), 50.0)

    assert not seen(LESSER).must_give_way(GREATER, 10.0 + PATIENCE)
    assert seen(LESSER).must_give_way(GREATER, 10.1 + PATIENCE)
    assert not seen(GREATER).must_give_way(LESSER, 1000.0)
    assert not seen(LESSER).looked(frozenset(), 60.0).must_give_way(GREATER, 1000.0)
    assert not seen(LESSER).without_claim().has_claim(1.0)
