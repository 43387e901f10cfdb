"""The Loggregator agent as the doctor finds it; nothing that is wrong with it keeps the daemon from its work."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from controller.doctor.findings import Finding, Level
from controller.doctor.loggregator import check_loggregator
from tests.contracts.distribution import free_port
from tests.controller.doctor.conftest import Settings, all_of, config_of, the_one
from tests.simulators.certificates import Certificates
from tests.simulators.loggregator import Agent, Fault, serve_agent


@pytest.fixture
async def agent(servers: None, certificates: Certificates, settings: Settings) -> AsyncIterator[Agent]:
    async with serve_agent(certificates) as agent:
        settings["loggregator"] = keys(certificates, agent.port)
        yield agent


def keys(certificates: Certificates, port: int) -> dict[str, object]:
    return {
        "loggregator_use_v2_api": True,
        "loggregator_api_port": port,
        "loggregator_ca_path": str(certificates.ca),
        "loggregator_cert_path": str(certificates.client.certificate),
        "loggregator_key_path": str(certificates.client.key),
    }


async def found_in(settings: Settings) -> list[Finding]:
    return await all_of(check_loggregator(await config_of(settings)))


async def test_an_agent_that_is_told_nothing_is_not_asked(settings: Settings) -> None:
    assert await found_in(settings) == []


async def test_an_agent_that_takes_lines_is_well_and_gets_none(agent: Agent, settings: Settings) -> None:
    (found,) = await found_in(settings)

    assert (found.level, found.text) == (Level.OK, f"the agent at {agent.address} takes log lines")
    assert (agent.batches, agent.envelopes) == ([0], [])


async def test_without_an_agent_it_says_what_is_missing(
    settings: Settings, certificates: Certificates
) -> None:
    settings["loggregator"] = keys(certificates, free_port())
    found = the_one(await found_in(settings))

    assert (found.level, "loggr-forwarder-agent" in found.advice) == (Level.WARNING, True)


async def test_an_agent_that_takes_nothing_is_reported(agent: Agent, settings: Settings) -> None:
    agent.faults = [Fault.UNAVAILABLE]
    found = the_one(await found_in(settings))

    assert (found.level, "shutting down" in found.text) == (Level.WARNING, True)


@pytest.mark.parametrize("which", ["foreign_client", "expired_client"])
async def test_a_certificate_that_the_agent_refuses_leads_to_its_file(
    which: str, agent: Agent, settings: Settings, certificates: Certificates
) -> None:
    pair = getattr(certificates, which)
    files = {"loggregator_cert_path": str(pair.certificate), "loggregator_key_path": str(pair.key)}
    settings["loggregator"] = keys(certificates, agent.port) | files
    found = the_one(await found_in(settings))

    assert (found.level, "check loggregator_cert_path" in found.advice) == (Level.WARNING, True)


async def test_an_agent_of_another_authority_leads_to_the_ca_file(
    agent: Agent, settings: Settings, certificates: Certificates
) -> None:
    foreign = {"loggregator_ca_path": str(certificates.foreign_ca)}
    settings["loggregator"] = keys(certificates, agent.port) | foreign
    found = the_one(await found_in(settings))

    assert (found.level, "to loggregator_ca_path" in found.advice) == (Level.WARNING, True)


@pytest.mark.usefixtures("servers")
async def test_a_server_with_another_name_is_no_agent(settings: Settings, certificates: Certificates) -> None:
    async with Agent(certificates, server=certificates.server) as other:
        settings["loggregator"] = keys(certificates, other.port)
        found = the_one(await found_in(settings))

    assert (found.level, "loggregator_api_port" in found.advice) == (Level.WARNING, True)


async def test_files_that_do_not_fit_together_are_reported(
    agent: Agent, settings: Settings, certificates: Certificates
) -> None:
    wrong = dataclasses.replace(certificates.client, key=certificates.server.key)
    files = {"loggregator_cert_path": str(wrong.certificate), "loggregator_key_path": str(wrong.key)}
    settings["loggregator"] = keys(certificates, agent.port) | files
    found = the_one(await found_in(settings))

    assert (found.level, str(wrong.key) in found.text) == (Level.WARNING, True)
    assert agent.methods == []
