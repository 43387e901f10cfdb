"""The private registry's address as cells may see it."""

import pytest

from controller.doctor.addresses import check_cells_view
from controller.doctor.findings import Finding, Level
from tests.controller.doctor.conftest import Settings, all_of, config_of


async def look(settings: Settings, address: str, *, plain_http: bool = False) -> list[Finding]:
    settings["cache_registry"] = {"address": address, "plain_http": plain_http}
    return await all_of(check_cells_view(await config_of(settings)))


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "localhost:5000", "127.0.0.9"])
async def test_a_loopback_address_leads_cells_to_themselves(address: str, settings: Settings) -> None:
    (found,) = await look(settings, address)

    assert (found.check, found.level) == ("cells-view", Level.WARNING)
    assert "cache_registry.address" in found.advice


@pytest.mark.parametrize("address", ["cache.service.cf.internal:8080", "cache.service.cf.internal"])
async def test_a_name_of_bosh_dns_is_known_on_vms_of_the_deployment_alone(
    address: str, settings: Settings
) -> None:
    bosh, unresolved = await look(settings, address)

    assert (bosh.level, unresolved.level) == (Level.WARNING, Level.WARNING)
    assert "under this name" in bosh.advice
    assert "BOSH DNS" in bosh.advice
    assert "does not resolve on this machine" in unresolved.text


async def test_a_name_that_does_not_resolve_here_is_a_warning(settings: Settings) -> None:
    (found,) = await look(settings, "cache.invalid:5000")

    assert (found.level, "cache.invalid does not resolve on this machine: " in found.text) == (
        Level.WARNING,
        True,
    )
    assert "DNS" in found.advice


async def test_a_registry_without_tls_has_to_be_listed_with_its_port(settings: Settings) -> None:
    (found,) = await look(settings, "192.0.2.7:5000", plain_http=True)
    (default,) = await look(settings, "192.0.2.7", plain_http=True)

    assert found.level is default.level is Level.WARNING
    assert "list 192.0.2.7:5000 in grootfs.insecure_docker_registry_list" in found.advice
    assert "list 192.0.2.7:80 in " in default.advice


async def test_an_address_that_resolves_is_well(settings: Settings) -> None:
    (found,) = await look(settings, "192.0.2.7:5000")

    assert (found.level, found.advice) == (Level.OK, "")


async def test_a_port_that_cannot_be_dialled_is_said(settings: Settings) -> None:
    (found,) = await look(settings, "192.0.2.7:99999")

    assert (found.level, found.advice) == (Level.WARNING, "correct cache_registry.address")
