"""The routes of the original are taken away before it is removed, and given back on every other way out."""

from dataclasses import replace

import pytest

from reconcile.lrps import ModificationTag
from reconcile.migrations import Phase
from reconcile.protocol import row_of_removal
from reconcile.reasons import Reason
from reconcile.steps import Enter, RemoveOriginal, RetryLater, UpdateBridge, UpdateRoutes
from tests.reconcile.protocol_samples import (
    BRIDGE,
    BRIDGED,
    GONE,
    LIMITS,
    REVERTED,
    ROUTES,
    SSH,
    UNREACHABLE,
    WORLD,
    crashed,
    entered,
    row,
    step,
)
from tests.reconcile.test_decide import LRP, NOW

ROUTED = replace(LRP, routes=ROUTES)
DRAINED = replace(ROUTED, routes=SSH, tag=ModificationTag("epoch-1", 1))
"""The original as this program has left it; its owner wants all routes."""
BESIDE = replace(WORLD, lrp=ROUTED, bridge=replace(BRIDGE, routes=ROUTES), drains_original=True)
WITHOUT = replace(BESIDE, lrp=DRAINED)
READY = row(Phase.BRIDGED, original=ROUTED, entered_at=NOW - LIMITS.routes)
SENT = replace(READY, drain_sent_at=NOW)
SEEN = replace(SENT, original=replace(ROUTED, tag=DRAINED.tag))
"""The same row, once the original was observed without routes."""


class TestBeforeTheRemoval:
    def test_all_routes_but_that_to_single_instances_are_taken_away(self) -> None:
        assert step(READY, BESIDE) == UpdateRoutes(SENT, SSH, Reason.DRAINING_ORIGINAL)

    def test_requests_in_flight_get_time_to_end(self) -> None:
        assert step(SENT, WITHOUT) == Enter(SEEN), "with the routes that its owner wants"
        assert step(SEEN, WITHOUT) == RetryLater(Reason.DRAINING_ORIGINAL, LIMITS.drain)
        done = replace(WITHOUT, now=NOW + LIMITS.drain)
        assert step(SEEN, done) == RemoveOriginal(SEEN)

    def test_an_update_that_was_lost_is_sent_again(self) -> None:
        later = replace(BESIDE, now=NOW + 1)

        assert step(SENT, later) == UpdateRoutes(
            replace(SENT, drain_sent_at=NOW + 1), SSH, Reason.DRAINING_ORIGINAL
        )

    def test_where_the_operator_does_not_want_it_nothing_is_taken(self) -> None:
        assert step(READY, replace(BESIDE, drains_original=False)) == RemoveOriginal(READY)

    @pytest.mark.parametrize("routes", [{}, SSH], ids=["none", "ssh"])
    def test_an_app_without_routes_is_removed_at_once(self, routes: dict[str, bytes]) -> None:
        lrp = replace(LRP, routes=routes)
        worker = replace(BESIDE, lrp=lrp, bridge=replace(BRIDGE, routes=routes))
        ready = replace(READY, original=lrp)

        assert step(ready, worker) == RemoveOriginal(ready)

    def test_an_app_of_which_more_instances_may_start_keeps_its_routes(self) -> None:
        """The bridge serves no more than runs now, and what starts meanwhile must be reachable."""
        half = replace(BESIDE, instances=BESIDE.instances[:1], bridge_instances=BRIDGED[:1])

        assert step(READY, half) == RemoveOriginal(READY)

    def test_an_app_of_which_nothing_runs_any_more_has_nothing_to_drain(self) -> None:
        assert step(READY, replace(BESIDE, instances=())) == RemoveOriginal(READY)


class TestTheDefinition:
    """What was taken away is never what its owner wants."""

    def test_it_comes_back_with_its_routes(self) -> None:
        written = row_of_removal(SENT, WITHOUT, LIMITS)

        assert written.original.routes == ROUTES

    def test_a_version_without_routes_that_an_event_reports_is_no_newer_one(self) -> None:
        removed = replace(SENT, phase=Phase.REMOVED)
        scaled = replace(DRAINED, instances=5)

        made = step(removed, replace(GONE, versions_in_events=(scaled,)))

        assert isinstance(made, Enter)
        assert (made.migration.original.instances, made.migration.original.routes) == (5, ROUTES)

    def test_the_bridge_keeps_its_routes(self) -> None:
        assert not isinstance(step(SEEN, WITHOUT), UpdateBridge)

    def test_routes_that_its_owner_maps_meanwhile_are_what_comes_back(self) -> None:
        mapped = replace(DRAINED, routes={**ROUTES, "cf-router": b"[2]"}, tag=ModificationTag("epoch-1", 2))

        made = step(SENT, replace(BESIDE, lrp=mapped))

        assert isinstance(made, Enter)
        assert made.migration.original.routes == mapped.routes

    def test_before_any_was_taken_away_one_without_routes_is_its_owners_wish(self) -> None:
        made = step(READY, WITHOUT)

        assert made == Enter(replace(READY, original=DRAINED))


class TestOnEveryOtherWayOut:
    def test_a_bridge_that_fails_gives_them_back(self) -> None:
        failed = replace(WITHOUT, bridge_instances=(BRIDGED[0], crashed(UNREACHABLE, 1)))

        assert step(SEEN, failed) == UpdateRoutes(
            replace(SEEN, routed_at=NOW), ROUTES, Reason.WAITING_FOR_ROUTES
        )

    def test_an_order_to_restore_gives_them_back(self) -> None:
        ordered = replace(WITHOUT, is_restore_requested=True)

        assert isinstance(step(SEEN, ordered), UpdateRoutes)

    def test_the_phase_goes_on_when_it_has_them(self) -> None:
        given = replace(SENT, routed_at=NOW)
        failed = replace(BESIDE, bridge_instances=(BRIDGED[0], crashed(UNREACHABLE, 1)))

        assert entered(given, failed)[0] is Phase.REMOVING_BRIDGE

    def test_the_bridge_stays_until_routers_have_learnt_of_them(self) -> None:
        given = replace(SENT, phase=Phase.REMOVING_BRIDGE, ended=Reason.CANCELLED, routed_at=NOW)

        assert step(given, BESIDE) == RetryLater(Reason.WAITING_FOR_ROUTES, LIMITS.routes)
        later = replace(BESIDE, now=NOW + LIMITS.routes)
        assert isinstance(step(given, later), UpdateBridge)

    def test_a_definition_that_its_owner_desired_again_has_its_routes(self) -> None:
        again = replace(REVERTED, routes=ROUTES)

        made = step(SENT, replace(BESIDE, lrp=again))

        assert isinstance(made, Enter)
        assert made.migration.routed_at == NOW

    def test_while_a_removal_may_take_effect_they_are_not_given_back(self) -> None:
        removing = replace(SEEN, phase=Phase.REMOVING, unknown_until=NOW + 9)

        assert not isinstance(step(removing, WITHOUT), UpdateRoutes)
