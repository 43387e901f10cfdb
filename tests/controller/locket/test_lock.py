"""The lock on a Locket that breaks, hangs, restarts, and gives the lock to others."""

import asyncio
import dataclasses
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.grpc_clients import follow_files
from controller.leadership.ports import HolderNote
from controller.locket.client import HeldLock, LocketClient, open_locket
from controller.locket.connections import Connections, KeepAlive, channel_options
from controller.locket.lock import LOCK_KEY, LocketLock
from controller.mutual_tls import MutualTls
from reconcile.errors import Conflict, Invalid, Unavailable
from tests.conftest import PassTime
from tests.simulators.certificates import Authority, Certificates, make_certificates
from tests.simulators.locket import Fault, Locket, serve_locket
from tests.simulators.tcp_proxy import TcpProxy

pytestmark = pytest.mark.usefixtures("servers")

NOTE = HolderNote("vm-1", "run-1", "10.0.0.1:17090", 1_700_000_000.0, "0.1.0")
OTHER = dataclasses.replace(NOTE, instance_id="vm-2")
TTL = 600
LONG = 200.0
"""Seconds of a retry interval that no test waits for."""
SHORT = 2.0
KEEP_ALIVE = KeepAlive(10, 22)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def locket(certificates: Certificates) -> AsyncIterator[Locket]:
    async with serve_locket(certificates) as locket:
        yield locket


@pytest.fixture
async def client(locket: Locket) -> AsyncIterator[LocketClient]:
    async with open_locket(locket.address, tls_of(locket.certificates), KEEP_ALIVE) as client:
        yield client


@pytest.fixture
def lock(client: LocketClient) -> LocketLock:
    return LocketLock(client, ttl=TTL, retry_interval=LONG)


def tls_of(certificates: Certificates) -> MutualTls:
    return MutualTls(certificates.ca, certificates.client.certificate, certificates.client.key)


async def until_happened(locket: Locket, fault: Fault, times: int = 1) -> None:
    async with asyncio.timeout(60.0):
        while locket.faults.happened[fault] < times:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.01)


def owner_of(locket: Locket) -> str | None:
    row = locket.state.rows.get(LOCK_KEY)
    return None if row is None else row.owner


async def test_the_lock_says_who_has_it_and_for_how_long(lock: LocketLock, locket: Locket) -> None:
    await lock.acquire(NOTE)

    row = locket.state.rows[LOCK_KEY]
    assert (row.owner, row.value, row.type, row.ttl) == ("vm-1-run-1", NOTE.as_text(), "lock", TTL)


async def test_each_call_has_a_request_id_of_its_own(lock: LocketLock, locket: Locket) -> None:
    await lock.acquire(NOTE)
    await lock.acquire(NOTE)

    first, second = (call.uuid for call in locket.calls)
    assert first
    assert second
    assert first != second


async def test_calls_share_one_connection(lock: LocketLock, client: LocketClient) -> None:
    await lock.acquire(NOTE)
    before = client._connections._idle
    await lock.acquire(NOTE)
    with pytest.raises(Conflict):
        await LocketLock(client, ttl=TTL, retry_interval=LONG).acquire(OTHER)

    assert before is not None
    assert client._connections._idle is before


@pytest.mark.parametrize(
    "fault",
    [
        Fault.UNAVAILABLE,
        Fault.LOST_ANSWER,
        Fault.DATABASE_SLOW,
        Fault.RESOURCE_EXISTS,
        Fault.DEADLOCK,
        Fault.UNKNOWN,
    ],
)
async def test_one_failed_attempt_does_not_cost_the_lock(
    lock: LocketLock, locket: Locket, fault: Fault
) -> None:
    await lock.acquire(NOTE)
    locket.faults.order(fault, "Lock")

    await lock.acquire(NOTE)

    assert locket.faults.happened[fault] == 1
    assert owner_of(locket) == NOTE.owner


async def test_a_server_that_restarts_does_not_cost_the_lock(lock: LocketLock, locket: Locket) -> None:
    await lock.acquire(NOTE)
    await locket.kill()
    renewing = asyncio.create_task(lock.acquire(NOTE))
    await asyncio.sleep(0)
    await locket.start()

    await renewing
    assert owner_of(locket) == NOTE.owner


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_AFTER, Fault.LATE])
async def test_a_call_that_hangs_gets_another_one_beside_it(
    lock: LocketLock, locket: Locket, fault: Fault, pass_time: PassTime
) -> None:
    """The one that hangs may take effect before or after the other: it is for the same owner."""
    locket.faults.order(fault, "Lock")
    acquiring = asyncio.create_task(lock.acquire(NOTE))
    await until_happened(locket, fault)

    await pass_time(LONG / 2)
    await acquiring

    assert owner_of(locket) == NOTE.owner


