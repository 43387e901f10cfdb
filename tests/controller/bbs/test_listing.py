"""Covers listings: any cut of the bytes, broken records, broken bodies, and a platform's worth of LRPs."""

import itertools
import ssl
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.bbs.client import open_bbs
from controller.bbs.listing import BrokenListing, RecordReader
from protos.bbs.desired_lrp_pb2 import (
    DesiredLRP,
    DesiredLRPKey,
    DesiredLRPResource,
    DesiredLRPSchedulingInfo,
    ProtoRoutes,
)
from protos.bbs.desired_lrp_requests_pb2 import DesiredLRPSchedulingInfosResponse
from protos.bbs.error_pb2 import Error
from reconcile.errors import Conflict, Unavailable
from tests.conftest import PassTime
from tests.controller.bbs.peers import Answer, Then, answer, head, passing_time, serve

pytestmark = pytest.mark.usefixtures("servers")


def info(guid: str, rootfs: str = "docker:///library/nginx#1") -> DesiredLRPSchedulingInfo:
    return DesiredLRPSchedulingInfo(
        desired_lrp_key=DesiredLRPKey(process_guid=guid, domain="cf-apps", log_guid=f"app-{guid}"),
        annotation="1.0",
        instances=2,
        desired_lrp_resource=DesiredLRPResource(root_fs=rootfs),
        routes=ProtoRoutes(routes={"cf-router": b"[]"}),
    )


def listing(*infos: DesiredLRPSchedulingInfo) -> bytes:
    return DesiredLRPSchedulingInfosResponse(desired_lrp_scheduling_infos=infos).SerializeToString()


def split(*chunks: bytes) -> list[tuple[int, bytes]]:
    reader = RecordReader()
    fields = [field for chunk in chunks for field in reader.feed(chunk)]
    reader.finish()
    return fields


FIELDS = [
    (b"\x12\x03abc", (2, b"abc")),
    (b"\x12\x00", (2, b"")),
    (b"\x12\xac\x02" + b"x" * 300, (2, b"x" * 300)),
    (b"\x0a\x01e", (1, b"e")),
    (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),  # a number
    (b"\x19" + b"8" * 8, None),
    (b"\x1d" + b"4" * 4, None),
    (b"\xfa\x01\x02hi", (31, b"hi")),
]


@given(st.lists(st.sampled_from(FIELDS)), st.lists(st.integers(0, 2000)))
def test_any_cut_of_the_bytes_gives_the_same_records(
    fields: list[tuple[bytes, tuple[int, bytes] | None]], cuts: list[int]
) -> None:
    body = b"".join(data for data, _ in fields)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    assert split(*(body[a:b] for a, b in itertools.pairwise(edges))) == [
        field for _, field in fields if field
    ]


@pytest.mark.parametrize(
    "body",
    [b"\x12", b"\x12\x05abc", b"\x13", b"\x00\x00", b"\x12" + b"\xff" * 11, b"\x12\xff\xff\xff\xff\x0f"],
)
def test_what_is_no_list_of_records_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenListing):
        split(body)
    with pytest.raises(BrokenListing):
        split(*(body[i : i + 1] for i in range(len(body))))


async def test_only_docker_lrps_are_given_when_asked_for(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    odd = info("odd", "preloaded:docker:")
    body = listing(info("a"), info("b", "preloaded:cflinuxfs4"), odd, info("c"))
    async with serve(server_tls, [answer(body)] * 2) as peer, open_bbs(peer.address, tls=tls) as bbs:
        docker = [one.process_guid async for one in bbs.list_scheduling_infos("cf-apps", docker_only=True)]
        every = [one.process_guid async for one in bbs.list_scheduling_infos()]

    assert docker == ["a", "c"]
    assert every == ["a", "b", "odd", "c"]


async def test_a_broken_record_is_counted_and_costs_only_itself(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    body = listing(info("a")) + b"\x12\x02\x0a\x7f" + listing(info("b"))
    async with serve(server_tls, [answer(body)]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        infos = bbs.list_scheduling_infos()
        guids = [one.process_guid async for one in infos]

    assert guids == ["a", "b"]
    assert infos.skipped == 1


async def test_a_listed_definition_keeps_what_we_do_not_know(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    record = DesiredLRP(process_guid="p").SerializeToString() + b"\xfa\x3f\x02hi"
    body = b"\x12" + bytes([len(record)]) + record
    async with serve(server_tls, [answer(body)]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        (lrp,) = [one async for one in bbs.list_desired_lrps("cf-apps")]

    assert lrp.definition == record


async def test_an_error_in_the_answer_is_raised(server_tls: ssl.SSLContext, tls: ssl.SSLContext) -> None:
    error = Error(type=Error.ResourceConflict, message="the requested resource is in a conflicting state")
    body = DesiredLRPSchedulingInfosResponse(error=error).SerializeToString()
    async with serve(server_tls, [answer(body)]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        with pytest.raises(
            Conflict, match="scheduling_infos/list: the requested resource is in a conflicting"
        ):
            [one async for one in bbs.list_scheduling_infos()]


WHOLE = listing(info("a"), info("b"))


@pytest.mark.parametrize(
    "broken",
    [
        Answer(answer(WHOLE).data[:-3], Then.CLOSE),
        Answer(answer(WHOLE).data[:-3], Then.RESET),
        Answer(answer(WHOLE).data[:-3], Then.HANG),
        answer(WHOLE[:-3]),
        answer(WHOLE + b"\x13"),
    ],
)
async def test_a_listing_that_ends_too_early_is_a_failure(
    broken: Answer, server_tls: ssl.SSLContext, tls: ssl.SSLContext, pass_time: PassTime
) -> None:
    async with (
        serve(server_tls, [broken]) as peer,
        open_bbs(peer.address, tls=tls, timeout=60.0) as bbs,
        passing_time(peer, pass_time, 60.0),
    ):
        with pytest.raises(Unavailable):
            [one async for one in bbs.list_scheduling_infos()]

    assert len(peer.requests) == 1  # records were given already: not for this layer to begin again


async def test_a_listing_is_asked_for_again_until_it_begins(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    script = [
        answer(status="503 Service Unavailable"),
        Answer(then=Then.CLOSE),
        Answer(
            head("Content-Type: application/x-protobuf") + WHOLE, Then.CLOSE
        ),  # cut or whole? nobody knows
        answer(WHOLE),
    ]
    async with serve(server_tls, script) as peer, open_bbs(peer.address, tls=tls) as bbs:
        guids = [one.process_guid async for one in bbs.list_scheduling_infos()]

    assert guids == ["a", "b"]
    assert [request.connection for request in peer.requests] == [1, 2, 3, 4]


async def test_a_platform_of_lrps_needs_little_memory(
    server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    count = 50_000
    body = listing(info("a"), *[info(f"g{i}", "preloaded:cflinuxfs4") for i in range(count)], info("b"))
    async with serve(server_tls, [answer(body)]) as peer, open_bbs(peer.address, tls=tls) as bbs:
        tracemalloc.start()
        guids = [one.process_guid async for one in bbs.list_scheduling_infos(docker_only=True)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert guids == ["a", "b"]
    assert len(body) > 3_000_000
    # What the server keeps to send counts too, so the body itself is part of it, once.
    assert peak < len(body) + 2_000_000
