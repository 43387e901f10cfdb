"""Cloud Controller and UAA: what answers, who the daemon is there, and what it lacks."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controller.capi.uaa import UaaToken
from controller.doctor.clock import check_clock
from controller.doctor.cloud_controller import check_cloud_controller, judge_limit, judge_token
from controller.doctor.findings import Finding, Level
from reconcile.request_budget import StatedLimit
from tests.contracts.distribution import free_port
from tests.controller.capi.api import SCOPES, jwt
from tests.controller.doctor.conftest import Settings, all_of, config_of, levels, the_one
from tests.simulators.bbs import serve_bbs
from tests.simulators.capi import faults
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, CapiSimulator, serve_capi
from tests.simulators.capi.uaa import GLOBAL_AUDITOR, UPDATE_BUILD_STATE, WRITE
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import CloudController, InProcess


@pytest.fixture
def with_api(settings: Settings, certificates: Certificates, tmp_path: Path) -> Settings:
    secret = tmp_path / "uaa"
    secret.write_text(CLIENT_SECRET)
    return settings | {
        "cloud_controller_api_url": f"https://127.0.0.1:{free_port()}",
        "cloud_controller_ca_cert_file": str(certificates.ca),
        "uaa_client_id": CLIENT_ID,
        "uaa_client_secret_file": str(secret),
    }


@pytest.fixture
async def capi(servers: None, with_api: Settings, certificates: Certificates) -> AsyncIterator[CapiSimulator]:
    async with (
        serve_bbs(certificates) as bbs,
        CloudController(InProcess(bbs)) as cloud,
        serve_capi(cloud, pair=certificates.server) as simulator,
    ):
        with_api["cloud_controller_api_url"] = simulator.url
        yield simulator


async def look(settings: Settings) -> list[Finding]:
    return await all_of(check_cloud_controller(await config_of(settings)))


async def test_without_an_api_there_is_nothing_to_say(settings: Settings) -> None:
    assert await look(settings) == []


async def test_all_that_the_daemon_needs_is_named_one_by_one(capi: CapiSimulator, with_api: Settings) -> None:
    found = await look(with_api)

    assert levels(found) == [Level.OK] * len(found)
    texts = "\n".join(f"{each.check}: {each.text}" for each in found)
    assert f"cf-api: {capi.url} answers" in texts
    assert f"uaa: {capi.uaa.url} gives a token to the client docker-cache" in texts
    for scope in (WRITE, UPDATE_BUILD_STATE, GLOBAL_AUDITOR):
        assert f"uaa: the token has {scope}" in texts
    assert "the client can read droplets: 0 staged ones are there" in texts
    assert "the API states no limit of requests: 2000 an hour are kept to" in texts
    assert capi.api.count("PATCH") == 0


@pytest.mark.parametrize("lacking", [WRITE, UPDATE_BUILD_STATE])
async def test_a_scope_for_changes_that_is_missing_is_a_problem(
    lacking: str, capi: CapiSimulator, with_api: Settings
) -> None:
    capi.add_client(authorities=tuple({WRITE, UPDATE_BUILD_STATE, GLOBAL_AUDITOR} - {lacking}))

    found = the_one(await look(with_api))

    assert (found.check, found.level, found.text) == ("uaa", Level.PROBLEM, f"the token lacks {lacking}")
    assert lacking in found.advice


async def test_a_client_that_cannot_read_is_found_by_its_token_and_by_a_read(
    capi: CapiSimulator, with_api: Settings
) -> None:
    capi.add_client(authorities=(WRITE, UPDATE_BUILD_STATE))

    lacks, refused = [each for each in await look(with_api) if each.level is not Level.OK]

    assert lacks.text == f"the token lacks {GLOBAL_AUDITOR}"
    assert (refused.check, refused.level) == ("cf-api", Level.PROBLEM)
    assert "cloud-controller-scope-missing" in refused.text


async def test_a_daemon_that_only_reads_needs_no_more(capi: CapiSimulator, with_api: Settings) -> None:
    capi.add_client(authorities=(GLOBAL_AUDITOR,))

    found = the_one(await look(with_api | {"update_droplets": False}))

    assert (found.level, found.text) == (Level.WARNING, "update_droplets is false: no droplet is changed")


async def test_a_wrong_secret_names_its_key(capi: CapiSimulator, with_api: Settings) -> None:
    capi.add_client(secret="changed meanwhile")

    found = the_one(await look(with_api))

    assert (found.check, found.level) == ("uaa", Level.PROBLEM)
    assert "uaa_client_secret_file" in found.text
    assert CLIENT_SECRET not in f"{found}"


async def test_an_api_that_is_down_does_not_stop_the_rest_of_the_program(
    servers: None, with_api: Settings
) -> None:
    found = the_one(await look(with_api))

    assert (found.check, found.level) == ("cf-api", Level.PROBLEM)
    assert "copies and migrations go on without" in found.advice


Break = Callable[[CapiSimulator], object]

FAILURES: dict[str, tuple[Break, str]] = {
    "database": (
        lambda capi: capi.api.faults.order("GET", "/v3/droplets", faults.be_unavailable()),
        "copies and migrations go on without",
    ),
    "limit": (
        lambda capi: capi.api.faults.order("GET", "/v3/droplets", faults.limit(60)),
        "wait for the time",
    ),
    "token": (
        lambda capi: capi.api.faults.order("GET", "/v3/droplets", faults.reject_token(), times=2),
        "that the API uses this UAA",
    ),
    "uaa": (lambda capi: capi.uaa.faults.order("POST", "token", faults.fail()), "go on without"),
}


@pytest.mark.parametrize(("make", "advice"), FAILURES.values(), ids=FAILURES)
async def test_each_failure_has_its_advice(
    make: Break, advice: str, capi: CapiSimulator, with_api: Settings
) -> None:
    make(capi)

    found = the_one(await look(with_api))

    assert found.level is Level.PROBLEM
    assert advice in found.advice


async def test_an_authority_that_is_not_trusted_names_its_key(
    capi: CapiSimulator, with_api: Settings, other_ca: Path
) -> None:
    found = the_one(await look(with_api | {"cloud_controller_ca_cert_file": str(other_ca)}))

    assert "cloud_controller_ca_cert_file" in found.advice


@pytest.fixture
def other_ca(tmp_path: Path) -> Path:
    return make_certificates(tmp_path / "other").ca


async def test_another_server_is_no_cloud_controller(capi: CapiSimulator, with_api: Settings) -> None:
    found = the_one(await look(with_api | {"cloud_controller_api_url": capi.uaa.url}))

    assert "cloud_controller_api_url" in found.advice


async def test_the_clock_of_cloud_controller_is_compared_too(capi: CapiSimulator, with_api: Settings) -> None:
    found = await all_of(check_clock(await config_of(with_api)))

    assert [each.text for each in found] == ["this machine's clock agrees with Cloud Controller within 30 s"]


def judged(*scopes: str, text: str | None = None, updates: bool = True) -> list[Finding]:
    token = UaaToken(jwt(scopes) if text is None else text, frozenset(scopes), 0.0, 0.0)
    return list(judge_token(token, updates=updates))


def test_an_admin_can_do_all_and_need_not() -> None:
    found = judged("cloud_controller.admin")

    assert [each.text for each in found[:3]] == [f"the token can do as {scope}" for scope in SCOPES]
    assert (found[-1].level, found[-1].text) == (
        Level.WARNING,
        "the client may do everything in Cloud Controller",
    )


def test_an_opaque_token_is_a_problem() -> None:
    found = the_one(judged(*SCOPES, text="0123456789"))

    assert (found.level, "JWT" in found.text) == (Level.PROBLEM, True)


def test_a_token_for_another_audience_is_a_problem() -> None:
    """A client without any authority of Cloud Controller gets such a one."""
    token = jwt(SCOPES).split(".")
    claims = "eyJhdWQiOiBbInVhYSJdfQ"  # {"aud": ["uaa"]}

    found = the_one(judged(*SCOPES, text=f"{token[0]}.{claims}.{token[2]}"))

    assert found.text == "the token is not meant for cloud_controller"


def test_a_limit_of_which_nothing_is_left_is_a_warning() -> None:
    assert judge_limit(StatedLimit(2000, 1800, 0.0), 2000).level is Level.OK
    assert judge_limit(StatedLimit(2000, 0, 0.0), 2000).level is Level.WARNING
