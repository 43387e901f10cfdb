"""What operators reach of an instance that is not the active one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.admin.admin_client import AdminClient, open_client
from controller.admin.leadership import ServedDependencies
from controller.admin.server import SERVICE, serve_admin
from controller.commands.control_commands import status_pairs
from controller.leadership.lease import ActiveLease, lease_without_lock
from controller.leadership.ports import Holder, HolderNote
from controller.leadership.standing import Standing
from reconcile.errors import DockerCacheError
from reconcile.lease import LeaseTimes

pytestmark = pytest.mark.usefixtures("servers")

WAIT = 60.0
HOLDER = Holder("a-1", HolderNote("a", "1", "a:8910", 1_767_225_600.0, "1"))
TIMES = LeaseTimes(15.0, 5.0)
STANDS_BY = "it stands by: instance a at a:8910 since 2026-01-01T00:00:00+00:00 is active"


@pytest.fixture
def lease() -> ActiveLease:
    return ActiveLease(TIMES, clock=lambda: 1000.0, wall_clock=lambda: 1_767_225_700.0)


@pytest.fixture
def served(lease: ActiveLease) -> ServedDependencies:
    return ServedDependencies(Standing("b", lease, lambda: HOLDER), "run-2")


@asynccontextmanager
async def called(served: ServedDependencies) -> AsyncIterator[tuple[AdminClient, int]]:
    async with (
        serve_admin(served, "127.0.0.1:0", None) as port,
        open_client(f"127.0.0.1:{port}", None) as client,
    ):
        yield client, port


async def health_of(port: int, service: str) -> str:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT, wait_for_ready=True)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_a_standby_says_who_is_active_and_refuses_all_else(served: ServedDependencies) -> None:
    async with called(served) as (client, _):
        status = await client.status()
        with pytest.raises(DockerCacheError) as caught:
            await client.pause()
        with pytest.raises(DockerCacheError, match="ask the active instance"):
            await client.list_images()

    assert (status["instance_id"], status["active"], status["active_since"]) == ("b", False, None)
    assert status["run_id"] == "run-2"
    assert status["lease_ms"] == 0
    assert status["obstacle"] == STANDS_BY
    assert status["holder"] == {
        "instance_id": "a",
        "admin_address": "a:8910",
        "since": 1_767_225_600.0,
        "version": "1",
        "owner": "a-1",
    }
    assert caught.value.code == "not-active"
    assert STANDS_BY in caught.value.detail


async def test_a_standby_shows_and_changes_the_level_of_its_log(
    served: ServedDependencies, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no store for an audit, so its log says who has changed it."""
    async with called(served) as (client, _):
        before = await client.get_log_level()
        after = await client.set_log_level("debug")
        with pytest.raises(DockerCacheError, match="the levels are debug, info, error, fatal"):
            await client.set_log_level("loud")

    assert before == {"level": "info", "configured": "info"}
    assert after == {"level": "debug", "configured": "info"}
    assert served.log_level.name == "debug"
    assert '"call": "SetLogLevel", "caller": "without TLS' in capsys.readouterr().out


async def test_people_see_of_a_standby_who_is_active(served: ServedDependencies) -> None:
    async with called(served) as (client, _):
        pairs = dict(status_pairs(await client.status(), is_direct=False))

    assert list(pairs) == ["daemon", "instance"]
    assert pairs["instance"] == f"b is not active: {STANDS_BY}"


async def test_the_process_is_healthy_and_its_service_when_it_is_active(
    served: ServedDependencies, lease: ActiveLease
) -> None:
    nothing: Any = SimpleNamespace()
    async with called(served) as (_, port):
        assert await health_of(port, "") == "SERVING"
        assert await health_of(port, SERVICE) == "NOT_SERVING"

        lease.renewed(1000.0)
        await served.open(nothing)
        assert await health_of(port, SERVICE) == "SERVING"

        await served.close()
        assert await health_of(port, SERVICE) == "NOT_SERVING"


async def test_an_instance_that_lost_its_lease_refuses_what_it_answered(
    served: ServedDependencies, lease: ActiveLease
) -> None:
    nothing: Any = SimpleNamespace()
    lease.renewed(1000.0)
    await served.open(nothing)
    lease.revoke("the lock could not be renewed")

    async with called(served) as (client, _):
        with pytest.raises(DockerCacheError, match="the lock could not be renewed"):
            await client.resume()
        status = await client.status()

    assert status["active"] is False
    assert status["active_since"] == 1_767_225_700.0


def test_a_lease_that_needs_no_lock_has_no_end() -> None:
    served = ServedDependencies(Standing("a", lease_without_lock()), "run-1")
    answer = served.standby_status()

    assert answer.active
    assert answer.lease_ms == -1