async def test_an_attempt_that_was_given_up_may_have_taken_the_lock(
    lock: LocketLock, locket: Locket, pass_time: PassTime
) -> None:
    locket.faults.order(Fault.HANG_AFTER, "Lock", calls=100)
    acquiring = asyncio.create_task(lock.acquire(NOTE))
    await until_happened(locket, Fault.HANG_AFTER)
    await pass_time(LONG)

    with pytest.raises(Unavailable, match="no answer within 180 s"):
        await acquiring
    assert owner_of(locket) == NOTE.owner

    locket.faults.clear()
    await lock.acquire(NOTE)
    await lock.release()
    assert owner_of(locket) is None


async def test_a_server_that_is_gone_is_said_so(client: LocketClient, locket: Locket) -> None:
    await locket.kill()

    with pytest.raises(Unavailable) as failed:
        await LocketLock(client, ttl=TTL, retry_interval=SHORT).acquire(NOTE)
    assert (failed.value.system, failed.value.code) == ("locket", "connection")
    assert failed.value.detail == f"Lock of {LOCK_KEY} at {locket.address}: the connection was refused"


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_connection_that_is_closed_during_the_handshake_says_nothing_of_certificates(
    certificates: Certificates, *, is_reset: bool
) -> None:
    """As by a proxy in front of a Locket that is gone."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if is_reset:
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as proxy:
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with open_locket(address, tls_of(certificates), KEEP_ALIVE) as client:
            with pytest.raises(Unavailable) as failed:
                await LocketLock(client, ttl=TTL, retry_interval=SHORT).acquire(NOTE)

    assert (failed.value.code, failed.value.detail) == (
        "connection",
        f"Lock of {LOCK_KEY} at {address}: the connection was closed during the TLS handshake",
    )


async def test_a_stolen_lock_is_not_renewed(lock: LocketLock, locket: Locket) -> None:
    await lock.acquire(NOTE)
    locket.state.steal(LOCK_KEY, "thief")

    with pytest.raises(Conflict, match="thief holds the lock diego-docker-cache"):
        await lock.acquire(NOTE)
    await lock.release()
    assert owner_of(locket) == "thief"


async def test_a_refusal_does_not_wait_for_the_name_of_the_holder(
    client: LocketClient, lock: LocketLock, locket: Locket, pass_time: PassTime
) -> None:
    await lock.acquire(NOTE)
    locket.faults.order(Fault.HANG, "Fetch", calls=100)
    acquiring = asyncio.create_task(LocketLock(client, ttl=TTL, retry_interval=LONG).acquire(OTHER))
    await until_happened(locket, Fault.HANG)
    await pass_time(1.0)

    with pytest.raises(Conflict, match="another instance holds the lock"):
        await acquiring


async def test_a_lock_that_was_never_asked_for_is_not_given_back(lock: LocketLock, locket: Locket) -> None:
    await lock.release()

    assert locket.calls == []


async def test_a_value_that_is_too_long_is_final(client: LocketClient) -> None:
    with pytest.raises(Invalid) as refused:
        await client.lock(LOCK_KEY, HeldLock("one", "v" * 5000), ttl=TTL, limit=LONG)
    assert refused.value.code == "sql-bad-request"


async def test_a_time_that_is_none_is_final(client: LocketClient) -> None:
    with pytest.raises(Invalid) as refused:
        await client.lock(LOCK_KEY, HeldLock("one", ""), ttl=0, limit=LONG)
    assert refused.value.code == "invalid-ttl"


# The network between


@pytest.fixture
async def proxy(locket: Locket) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(locket.host, locket.port) as proxy:
        yield proxy


@pytest.fixture
async def distant(proxy: TcpProxy, locket: Locket) -> AsyncIterator[LocketLock]:
    """A lock on the other side of a network."""
    async with open_locket(proxy.address, tls_of(locket.certificates), KEEP_ALIVE) as client:
        yield LocketLock(client, ttl=TTL, retry_interval=LONG)


async def until_connected(proxy: TcpProxy, times: int) -> None:
    async with asyncio.timeout(60.0):
        while proxy.connections < times:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_connection_that_has_gone_silent_does_not_cost_the_lock(
    distant: LocketLock, proxy: TcpProxy, locket: Locket, pass_time: PassTime
) -> None:
    """As after the restart of a firewall: new connections work, and the old one says nothing for ever."""
    await distant.acquire(NOTE)
    proxy.forget()
    renewing = asyncio.create_task(distant.acquire(NOTE))
    await asyncio.sleep(0)
    await pass_time(LONG / 2)

    await renewing
    assert proxy.connections == 2
    assert locket.state.rows[LOCK_KEY].index == 2


async def test_a_connection_that_is_reset_does_not_cost_the_lock(
    distant: LocketLock, proxy: TcpProxy, locket: Locket
) -> None:
    await distant.acquire(NOTE)
    proxy.reset()

    await distant.acquire(NOTE)
    assert locket.state.rows[LOCK_KEY].index == 2


async def test_a_network_that_is_cut_costs_the_lock_and_one_that_is_mended_gives_it_back(
    distant: LocketLock, proxy: TcpProxy, locket: Locket, pass_time: PassTime
) -> None:
    await distant.acquire(NOTE)
    proxy.cut()
    renewing = asyncio.create_task(distant.acquire(NOTE))
    await asyncio.sleep(0)
    await pass_time(LONG / 2)
    await until_connected(proxy, 2)
    await pass_time(LONG / 2)

    with pytest.raises(Unavailable):
        await renewing
    assert locket.state.rows[LOCK_KEY].index == 1

    proxy.mend()
    await distant.acquire(NOTE)
    assert locket.state.rows[LOCK_KEY].index == 2


# Certificate files


def put_files(directory: Path, files: MutualTls) -> MutualTls:
    own = MutualTls(*(directory / name for name in ("ca.crt", "client.crt", "client.key")))
    for source, target in (
        (files.ca_cert_file, own.ca_cert_file),
        (files.cert_file, own.cert_file),
        (files.key_file, own.key_file),
    ):
        shutil.copy(source, target)
    return own


async def test_files_that_change_are_used_from_the_next_call_on(
    certificates: Certificates, tmp_path: Path
) -> None:
    now = 0.0
    renewed = await asyncio.to_thread(make_certificates, tmp_path / "renewed")
    files = await asyncio.to_thread(put_files, tmp_path, tls_of(certificates))
    async with serve_locket(certificates) as locket:
        followed = await asyncio.to_thread(follow_files, files, clock=lambda: now)
        connections = Connections(locket.address, followed, KEEP_ALIVE)
        lock = LocketLock(LocketClient(connections), ttl=TTL, retry_interval=LONG)
        await lock.acquire(NOTE)

        await locket.kill()
        locket.certificates = renewed
        await locket.start()
        await asyncio.to_thread(put_files, tmp_path, tls_of(renewed))
        now += 60.0
        await lock.acquire(NOTE)
        await connections.close()

    assert owner_of(locket) == NOTE.owner


async def test_files_that_cannot_be_looked_at_do_not_hold_up_a_call(locket: Locket) -> None:
    """Such as on a disk that does not answer."""
    followed = await asyncio.to_thread(follow_files, tls_of(locket.certificates))
    connections = Connections(locket.address, followed, KEEP_ALIVE)
    lock = LocketLock(LocketClient(connections), ttl=TTL, retry_interval=LONG)
    await asyncio.to_thread(followed._lock.acquire)
    try:
        await lock.acquire(NOTE)
        await lock.acquire(NOTE)
    finally:
        followed._lock.release()
    await connections.close()

    assert owner_of(locket) == NOTE.owner


async def test_files_that_do_not_fit_together_are_said_so(certificates: Certificates, tmp_path: Path) -> None:
    other = await asyncio.to_thread(lambda: Authority(tmp_path).client("other"))
    tls = dataclasses.replace(tls_of(certificates), key_file=other.key)

    with pytest.raises(Invalid, match="not a certificate and its unencrypted key"):
        async with open_locket("127.0.0.1:1", tls, KEEP_ALIVE):
            pass


# Keep-alive


def test_a_connection_is_never_tested_without_a_call() -> None:
    """Locket's server closes connections of clients that do so."""
    assert dict(channel_options(KEEP_ALIVE))["grpc.keepalive_permit_without_calls"] == 0


def test_pings_are_ten_seconds_apart_at_least_or_there_are_none() -> None:
    often, never = dict(channel_options(KeepAlive(1, 22))), dict(channel_options(KeepAlive(0, 0)))

    assert (often["grpc.keepalive_time_ms"], often["grpc.keepalive_timeout_ms"]) == (10_000, 22_000)
    assert "grpc.keepalive_time_ms" not in never
