"""The admin API as any gRPC client meets it: who is let in, health, reflection, pages and statuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from protos.admin import admin_pb2 as pb
from protos.admin.admin_pb2_grpc import AdminStub
from tests.daemon.environment import Environment, open_environment
from tests.daemon.operator import Operator, running_apps
from tests.simulators.bbs import Version
from tests.simulators.certificates import Pair, make_certificates

SERVICE = "docker_cache.admin.v1.Admin"


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version, start_delay=0.1, pulls=False) as opened:
        opened.settings |= {"start_paused": True}
        yield opened


@asynccontextmanager
async def channel_of(env: Environment, pair: Pair | None) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel with a certificate of a client, or with none."""
    credentials = credentials_of(env, pair)
    async with grpc.aio.secure_channel(env.settings["admin_address"], credentials) as channel:
        yield channel


def credentials_of(env: Environment, pair: Pair | None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        Path(env.settings["admin_ca_cert_file"]).read_bytes(),
        None if pair is None else pair.key.read_bytes(),
        None if pair is None else pair.certificate.read_bytes(),
    )


def own_pair(env: Environment) -> Pair:
    return Pair(Path(env.settings["admin_client_cert_file"]), Path(env.settings["admin_client_key_file"]))


@pytest.mark.parametrize("caller", ["no certificate", "a foreign one", "an expired one"])
async def test_who_has_no_good_certificate_is_not_let_in(env: Environment, caller: str) -> None:
    known = env.certificates
    pair = {
        "no certificate": None,
        "a foreign one": known.foreign_client,
        "an expired one": known.expired_client,
    }[caller]
    daemon = await env.started_daemon()

    async with channel_of(env, pair) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await AdminStub(channel).Pause(pb.PauseRequest(), timeout=60)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await Operator(env).runs("audit")).rows == []
    assert await daemon.stop() == 0


