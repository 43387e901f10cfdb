"""The BBS as the doctor finds it: the simulator speaks real TLS, and each way to fail names what to look at."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from controller.doctor.bbs import check_bbs, check_events, judge_cells
from controller.doctor.diagnosis import Check, run_check
from controller.doctor.findings import Level
from reconcile.lrps import Cell
from reconcile.store_markers import marker_of
from tests.conftest import PassTime
from tests.controller.doctor.conftest import Settings, all_of, config_of, levels, the_one
from tests.simulators import registry as registries
from tests.simulators.bbs import Bbs, serve_bbs
from tests.simulators.bbs.faults import Fault
from tests.simulators.bbs.state import upsert_domain
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Authority, Certificates
from tests.stores import open_store


@pytest.fixture
async def bbs(servers: None, certificates: Certificates, settings: Settings) -> AsyncIterator[Bbs]:
    async with serve_bbs(certificates) as serving:
        settings["bbs_address"] = serving.url
        yield serving


async def test_a_bbs_with_a_cell_is_all_well(bbs: Bbs, settings: Settings) -> None:
    async with SimulatedCell(bbs, CellSettings()):
        found = await all_of(check_bbs(await config_of(settings)))

    assert levels(found) == [Level.OK, Level.OK]
    assert [each.check for each in found] == ["bbs", "cells"]
    assert found[0].text == f"{bbs.url} answers"
    assert found[1].text == "1 of 1 registered cells run Docker images"


async def test_no_cell_is_a_warning(bbs: Bbs, settings: Settings) -> None:
    warned = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (warned.level, warned.text) == (Level.WARNING, "no cell is registered")


def test_no_cell_for_docker_images_is_a_problem() -> None:
    stacks, docker = Cell("c-1", "z1", ()), Cell("c-2", "z1", ("docker",))

    assert judge_cells([stacks, stacks]).level is Level.PROBLEM
    assert judge_cells([stacks, stacks]).text == "none of 2 registered cells runs Docker images"
    assert judge_cells([stacks, docker]).text == "1 of 2 registered cells run Docker images"


async def test_both_event_streams_are_opened_and_left(bbs: Bbs, settings: Settings) -> None:
    (found,) = await all_of(check_events(await config_of(settings)))

    assert (found.check, found.level) == ("events", Level.OK)
    assert bbs.requests["/v1/events/tasks.r1"] == bbs.requests["/v1/events/lrp_instances.r1"] == 1
    async with asyncio.timeout(60.0):
        while bbs.streams:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.01)


async def test_an_event_stream_that_is_refused_is_a_problem(bbs: Bbs, settings: Settings) -> None:
    bbs.faults.order(Fault.UNAVAILABLE, "/v1/events/lrp_instances.r1")

    found = the_one(await all_of(check_events(await config_of(settings))))

    assert (found.level, found.check) == (Level.PROBLEM, "events")
    assert "/v1/events/lrp_instances.r1: HTTP status 503" in found.text
    assert "check that a BBS is active" in found.advice


async def test_a_refused_connection_names_the_address(settings: Settings) -> None:
    found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert found.level is Level.PROBLEM
    assert settings["bbs_address"] in found.text
    assert "check bbs_address" in found.advice


async def test_a_bbs_of_another_authority_leads_to_the_ca_file(
    bbs: Bbs, settings: Settings, certificates: Certificates
) -> None:
    settings["bbs_ca_cert_file"] = str(certificates.foreign_ca)

    found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, "bbs_ca_cert_file" in found.advice) == (Level.PROBLEM, True)


@pytest.mark.parametrize("which", ["foreign_client", "expired_client"])
async def test_a_certificate_that_the_bbs_refuses_leads_to_its_file(
    which: str, bbs: Bbs, settings: Settings, certificates: Certificates
) -> None:
    pair = getattr(certificates, which)
    settings |= {"bbs_client_cert_file": str(pair.certificate), "bbs_client_key_file": str(pair.key)}

    for check in (check_bbs, check_events):
        found = the_one(await all_of(check(await config_of(settings))))
        assert found.level is Level.PROBLEM
        assert "check bbs_client_cert_file" in found.advice  # by its alert, or since it hung up


async def test_a_key_of_another_certificate_is_named(
    bbs: Bbs, settings: Settings, certificates: Certificates
) -> None:
    settings["bbs_client_key_file"] = str(certificates.server.key)

    found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, str(certificates.server.key) in found.text) == (Level.PROBLEM, True)
    assert "bbs_client_cert_file" in found.advice


@pytest.mark.usefixtures("servers")
async def test_an_expired_certificate_of_the_bbs_is_told_from_a_wrong_authority(
    settings: Settings, certificates: Certificates
) -> None:
    async with serve_bbs(dataclasses.replace(certificates, server=certificates.expired_server)) as bbs:
        settings["bbs_address"] = bbs.url
        found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, "expired" in found.text) == (Level.PROBLEM, True)
    assert "renew the certificate of the server" in found.advice


@pytest.mark.usefixtures("servers")
async def test_a_certificate_for_another_name_leads_to_the_address(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    other = dataclasses.replace(certificates, server=authority.server("other.example"))
    settings["bbs_ca_cert_file"] = str(authority.certificate)
    async with serve_bbs(other) as bbs:
        settings["bbs_address"] = bbs.url
        found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, "bbs_address" in found.advice) == (Level.PROBLEM, True)


@pytest.mark.usefixtures("servers")
async def test_something_without_tls_at_the_address_is_recognised(settings: Settings) -> None:
    with registries.serve() as plain:
        settings["bbs_address"] = f"https://{plain.address}"
        found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert found.level is Level.PROBLEM
    assert found.advice == "check bbs_address: the server at this address does not speak TLS"


async def test_an_address_that_cannot_be_dialled_is_said(settings: Settings) -> None:
    settings["bbs_address"] = "https://127.0.0.1:88890"

    found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, "write https://host:port" in found.text) == (Level.PROBLEM, True)


async def test_what_is_no_bbs_is_a_problem(bbs: Bbs, settings: Settings) -> None:
    """The private registry, say, behind the same authority."""
    with registries.serve(tls=bbs._tls) as other:
        settings["bbs_address"] = f"https://{other.address}"
        found = the_one(await all_of(check_bbs(await config_of(settings))))

    assert (found.level, "check that bbs_address leads to a BBS" in found.advice) == (Level.PROBLEM, True)


async def test_a_bbs_that_hangs_after_its_ping_leaves_what_was_found_until_then(
    bbs: Bbs, settings: Settings, pass_time: PassTime
) -> None:
    bbs.faults.order(Fault.HANG, "/v1/cells/list.r1", calls=9)
    settings["communication_timeout"] = "1h"
    config = await config_of(settings)

    check = Check("bbs", config.bbs_address, partial(check_bbs, config), limit=60.0)
    checking = asyncio.create_task(run_check(check))
    async with asyncio.timeout(1000.0):
        while not bbs.requests["/v1/cells/list.r1"]:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.01)
        await pass_time(60.0)
        found = await checking

    assert levels(found) == [Level.OK, Level.PROBLEM]
    assert found[1].text == f"{bbs.url}: no answer within 60 s"
    assert found[1].advice


async def test_a_daemon_with_another_store_is_a_problem(bbs: Bbs, settings: Settings) -> None:
    config = await config_of(settings)
    async with open_store(config.database_url, journal_key=None, run_id="r") as store:
        upsert_domain(bbs.state, marker_of(store.store_id), 120)
        alone = await all_of(check_bbs(config))
        other = str(uuid4())
        upsert_domain(bbs.state, f"docker-cache-store-{other}", 120)
        beside = await all_of(check_bbs(config))

    assert [each.check for each in alone] == ["bbs", "cells"]
    assert [each.check for each in beside] == ["bbs", "cells", "other-stores"]
    assert beside[-1].level is Level.PROBLEM
    assert other in beside[-1].text
    assert str(store.store_id) not in beside[-1].text


async def test_without_a_database_every_store_is_another_one(bbs: Bbs, settings: Settings) -> None:
    upsert_domain(bbs.state, f"docker-cache-store-{uuid4()}", 120)

    found = await all_of(check_bbs(await config_of(settings)))

    assert found[-1].check == "other-stores"


async def test_a_database_that_cannot_be_read_may_be_the_one_that_is_marked(
    bbs: Bbs, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cache.db").write_bytes(b"this is no database" * 100)
    config = await config_of(settings)
    checks = []
    for _ in range(2):
        upsert_domain(bbs.state, f"docker-cache-store-{uuid4()}", 120)
        checks.append([each.check for each in await all_of(check_bbs(config))])

    assert checks == [["bbs", "cells"], ["bbs", "cells", "other-stores"]]
