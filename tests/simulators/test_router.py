"""The simulated router: what it learns of the BBS and when, and which requests are lost when an app is migrated.

All runs in virtual time, so that the figures are the same on each machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from tests.simulators.app_processes import AppProcesses
from tests.simulators.bbs import Bbs, actual, desired
from tests.simulators.bbs.state import upsert_domain
from tests.simulators.bbs_probe import is_up, some_lrp, states, until
from tests.simulators.cell import CellSettings, Sigterm, SimulatedCell
from tests.simulators.certificates import Certificates
from tests.simulators.http_load import Counts, Load, load_on
from tests.simulators.recipes import routes
from tests.simulators.router import Ending, Router
from tests.simulators.routing_table import FORGETS_WITHIN, LEARNS_WITHIN

pytestmark = [pytest.mark.looptime(noop_cycles=1), pytest.mark.usefixtures("servers")]

HOST = "web.apps.example.com"
APP, BRIDGE = "app", "bridge"
SYNC = 60.0
PROPAGATION, DRAIN = 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A BBS, a cell, and a router."""

    bbs: Bbs
    cell: SimulatedCell
    router: Router


@asynccontextmanager
async def scene(
    certificates: Certificates,
    sigterm: Sigterm = Sigterm.DIES,
    *,
    seed: int = 1,
    attempts: int = 3,
    start_delay: float = 0.5,
) -> AsyncIterator[Scene]:
    settings = CellSettings(start_delay=start_delay, stop_delay=1.0, on_sigterm=lambda _lrp: sigterm)
    async with (
        Bbs(certificates) as bbs,
        SimulatedCell(bbs, settings) as cell,
        Router(bbs, AppProcesses([cell]), seed=seed, sync_interval=SYNC, attempts=attempts) as router,
    ):
        yield Scene(bbs, cell, router)


def routed_lrp(process_guid: str, *, instances: int = 2) -> DesiredLRP:
    lrp = some_lrp(process_guid, instances=instances)
    lrp.routes.CopyFrom(ProtoRoutes(routes=routes((HOST,)) | {"diego-ssh": b'{"container_port":2222}'}))
    return lrp


def backends(router: Router) -> list[str]:
    return sorted(backend.process_guid for backend in router.backends(HOST))


async def run(at: Scene, process_guid: str, *, instances: int = 2) -> None:
    """Desire an LRP, and wait until it runs and the router knows it."""
    desired.desire(at.bbs.state, routed_lrp(process_guid, instances=instances))
    await until(is_up(at.bbs, process_guid, instances))
    await asyncio.sleep(PROPAGATION)


async def stop(at: Scene, process_guid: str, *, is_drained: bool) -> None:
    """Remove an LRP, and wait until no instance is left; its routes go first if it is drained."""
    if is_drained:
        ssh = {"diego-ssh": at.bbs.state.desired[process_guid].routes.routes["diego-ssh"]}
        desired.update(at.bbs.state, process_guid, DesiredLRPUpdate(routes=ProtoRoutes(routes=ssh)))
        await asyncio.sleep(DRAIN)
    desired.remove(at.bbs.state, process_guid)
    await until(lambda: states(at.bbs, process_guid) == [])


async def migrated(at: Scene, *, drained: tuple[str, ...] = (), instances: int = 2, seed: int = 1) -> Counts:
    """Migrate an app with a bridge under load, as the daemon does, and count what became of the requests."""
    await run(at, APP, instances=instances)
    async with load_on(at.router, HOST, Load(seed=seed)) as counts:
        await asyncio.sleep(5.0)
        await run(at, BRIDGE, instances=instances)
        await stop(at, APP, is_drained=APP in drained)
        await run(at, APP, instances=instances)
        await stop(at, BRIDGE, is_drained=BRIDGE in drained)
        await asyncio.sleep(5.0)
    assert 2500 < counts.sent < 6000
    return counts


async def test_a_backend_is_known_soon_after_it_runs_and_forgotten_soon_after_its_removal(
    certificates: Certificates,
) -> None:
    async with scene(certificates) as at:
        desired.desire(at.bbs.state, routed_lrp(APP))
        await until(is_up(at.bbs, APP, 2))
        assert backends(at.router) == []
        await asyncio.sleep(LEARNS_WITHIN[1])
        assert backends(at.router) == [APP, APP]

        desired.remove(at.bbs.state, APP)
        await asyncio.sleep(0.0)
        assert backends(at.router) == [APP, APP]
        await asyncio.sleep(FORGETS_WITHIN[1])
        assert backends(at.router) == []


async def test_routes_that_are_emptied_are_forgotten_while_the_instances_run_on(
    certificates: Certificates,
) -> None:
    async with scene(certificates) as at:
        await run(at, APP)
        change = DesiredLRPUpdate(routes=ProtoRoutes(routes=routes(())))
        desired.update(at.bbs.state, APP, change)
        await asyncio.sleep(FORGETS_WITHIN[1])
        assert (backends(at.router), states(at.bbs, APP)) == ([], ["RUNNING", "RUNNING"])

        change = DesiredLRPUpdate(routes=ProtoRoutes(routes=routes((HOST, "second.example.com"))))
        desired.update(at.bbs.state, APP, change)
        await asyncio.sleep(LEARNS_WITHIN[1])
        assert backends(at.router) == [APP, APP]
        assert len(at.router.backends("second.example.com")) == 2