async def test_plain_text_is_not_let_in(env: Environment) -> None:
    await env.started_daemon()

    async with grpc.aio.insecure_channel(env.settings["admin_address"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await AdminStub(channel).Status(pb.StatusRequest(), timeout=60)


async def test_a_command_with_a_foreign_certificate_says_what_to_look_at(env: Environment) -> None:
    await env.started_daemon()
    foreign = make_certificates(env.directory / "foreign").client
    env.settings |= {
        "admin_client_cert_file": str(foreign.certificate),
        "admin_client_key_file": str(foreign.key),
    }
    env.write_config()

    answer = await Operator(env).runs("status")

    assert answer.status == 5
    assert "admin_" in answer.err
    assert answer.err.count("\n") == 1


async def test_a_server_of_another_name_is_not_trusted(env: Environment) -> None:
    await env.started_daemon()
    env.settings |= {"admin_server_name": "other.example"}
    env.write_config()

    assert (await Operator(env).runs("status")).status == 5


async def test_on_loopback_it_may_be_without_tls_when_that_is_said(env: Environment) -> None:
    kept = {key: value for key, value in env.settings.items() if not key.startswith("admin_")}
    env.settings = kept | {"admin_address": env.settings["admin_address"], "admin_without_tls": True}
    await env.started_daemon()
    operator = Operator(env)

    await operator.runs("resume")

    assert (await operator.runs("status")).row["paused"] is False
    assert (await operator.runs("audit")).row["caller"].startswith("without TLS, ipv4:127.0.0.1:")


async def test_an_address_that_is_taken_ends_the_start(env: Environment) -> None:
    env.settings |= {"admin_address": env.cache.address}
    daemon = await env.start_daemon()

    status = await daemon.ended()

    assert status == 4
    assert f"admin_address: cannot listen on {env.cache.address}" in daemon.text
    assert "Traceback" not in daemon.text


async def test_it_reports_its_health(env: Environment) -> None:
    await env.started_daemon()

    async with channel_of(env, own_pair(env)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_generic_client_finds_and_makes_its_calls(env: Environment) -> None:
    """As grpcurl does: without our .proto files."""
    await env.started_daemon()
    with grpc.secure_channel(env.settings["admin_address"], credentials_of(env, own_pair(env))) as channel:
        answer = await call_by_reflection(channel, "Status")

    assert answer.paused is True
    assert answer.cache_registry == env.cache.address


async def call_by_reflection(channel: grpc.Channel, name: str) -> Any:
    """Make a call of which only the name is known; the reflection client blocks, so it runs in a thread."""

    def call() -> Any:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        method = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)()
        answer = message_factory.GetMessageClass(method.output_type)
        make: Any = channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return make(request, timeout=60)

    return await asyncio.to_thread(call)


async def test_lists_come_in_pages(env: Environment) -> None:
    await running_apps(env, "a", "b", "c", instances=1)
    await env.started_daemon()
    async with channel_of(env, own_pair(env)) as channel:
        stub: Any = AdminStub(channel)
        found, token = [], ""
        while True:
            page = await stub.ListApps(pb.ListAppsRequest(page_size=2, page_token=token), timeout=60)
            assert len(page.apps) <= 2
            found += [app.app_name for app in page.apps]
            token = page.next_page_token
            if not token:
                break

    assert sorted(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("call", "request_", "status"),
    [
        ("ListApps", pb.ListAppsRequest(page_token="nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListJobs", pb.ListJobsRequest(page_size=-1), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListApps", pb.ListAppsRequest(filter=pb.Filter(images=["["])), grpc.StatusCode.INVALID_ARGUMENT),
        ("CacheImage", pb.CacheImageRequest(reference=":"), grpc.StatusCode.INVALID_ARGUMENT),
        ("GetCachedImages", pb.GetCachedImagesRequest(images=["nothing"]), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_wrong_has_its_status(
    env: Environment, call: str, request_: object, status: grpc.StatusCode
) -> None:
    await env.started_daemon()
    async with channel_of(env, own_pair(env)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(AdminStub(channel), call)(request_, timeout=60)

    assert refused.value.code() is status


async def test_two_plans_are_not_applied_at_once(env: Environment) -> None:
    await running_apps(env, "web")
    env.settings |= {"route_propagation_delay": "3s"}
    await env.started_daemon()
    async with channel_of(env, own_pair(env)) as channel:
        stub: Any = AdminStub(channel)
        entries = [entry async for entry in stub.Plan(pb.PlanRequest())]

        def apply() -> Any:
            return stub.Apply(iter([pb.ApplyRequest(entry=entry) for entry in entries]))

        first = apply()
        await anext(aiter(first))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(apply()))
        last = [event async for event in first][-1]

    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert "apply-running" in (refused.value.details() or "")
    assert last.state == pb.MIGRATION_STATE_DONE


async def test_restore_plans_and_applies_in_one_call(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()
    await Operator(env).runs("reconcile", "--apply", "--yes")
    assert env.is_from_cache(web)
    async with channel_of(env, own_pair(env)) as channel:
        stub: Any = AdminStub(channel)
        events = [each async for each in stub.Restore(pb.RestoreRequest(filter=pb.Filter(apps=["web"])))]

    assert events[-1].state == pb.MIGRATION_STATE_DONE
    assert not env.is_from_cache(web)


async def test_a_caller_that_stops_gets_the_end_of_what_has_begun(env: Environment) -> None:
    await running_apps(env, "a", "b", "c", instances=1)
    env.settings |= {"max_in_flight": 1}
    await env.started_daemon()
    async with channel_of(env, own_pair(env)) as channel:
        stub: Any = AdminStub(channel)
        entries = [entry async for entry in stub.Plan(pb.PlanRequest())]
        call = stub.Apply()
        for entry in entries:
            await call.write(pb.ApplyRequest(entry=entry))
        events = []
        async for event in call:
            events.append(event)
            if event.state == pb.MIGRATION_STATE_MIGRATING:
                break
        await call.write(pb.ApplyRequest(stop=pb.ApplyStop()))
        events += [event async for event in call]

    assert events[-1].state == pb.MIGRATION_STATE_DONE
    assert (events[-1].done, events[-1].total) == (1, 3)
    audit = (await Operator(env).runs("audit")).rows
    assert [row["outcome"] for row in audit] == ["done", "begun"]
