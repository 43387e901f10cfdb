"""The client of the agent: an agent that is away, hangs, is old, or has another certificate."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.file_values import CHECK_EVERY
from controller.loggregator import AgentClient, Component, open_agent
from controller.loggregator.client import LIMIT
from controller.loggregator.connection import AgentConnection
from controller.mutual_tls import MutualTls
from reconcile.app_log_lines import AppLogLine, SourceType
from reconcile.errors import Invalid, Unavailable
from reconcile.lrps import AppGuid
from tests.conftest import PassTime
from tests.simulators.certificates import Authority, Certificates, make_certificates
from tests.simulators.loggregator import Agent, Fault, serve_agent

pytestmark = pytest.mark.usefixtures("servers")

APP = AppGuid("app-1")
COMPONENT = Component("docker_cache", "docker_cache", "vm-1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def agent(certificates: Certificates) -> AsyncIterator[Agent]:
    async with serve_agent(certificates) as agent:
        yield agent


@pytest.fixture
async def client(agent: Agent, certificates: Certificates) -> AsyncIterator[AgentClient]:
    async with open_agent(agent.address, tls_of(certificates), COMPONENT) as client:
        yield client


def tls_of(certificates: Certificates) -> MutualTls:
    return MutualTls(certificates.ca, certificates.client.certificate, certificates.client.key)


def line(text: str) -> AppLogLine:
    return AppLogLine(APP, SourceType.STAGING, text, 1)


async def test_batches_go_over_one_connection_by_the_acknowledged_call(
    agent: Agent, client: AgentClient
) -> None:
    await client.send([line("one"), line("two")])
    await client.send([line("three")])

    assert agent.texts(APP) == ["one", "two", "three"]
    assert (agent.batches, agent.methods) == ([2, 1], ["Send", "Send"])


async def test_an_agent_that_is_away_is_found_when_it_is_back(agent: Agent, client: AgentClient) -> None:
    await agent.stop()
    with pytest.raises(Unavailable, match="unavailable"):
        await client.send([line("lost")])
    await agent.start()
    await client.send([line("back")])

    assert agent.texts(APP) == ["back"]


async def test_an_agent_that_restarts_between_two_batches_gets_the_second(
    agent: Agent, client: AgentClient
) -> None:
    await client.send([line("one")])
    await agent.stop()
    await agent.start()
    try:
        await client.send([line("two")])
    except Unavailable:  # the end of the old connection was not seen yet
        await client.send([line("two")])

    assert agent.texts(APP) == ["one", "two"]


async def test_a_very_old_agent_gets_the_stream(agent: Agent, client: AgentClient) -> None:
    agent.knows_send = False
    await client.send([line("one")])
    await client.send([line("two")])
    await agent.until("two")

    assert agent.texts(APP) == ["one", "two"]
    assert agent.methods == ["Send", "BatchSender"], "it is asked once, and one stream stays open"


async def test_a_stream_that_an_old_agent_has_ended_is_opened_again(
    agent: Agent, client: AgentClient
) -> None:
    agent.knows_send = False
    await client.send([line("one")])
    await agent.until("one")
    await agent.stop()
    await agent.start()
    async with asyncio.timeout(60):
        while "two" not in agent.texts(APP):
            try:
                await client.send([line("two")])
            except Unavailable:
                continue
            await asyncio.sleep(0.01)

    assert agent.methods.count("BatchSender") >= 2


async def test_an_agent_that_hangs_is_given_up(
    agent: Agent, client: AgentClient, pass_time: PassTime
) -> None:
    agent.faults = [Fault.HANG]
    sending = asyncio.ensure_future(client.send([line("lost")]))
    async with asyncio.timeout(60):
        await agent.is_called.wait()
    await pass_time(LIMIT)
    with pytest.raises(Unavailable, match="did not answer within 5 s"):
        await sending
    await client.send([line("next")])

    assert agent.texts(APP) == ["next"]


async def test_a_batch_that_the_agent_will_never_take_is_told_apart(
    agent: Agent, client: AgentClient
) -> None:
    agent.faults = [Fault.REFUSED]
    with pytest.raises(Invalid, match="resource-exhausted"):
        await client.send([line("large")])
    await client.send([line("small")])

    assert agent.texts(APP) == ["small"]


async def test_an_agent_with_another_name_is_not_believed(certificates: Certificates) -> None:
    other = certificates.authority.server("127.0.0.1", "localhost", file="no-agent")
    async with (
        Agent(certificates, server=other) as agent,
        open_agent(agent.address, tls_of(certificates), COMPONENT) as client,
    ):
        with pytest.raises(Unavailable):
            await client.send([line("lost")])

        assert agent.envelopes == []


async def test_certificates_are_followed(tmp_path: Path) -> None:
    """Both sides get certificates of another authority while the client is open."""
    certificates, other = make_certificates(tmp_path / "old"), make_certificates(tmp_path / "new")
    now, own = 0.0, tmp_path / "own"
    own.mkdir()
    tls = MutualTls(own / "ca.crt", own / "client.crt", own / "client.key")

    def install(which: Certificates) -> None:
        pair = which.client
        for source, target in zip(
            (which.ca, pair.certificate, pair.key),
            (tls.ca_cert_file, tls.cert_file, tls.key_file),
            strict=True,
        ):
            shutil.copy(source, target)

    install(certificates)
    async with serve_agent(certificates) as first, serve_agent(other) as second:
        client = AgentClient(AgentConnection(first.address, tls, clock=lambda: now), COMPONENT)
        await client.send([line("one")])
        moved = AgentClient(AgentConnection(second.address, tls, clock=lambda: now), COMPONENT)
        with pytest.raises(Unavailable):
            await moved.send([line("lost")])
        install(other)
        now += CHECK_EVERY
        await moved.send([line("two")])
        await client.close()
        await moved.close()

        assert (first.texts(APP), second.texts(APP)) == (["one"], ["two"])


async def test_files_that_do_not_fit_are_used_once_they_do(
    agent: Agent, certificates: Certificates, tmp_path: Path
) -> None:
    """An instance that takes over in the middle of a rotation needs no agent for its work."""
    own = tmp_path / "client.key"
    own.write_bytes(Authority(tmp_path).client("somebody").key.read_bytes())
    tls = MutualTls(certificates.ca, certificates.client.certificate, own)
    async with open_agent(agent.address, tls, COMPONENT) as client:
        with pytest.raises(Unavailable, match=r"client\.key"):
            await client.send([line("lost")])
        own.write_bytes(certificates.client.key.read_bytes())
        await client.send([line("sent")])

    assert agent.texts(APP) == ["sent"]
