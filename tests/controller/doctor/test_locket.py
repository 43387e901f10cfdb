"""Locket as the doctor finds it: the simulator speaks real TLS, and each way to fail names what to look at."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.doctor.findings import Finding, Level
from controller.doctor.locket import check_locket, judge_holder
from controller.leadership.ports import Holder, HolderNote, parse_holder
from controller.locket.lock import LOCK_KEY
from tests.contracts.distribution import free_port
from tests.controller.doctor.conftest import Settings, all_of, config_of, proxy_of_nobody, the_one
from tests.simulators.certificates import Authority, Certificates
from tests.simulators.locket import Locket, serve_locket

NOTE = HolderNote("vm-1", "run-1", "10.0.0.1:17090", 1_700_000_000.0, "0.1.0")


@pytest.fixture
def settings(settings: Settings, certificates: Certificates) -> Settings:
    return settings | {
        "uuid": "vm-1",
        "locket_address": f"127.0.0.1:{free_port()}",
        "locket_ca_cert_file": str(certificates.ca),
        "locket_client_cert_file": str(certificates.client.certificate),
        "locket_client_key_file": str(certificates.client.key),
    }


@pytest.fixture
async def locket(servers: None, certificates: Certificates, settings: Settings) -> AsyncIterator[Locket]:
    async with serve_locket(certificates) as locket:
        settings["locket_address"] = locket.address
        yield locket


async def found_in(settings: Settings) -> list[Finding]:
    return await all_of(check_locket(await config_of(settings)))


async def test_without_an_address_nobody_is_asked(settings: Settings) -> None:
    plain = {key: value for key, value in settings.items() if not key.startswith("locket")}

    assert await found_in(plain) == []


async def test_a_locket_that_nobody_has_asked_for_the_lock_is_well(
    locket: Locket, settings: Settings
) -> None:
    (found,) = await found_in(settings)

    assert (found.check, found.level) == ("locket", Level.OK)
    assert found.text == f"{locket.address} answers; nobody holds the lock, so no instance is active"
    assert [call.method for call in locket.calls] == ["Fetch"], "the lock is not touched"


async def test_the_holder_of_the_lock_is_named(locket: Locket, settings: Settings) -> None:
    locket.state.steal(LOCK_KEY, NOTE.owner, NOTE.as_text())
    (own,) = await found_in(settings)
    (other,) = await found_in(settings | {"uuid": "vm-2"})

    assert own.text.endswith(
        "instance vm-1 at 10.0.0.1:17090 since 2023-11-14T22:13:20+00:00 holds the lock (this one)"
    )
    assert other.text.endswith("holds the lock")


def test_another_program_that_holds_the_lock_is_a_warning() -> None:
    found = judge_holder("locket.example:8891", Holder("somebody", None), "vm-1")

    assert (found.level, found.text) == (
        Level.WARNING,
        "locket.example:8891 answers; another program holds the lock: somebody",
    )
    assert judge_holder("l:1", parse_holder(NOTE.owner, NOTE.as_text()), "vm-1").level is Level.OK


async def test_a_refused_connection_names_the_address(settings: Settings) -> None:
    found = the_one(await found_in(settings))

    assert found.level is Level.PROBLEM
    assert settings["locket_address"] in found.text
    assert "check locket_address" in found.advice


@pytest.mark.usefixtures("servers")
async def test_a_proxy_before_a_locket_that_is_gone_leads_to_no_certificate(settings: Settings) -> None:
    async with proxy_of_nobody() as address:
        found = the_one(await found_in(settings | {"locket_address": address}))

    assert found.level is Level.PROBLEM
    assert found.text == f"{address} closed the connection during the TLS handshake"
    assert found.advice.startswith("check that Locket runs")
    assert "cert" not in found.advice


async def test_a_locket_of_another_authority_leads_to_the_ca_file(
    locket: Locket, settings: Settings, certificates: Certificates
) -> None:
    settings["locket_ca_cert_file"] = str(certificates.foreign_ca)

    found = the_one(await found_in(settings))

    assert (found.level, "to locket_ca_cert_file" in found.advice) == (Level.PROBLEM, True)


@pytest.mark.parametrize("which", ["foreign_client", "expired_client"])
async def test_a_certificate_that_locket_refuses_leads_to_its_file(
    which: str, locket: Locket, settings: Settings, certificates: Certificates
) -> None:
    pair = getattr(certificates, which)
    settings |= {"locket_client_cert_file": str(pair.certificate), "locket_client_key_file": str(pair.key)}

    found = the_one(await found_in(settings))

    assert (found.level, "check locket_client_cert_file" in found.advice) == (Level.PROBLEM, True)


@pytest.mark.usefixtures("servers")
async def test_a_certificate_for_another_name_leads_to_the_address(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    served = dataclasses.replace(
        certificates, ca=authority.certificate, server=authority.server("locket.example")
    )
    settings["locket_ca_cert_file"] = str(authority.certificate)
    async with serve_locket(served) as locket:
        found = the_one(await found_in(settings | {"locket_address": locket.address}))

    assert (found.level, "use a name in locket_address" in found.advice) == (Level.PROBLEM, True)


async def test_files_that_do_not_fit_together_are_a_problem(
    locket: Locket, settings: Settings, certificates: Certificates
) -> None:
    settings["locket_client_key_file"] = str(certificates.server.key)

    found = the_one(await found_in(settings))

    assert (found.level, str(certificates.server.key) in found.text) == (Level.PROBLEM, True)
    assert locket.calls == []


@pytest.mark.usefixtures("servers")
async def test_a_host_without_a_locket_is_a_problem(settings: Settings) -> None:
    for address in ("no-such-host.invalid:8891", "127.0.0.1:99999"):
        found = the_one(await found_in(settings | {"locket_address": address}))
        assert (found.level, "check locket_address" in found.advice) == (Level.PROBLEM, True)