async def test_an_instance_that_is_not_routable_is_not_known(certificates: Certificates) -> None:
    async with scene(certificates) as at:
        await run(at, APP, instances=1)
        request = at.cell.containers.start_request(at.cell.running(APP, 0))
        request.Routable = False
        actual.start(at.bbs.state, request)
        await asyncio.sleep(FORGETS_WITHIN[1])
        assert backends(at.router) == []

        request.Routable = True
        actual.start(at.bbs.state, request)
        await asyncio.sleep(LEARNS_WITHIN[1])
        assert backends(at.router) == [APP]


async def test_what_lost_events_would_have_told_is_learned_by_the_next_sync(
    certificates: Certificates,
) -> None:
    async with scene(certificates) as at:
        at.bbs.state.events.losing = True
        await run(at, APP)
        assert backends(at.router) == []

        at.bbs.state.events.losing = False
        await asyncio.sleep(SYNC)
        assert backends(at.router) == [APP, APP]


@pytest.mark.parametrize(("is_fresh", "known"), [(True, []), (False, [APP])])
async def test_routes_that_a_sync_misses_stay_as_long_as_their_domain_is_not_fresh(
    certificates: Certificates,
    is_fresh: bool,  # noqa: FBT001 - a parameter of pytest
    known: list[str],
) -> None:
    async with scene(certificates) as at:
        await run(at, APP, instances=1)
        if is_fresh:
            upsert_domain(at.bbs.state, "some-domain", 0)
        del at.bbs.state.desired[APP]
        await asyncio.sleep(SYNC)

        assert backends(at.router) == known


async def test_it_follows_events_again_after_the_hubs_were_closed(certificates: Certificates) -> None:
    async with scene(certificates) as at:
        at.bbs.state.events.close_subscriptions()
        await asyncio.sleep(0.1)
        await run(at, APP)

        assert backends(at.router) == [APP, APP]
        assert at.router.syncs == 1


async def test_a_crash_cuts_what_is_in_flight(certificates: Certificates) -> None:
    async with scene(certificates) as at:
        await run(at, APP, instances=1)
        async with load_on(at.router, HOST, Load(rate=10, slow_rate=10, slow=1.0)) as counts:
            await asyncio.sleep(2.05)
            at.cell.crash(APP, 0)
            await asyncio.sleep(3.0)

        cut = [failure for failure in counts.failures if failure.ending is Ending.CUT]
        assert len(cut) == 10
        assert counts.without_backend > 0


class TestMigratedWithABridge:
    """At 126 requests a second, 20 of them slow, a real router lost 4 to 7 requests of an app that dies at once."""

    @pytest.mark.parametrize(
        ("drained", "low", "high", "losers"),
        [((), 4, 7, {APP, BRIDGE}), ((BRIDGE,), 2, 4, {APP}), ((APP, BRIDGE), 0, 0, set())],
        ids=["nothing is drained", "the bridge is", "both are"],
    )
    async def test_an_app_that_dies_at_once_loses_what_is_in_flight_where_routes_are_not_drained(
        self, certificates: Certificates, drained: tuple[str, ...], low: int, high: int, losers: set[str]
    ) -> None:
        runs = []
        for seed in range(8):
            async with scene(certificates, seed=seed) as at:
                runs.append(await migrated(at, drained=drained, seed=seed))
        failures = [failure for counts in runs for failure in counts.failures]

        assert low <= len(failures) / len(runs) <= high, list(map(str, runs))
        assert {failure.ending for failure in failures} <= {Ending.CUT}
        assert {failure.backend.process_guid for failure in failures if failure.backend} == losers

    @pytest.mark.parametrize("sigterm", [Sigterm.FINISHES, Sigterm.SERVES_ON])
    @pytest.mark.parametrize("instances", [1, 2])
    async def test_an_app_that_ends_in_good_order_loses_nothing(
        self, certificates: Certificates, sigterm: Sigterm, instances: int
    ) -> None:
        async with scene(certificates, sigterm) as at:
            counts = await migrated(at, instances=instances)

        assert counts.failures == []

    async def test_without_retries_only_drained_routes_lose_nothing(self, certificates: Certificates) -> None:
        """An app that takes nothing new is in the table for a moment longer."""
        async with scene(certificates, Sigterm.FINISHES, attempts=1) as at:
            counts = await migrated(at)
        assert {failure.ending for failure in counts.failures} == {Ending.REFUSED}

        for sigterm in Sigterm:
            async with scene(certificates, sigterm, attempts=1) as at:
                counts = await migrated(at, drained=(APP, BRIDGE))
            assert counts.failures == []

    async def test_an_original_that_is_removed_before_the_bridge_is_known_leaves_no_backend(
        self, certificates: Certificates
    ) -> None:
        """The wait for routers is no formality."""
        without = 0
        for seed in range(8):
            async with scene(certificates, seed=seed, start_delay=0.0) as at:
                await run(at, APP, instances=1)
                async with load_on(at.router, HOST, Load()) as counts:
                    desired.desire(at.bbs.state, routed_lrp(BRIDGE, instances=1))
                    desired.remove(at.bbs.state, APP)
                    await asyncio.sleep(2.0)
            without += counts.without_backend + counts.failed

        assert without > 0
