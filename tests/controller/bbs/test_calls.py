"""Covers single calls against a real server: what is sent, sorted, repeated. Contents are in the contract suite."""

import asyncio
import re
import socket
import ssl

import pytest

from controller.bbs.client import open_bbs
from controller.tracing import tracing
from controller.transport import client_tls, open_calls
from protos.bbs.desired_lrp_requests_pb2 import DesireLRPRequest
from protos.bbs.domain_pb2 import DomainsResponse, UpsertDomainRequest
from protos.bbs.error_pb2 import Error
from protos.bbs.ping_pb2 import PingResponse
from protos.bbs.task_requests_pb2 import TaskLifecycleResponse
from reconcile.errors import Denied, DockerCacheError, Invalid, LeaseLost, NotFound, RateLimited, Unavailable
from reconcile.lrps import ProcessGuid, Pull
from reconcile.references import Rootfs
from tests.conftest import PassTime
from tests.controller.bbs.lrps import LRP
from tests.controller.bbs.peers import Answer, Then, answer, head, passing_time, serve
from tests.simulators.certificates import Certificates, server_context

pytestmark = pytest.mark.usefixtures("servers")

PONG = answer(PingResponse(available=True).SerializeToString())


async def test_a_call_is_a_post_with_a_request_id_of_32_hex_digits(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    async with serve(server_tls, [PONG, PONG]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        await bbs.ping()
        await bbs.ping()

    assert [request.line for request in peer.requests] == ["POST /v1/ping HTTP/1.1"] * 2
    first, second = (request.headers["x-vcap-request-id"] for request in peer.requests)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second
    assert peer.requests[0].headers["content-type"] == "application/x-protobuf"
    assert peer.requests[0].headers["accept-encoding"] == "identity"
    assert {request.connection for request in peer.requests} == {1}  # kept alive


async def test_calls_of_one_piece_of_work_have_the_id_of_its_log_lines(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    """The BBS writes it into its own lines, and attempts at the same call are one request."""
    busy = answer(status="503 Service Unavailable")
    async with serve(server_tls, [busy, PONG, PONG]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with tracing() as trace_id:
            await bbs.ping()
            await bbs.ping()

    assert [request.headers["x-vcap-request-id"] for request in peer.requests] == [trace_id] * 3


@pytest.mark.parametrize(
    "failure",
    [
        answer(status="503 Service Unavailable"),
        answer(b"busy", status="502 Bad Gateway"),
        Answer(then=Then.CLOSE),
        Answer(then=Then.RESET),
        Answer(answer(b"12345").data[:-2], Then.CLOSE),
        Answer(head("Content-Type: application/x-protobuf"), Then.CLOSE),
        Answer(b"SSH-2.0-OpenSSH\r\n", Then.CLOSE),
        answer(TaskLifecycleResponse(error=Error(type=Error.Deadlock)).SerializeToString(), then=Then.CLOSE),
        answer(b"\x0a\x05x", then=Then.CLOSE),
        Answer(head("X-Cf-Routererror: no_endpoints", "Content-Length: 0", status="404 Not Found")),
    ],
)
async def test_a_read_is_repeated_on_another_connection(
    failure: Answer, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    """The name may lead to another node by now, and only a new connection resolves it again."""
    async with serve(server_tls, [failure, PONG]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        await bbs.ping()

    first, second = peer.requests
    assert first.connection != second.connection
    assert first.headers["x-vcap-request-id"] == second.headers["x-vcap-request-id"]


async def test_a_read_is_repeated_after_silence(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext, pass_time: PassTime
) -> None:
    script = [Answer(then=Then.HANG), Answer(answer(b"x" * 9).data[:-3], Then.HANG), PONG]
    async with (
        serve(server_tls, script) as peer,
        open_bbs(peer.address, tls=tls, timeout=60.0) as bbs,
        passing_time(peer, pass_time, 60.0),
    ):
        await bbs.ping()

    assert [request.connection for request in peer.requests] == [1, 2, 3]


@pytest.mark.parametrize("date", ["Fri, 02 Jan 2026 03:04:05 GMT", None])
async def test_the_time_is_told_as_the_answer_has_it(
    date: str | None, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    lines = ("Content-Type: application/x-protobuf", "Content-Length: 0")
    told = Answer(head(*lines, *(() if date is None else (f"Date: {date}",))))
    async with serve(server_tls, [told]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        assert date == await bbs.fetch_date()

    assert [request.path for request in peer.requests] == ["/v1/ping"]


async def test_a_read_gives_up_after_five_attempts_with_the_last_failure(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    script = [answer(status="503 Service Unavailable")] * 9
    async with serve(server_tls, script) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(Unavailable, match="/v1/ping: HTTP status 503") as caught:
            await bbs.ping()

    assert caught.value.code == "HTTP-503"
    assert len(peer.requests) == 5


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (answer(status="404 Not Found"), Invalid, "UnknownRoute"),
        (answer(status="405 Method Not Allowed"), Invalid, "HTTP-405"),
        (answer(status="302 Found"), Invalid, "HTTP-302"),
        (answer(status="403 Forbidden"), Denied, "HTTP-403"),
        (Answer(head("Retry-After: 7", "Content-Length: 0", status="429 Too Many Requests")), RateLimited, "HTTP-429"),
        (Answer(head("Content-Type: text/html", "Content-Length: 0")), Invalid, "InvalidResponse"),
        (answer(TaskLifecycleResponse(error=Error(type=Error.ResourceNotFound)).SerializeToString()), NotFound, "ResourceNotFound"),
        (answer(TaskLifecycleResponse(error=Error(type=Error.InvalidRequest)).SerializeToString()), Invalid, "InvalidRequest"),
    ],
)  # fmt: skip
async def test_a_refused_read_is_not_repeated(
    refusal: Answer, kind: type[DockerCacheError], code: str, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    async with serve(server_tls, [refusal]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(kind) as caught:
            await bbs.list_domains()

    assert caught.value.code == code
    assert len(peer.requests) == 1


async def test_a_rate_limit_names_its_time(server_tls: ssl.SSLContext, tls: ssl.SSLContext) -> None:
    limited = Answer(head("Retry-After: 7", "Content-Length: 0", status="429 Too Many Requests"))
    async with serve(server_tls, [limited]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(RateLimited) as caught:
            await bbs.list_domains()

    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    "failure",
    [
        Answer(then=Then.CLOSE),
        Answer(then=Then.RESET),
        Answer(then=Then.HANG),
        answer(status="503 Service Unavailable"),
    ],
)
async def test_a_write_is_sent_once_whatever_becomes_of_it(
    failure: Answer, server_tls: ssl.SSLContext, tls: ssl.SSLContext, pass_time: PassTime
) -> None:
    """A first success with a lost answer would surface as a conflict with oneself."""
    script, pull = [failure] * 4, Pull(Rootfs("docker://cache/y#z"))
    async with (
        serve(server_tls, script) as peer,
        open_bbs(peer.address, tls=tls, timeout=60.0) as bbs,
        passing_time(peer, pass_time, 60.0),
    ):
        with pytest.raises(Unavailable):
            await bbs.desire_lrp(LRP, Rootfs("docker://cache/y#z"), None)
        with pytest.raises(Unavailable):
            await bbs.desire_another(LRP, ProcessGuid("another"), "d", pull, instances=2)
        with pytest.raises(Unavailable):
            await bbs.remove_desired_lrp(LRP.process_guid)
        with pytest.raises(Unavailable):
            await bbs.upsert_domain("d", ttl=1)

    changed, another, *_ = (DesireLRPRequest.FromString(request.body) for request in peer.requests[:2])
    assert len(peer.requests) == 4
    assert changed.desired_lrp.root_fs == "docker://cache/y#z"
    assert (another.desired_lrp.process_guid, another.desired_lrp.domain) == ("another", "d")
    assert another.desired_lrp.instances == 2


@pytest.mark.parametrize("served", ["127.0.0.2", "127.0.0.3"])
async def test_a_refused_address_leads_to_the_next_one_of_the_name(
    served: str, server_tls: ssl.SSLContext, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passive BBS does not listen: of a name's two addresses one refuses here."""

    async def two_addresses(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.3")]

    async with serve(server_tls, [PONG], host=served) as peer, open_bbs(peer.address, tls=tls) as bbs:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses)
        await bbs.ping()

    assert len(peer.requests) == 1


async def test_nobody_listening_is_unavailable(tls: ssl.SSLContext) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{bound.getsockname()[1]}"
        async with open_bbs(address, tls=tls) as bbs:
            with pytest.raises(Unavailable) as caught:
                await bbs.list_domains()

    assert caught.value.code == "ConnectionFailed"


async def test_a_server_of_another_name_is_refused(certificates: Certificates, tls: ssl.SSLContext) -> None:
    server_tls = server_context(certificates.ca, certificates.server)
    async with (
        serve(server_tls, [PONG], host="127.0.0.2") as peer,
        open_bbs(f"https://127.0.0.2:{peer.port}", tls=tls) as bbs,
    ):
        with pytest.raises(Denied) as caught:
            await bbs.ping()

    assert caught.value.code == "CertificateRefused"
    assert peer.requests == []


@pytest.mark.parametrize("what", ["foreign-server", "expired-server", "foreign-client", "expired-client"])
async def test_a_certificate_of_another_authority_or_time_is_refused(
    what: str, certificates: Certificates, server_tls: ssl.SSLContext
) -> None:
    pair, ca = certificates.client, certificates.ca
    if what == "foreign-server":
        ca = certificates.foreign_ca
    elif what == "expired-server":
        server_tls = server_context(certificates.ca, certificates.expired_server)
    else:
        pair = certificates.foreign_client if what == "foreign-client" else certificates.expired_client
    tls = client_tls(ca, cert_file=pair.certificate, key_file=pair.key)
    async with serve(server_tls, [PONG]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(DockerCacheError):
            await bbs.upsert_domain("d", ttl=1)

    assert peer.requests == []


async def test_a_client_without_a_certificate_is_refused(
    certificates: Certificates, server_tls: ssl.SSLContext
) -> None:
    nobody = ssl.create_default_context(cafile=str(certificates.ca))
    async with serve(server_tls, [PONG]) as peer, open_bbs(peer.address, tls=nobody) as bbs:
        with pytest.raises(DockerCacheError):
            await bbs.upsert_domain("d", ttl=1)

    assert peer.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8889",
        "localhost:8889",
        "https://",
        "https://h/v1",
        "",
        "https://h:bbs",
        "https://h:88890",
        "https://xn--:8889",
        "https://XN--:8889",
        "https://user:password@h:8889",
        "https://h:8889?a=b",
        "https://h:8889#a",
        "https://h..example:8889",
        f"https://{'h' * 64}:8889",
        "https://256.0.0.1:8889",
        "https://[::g]:8889",
        "https://h\u00f6st:8889",
        "https://h:8889\n",
    ],
)
async def test_an_address_must_be_a_plain_https_url(address: str, tls: ssl.SSLContext) -> None:
    with pytest.raises(Invalid, match="write https://host:port"):
        async with open_bbs(address, tls=tls):
            pass


async def test_a_domain_is_never_kept_fresh_for_ever_and_only_for_whole_seconds(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    async with serve(server_tls, [answer()]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        for ttl in (0, -1, 2**32):
            with pytest.raises(Invalid):
                await bbs.upsert_domain("d", ttl=ttl)
        await bbs.upsert_domain("d", ttl=2)

    assert [UpsertDomainRequest.FromString(request.body).ttl for request in peer.requests] == [2]


async def test_odd_bytes_in_a_text_do_not_cost_the_answer(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    body = DomainsResponse(domains=["good"]).SerializeToString() + b"\x12\x03b\xffd"
    async with serve(server_tls, [answer(body)]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        assert await bbs.list_domains() == {"good", "b\ufffdd"}


async def test_a_cancelled_call_gives_its_connection_back(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    async with (
        serve(server_tls, [Answer(then=Then.HANG), PONG]) as peer,
        open_bbs(peer.address, tls=tls) as bbs,
    ):
        calling = asyncio.create_task(bbs.remove_desired_lrp(LRP.process_guid))
        async with asyncio.timeout(60):
            while not peer.requests:  # noqa: ASYNC110 - the peer sets no event
                await asyncio.sleep(0.01)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await peer.hung_up.wait()
        await bbs.ping()

    assert [request.connection for request in peer.requests] == [1, 2]


class Leases:
    """Lets some questions pass, and refuses all later ones."""

    def __init__(self, passing: int) -> None:
        self.left = passing

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LeaseLost("another instance is active")


@pytest.mark.parametrize("passing", [0, 1])
async def test_a_process_that_is_not_active_any_more_sends_no_byte_of_a_change(
    passing: int, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    """It may have been active when the call was made, and not any more after the handshake."""
    lease = Leases(passing)
    async with (
        serve(server_tls, [PONG]) as peer,
        open_bbs(peer.address, tls=tls, check_active=lease.check) as bbs,
    ):
        with pytest.raises(LeaseLost):
            await bbs.remove_desired_lrp(ProcessGuid("app"))
        await bbs.ping()  # reading is harmless

    assert [request.path for request in peer.requests] == ["/v1/ping"]


async def test_a_change_whose_lease_ends_before_its_body_is_sent_has_no_effect(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    lease = Leases(2)
    async with (
        serve(server_tls, [answer()]) as peer,
        open_bbs(peer.address, tls=tls, check_active=lease.check) as bbs,
    ):
        with pytest.raises(LeaseLost):
            await bbs.upsert_domain("docker-cache-bridge", ttl=120)

    assert not [request for request in peer.requests if request.body]


async def test_a_change_of_the_active_process_is_sent_on_a_connection_that_is_kept(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    lease = Leases(6)
    async with (
        serve(server_tls, [answer(), answer(), PONG]) as peer,
        open_bbs(peer.address, tls=tls, check_active=lease.check) as bbs,
    ):
        await bbs.upsert_domain("docker-cache-bridge", ttl=120)
        await bbs.upsert_domain("docker-cache-bridge", ttl=120)
        with pytest.raises(LeaseLost):
            await bbs.upsert_domain("docker-cache-bridge", ttl=120)
        await bbs.ping()

    assert len(peer.requests) == 3
    assert {request.connection for request in peer.requests} == {1}


async def test_what_the_bbs_did_not_confirm_in_time_is_dropped(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    """A network that is whole again must not deliver what a process sent that is not active any more."""
    async with (
        serve(server_tls, [PONG]) as peer,
        open_calls(peer.address, tls=tls, timeout=5.0, unacknowledged=2.5) as calls,
        calls.stream("POST", "/v1/ping") as response,
    ):
        connection = response.extensions["network_stream"].get_extra_info("socket")

        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


async def test_a_client_that_is_checked_further_asks_both_and_the_first_one_is_as_before(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    lease = Leases(6)

    def refuse() -> None:
        raise Unavailable("bbs", "other-store-active", "not now")

    async with (
        serve(server_tls, [answer()]) as peer,
        open_bbs(peer.address, tls=tls, check_active=lease.check) as bbs,
    ):
        with pytest.raises(Unavailable, match="not now"):
            await bbs.checked_by(refuse).remove_desired_lrp(ProcessGuid("app"))
        await bbs.upsert_domain("docker-cache-store-1", ttl=120)
        lease.left = 0
        with pytest.raises(LeaseLost):
            await bbs.checked_by(lambda: None).remove_desired_lrp(ProcessGuid("app"))

    assert [request.path for request in peer.requests] == ["/v1/domains/upsert"]
