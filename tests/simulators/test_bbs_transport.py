"""The simulated BBS on the wire: TLS, statuses, faults of calls, passive and failing over."""

import asyncio
import ssl

import httpx
import pytest

from protos.bbs.desired_lrp_requests_pb2 import DesiredLRPByProcessGuidRequest, DesireLRPRequest
from protos.bbs.error_pb2 import Error
from protos.bbs.ping_pb2 import PingResponse
from tests.simulators.bbs import Bbs, Fault, serve_bbs
from tests.simulators.bbs_probe import INSTANCES, LIMIT, TASKS, probe, raw_stream, some_lrp
from tests.simulators.certificates import Certificates, Pair, client_context

pytestmark = pytest.mark.usefixtures("servers")

DESIRE = "/v1/desired_lrp/desire.r2"
PING = "/v1/ping"


async def ping(bbs: Bbs, ca: Certificates, pair: Pair | None) -> int:
    async with httpx.AsyncClient(verify=client_context(ca.ca, pair)) as client:
        return (await client.post(f"{bbs.url}{PING}")).status_code


async def test_it_lets_in_only_clients_of_its_authority(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs:
        assert await ping(bbs, certificates, certificates.client) == httpx.codes.OK
        for pair in (None, certificates.foreign_client, certificates.expired_client):
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                await ping(bbs, certificates, pair)


async def test_it_never_speaks_http_2(certificates: Certificates) -> None:
    context = client_context(certificates.ca, certificates.client)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serve_bbs(certificates) as bbs:
        _, writer = await asyncio.open_connection(bbs.host, bbs.port, ssl=context)
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")

        assert tls.selected_alpn_protocol() is None

        writer.close()
        await writer.wait_closed()


async def test_unknown_paths_and_methods_are_refused_by_status(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        missing = await probed.client.post("/v1/desired_lrps/list")
        wrong = await probed.client.get(DESIRE)
        head = await probed.client.head(TASKS)

    assert (missing.status_code, missing.text) == (404, "404 page not found\n")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    assert head.status_code == httpx.codes.METHOD_NOT_ALLOWED


async def test_all_paths_answer_503_while_it_migrates(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.is_migrating = True

        statuses = [(await probed.client.post(path)).status_code for path in (PING, TASKS, "/v1/nope")]

    assert statuses == [503, 503, 503]


async def test_a_passive_one_refuses_connections(certificates: Certificates) -> None:
    async with Bbs(certificates) as bbs:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(bbs.host, bbs.port)


async def test_a_change_of_the_active_node_ends_streams_refuses_and_keeps_the_data(
    certificates: Certificates,
) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed, raw_stream(bbs, INSTANCES) as stream:
        await probed.ok(DESIRE, DesireLRPRequest(desired_lrp=some_lrp(instances=0)))
        await stream.chunk()

        await bbs.stop_listening()
        assert await stream.rest() == b"0\r\n\r\n"
        with pytest.raises(httpx.ConnectError):
            await probed.client.post(PING)

        bbs.is_migrating = True
        await bbs.start_listening()
        assert (await probed.client.post(PING)).status_code == httpx.codes.SERVICE_UNAVAILABLE

        bbs.is_migrating = False
        assert (await probed.call(PING, PingResponse(), PingResponse)).available
        assert (list(bbs.state.desired), bbs.streams) == (["some-guid"], [])


async def test_a_failover_takes_its_time_and_comes_back_on_the_same_port(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        url = bbs.url

        await bbs.fail_over(0.01, 0.01)

        assert bbs.url == url
        assert (await probed.client.post(PING)).status_code == httpx.codes.OK


async def test_a_dropped_answer_leaves_the_operation_done(certificates: Certificates) -> None:
    """The ambiguous failure: a client that repeats the call is told ResourceExists."""
    request = DesireLRPRequest(desired_lrp=some_lrp(instances=0))
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.faults.order(Fault.DROP_AFTER, DESIRE)

        with pytest.raises(httpx.RemoteProtocolError):
            await probed.client.post(DESIRE, content=request.SerializeToString())

        assert await probed.error(DESIRE, request) == (
            Error.ResourceExists,
            "the requested resource already exists",
        )
        assert bbs.faults.happened[Fault.DROP_AFTER] == 1


async def test_a_call_dropped_before_does_nothing(certificates: Certificates) -> None:
    request = DesireLRPRequest(desired_lrp=some_lrp(instances=0))
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.faults.order(Fault.DROP_BEFORE, DESIRE)

        with pytest.raises(httpx.RemoteProtocolError):
            await probed.client.post(DESIRE, content=request.SerializeToString())

        assert not bbs.state.desired


async def test_ordered_503s_hold_for_their_number_of_calls(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.faults.order(Fault.UNAVAILABLE, PING, calls=2)

        statuses = [(await probed.client.post(PING)).status_code for _ in range(3)]

        assert statuses == [503, 503, 200]
        assert bbs.requests[PING] == 3


async def test_a_delayed_path_makes_an_impatient_client_give_up(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.faults.delay(PING, 60)

        with pytest.raises(httpx.ReadTimeout):
            await probed.client.post(PING, timeout=httpx.Timeout(LIMIT, read=0.05))


async def test_a_hanging_call_is_never_answered(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        bbs.faults.order(Fault.HANG)

        with pytest.raises(httpx.ReadTimeout):
            await probed.client.post(PING, timeout=httpx.Timeout(LIMIT, read=0.05))


async def test_a_panic_closes_the_connection_without_an_answer(certificates: Certificates) -> None:
    """An update without its update message, for a GUID that is there."""
    async with serve_bbs(certificates) as bbs, probe(bbs) as probed:
        await probed.ok(DESIRE, DesireLRPRequest(desired_lrp=some_lrp(instances=0)))
        request = DesiredLRPByProcessGuidRequest(process_guid="some-guid")

        with pytest.raises(httpx.RemoteProtocolError):
            await probed.client.post("/v1/desired_lrp/update", content=request.SerializeToString())

        assert (await probed.client.post(PING)).status_code == httpx.codes.OK
