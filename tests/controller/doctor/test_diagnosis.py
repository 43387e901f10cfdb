"""All checks together: a fixed order, a limit for each, and nothing of the world that raises."""

import asyncio
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from controller.doctor import Finding, Level, diagnose
from controller.doctor.diagnosis import Check, run_check
from controller.doctor.findings import Findings, ok, problem
from reconcile.errors import Unavailable
from tests.controller.doctor.conftest import Settings, all_of, config_of
from tests.simulators import registry as registries
from tests.simulators.registry import Stall

ORDER = ["config", "certificates", "bbs", "events", "cache-registry", "cells-view", "sources", "database"]


async def one_and_then(trouble: BaseException | None) -> Findings:
    yield ok("some", "one")
    if trouble is not None:
        raise trouble
    await asyncio.Event().wait()


async def run(trouble: BaseException | None, level: Level = Level.PROBLEM) -> list[Finding]:
    return await run_check(Check("some", "it", partial(one_and_then, trouble), level, limit=0.05))


@pytest.mark.parametrize("level", [Level.PROBLEM, Level.WARNING])
async def test_a_check_that_takes_too_long_says_so_and_keeps_what_it_had(level: Level) -> None:
    first, late = await run(None, level)

    assert first.text == "one"
    assert (late.check, late.level, late.text) == ("some", level, "it: no answer within 0.05 s")
    assert late.advice


async def test_an_error_of_another_system_is_a_finding() -> None:
    _, failed = await run(Unavailable("bbs", "HTTP-503", "/v1/ping: HTTP status 503"))

    assert (failed.level, failed.text) == (Level.PROBLEM, "it: bbs: HTTP-503: /v1/ping: HTTP status 503")
    assert failed.advice


async def test_an_error_of_the_operating_system_is_a_finding() -> None:
    _, failed = await run(PermissionError(13, "Permission denied", "/etc/x"))

    assert (failed.level, "Permission denied" in failed.text) == (Level.PROBLEM, True)


async def test_a_mistake_of_ours_is_none() -> None:
    with pytest.raises(ZeroDivisionError):
        await run(ZeroDivisionError())


def test_a_finding_is_one_line_without_the_login_of_an_address() -> None:
    found = problem("some", "a\n b https://user:marker@host/x", "c\nd")

    assert found == Finding("some", Level.PROBLEM, "a b https://***@host/x", "c d")


async def test_when_nothing_answers_each_check_says_so_in_its_turn(settings: Settings) -> None:
    settings |= {"admin_address": "127.0.0.1:1", "admin_without_tls": True}

    found = await all_of(diagnose(await config_of(settings)))

    assert list(dict.fromkeys(each.check for each in found)) == [*ORDER, "files", "clock", "admin"]
    for each in found:
        assert "\n" not in f"{each.text}{each.advice}"
        assert bool(each.advice) is (each.level is not Level.OK)
    troubled = {each.check for each in found if each.level is Level.PROBLEM}
    assert troubled == {"bbs", "events", "cache-registry"}


@pytest.mark.usefixtures("servers")
async def test_no_secret_is_in_any_finding(settings: Settings, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("marker-password")
    login = {"username": "marker-user", "password_file": str(password)}
    with registries.serve() as simulator:
        simulator.login = registries.BasicLogin({})
        settings["cache_registry"] |= {"address": simulator.address, **login}
        settings |= {
            "bbs_address": settings["bbs_address"].replace("https://", "https://u:marker-bbs@"),
            "cache_pull_username": "marker-user",
            "cache_pull_password_file": str(password),
            "registries": [{"address": "u:marker-source@r.example", **login}],
        }
        found = await all_of(diagnose(await config_of(settings)))

    assert "UNAUTHORIZED" in str(found)
    assert "marker" not in str(found)


@pytest.mark.usefixtures("servers")
async def test_who_has_heard_enough_ends_the_checks(settings: Settings) -> None:
    def checks() -> set[asyncio.Task[object]]:
        return {task for task in asyncio.all_tasks() if task.get_name().startswith("doctor-")}

    under_way = set[asyncio.Task[object]]()
    with registries.serve() as simulator:
        simulator.fail("POST", "uploads", Stall())
        settings["cache_registry"]["address"] = simulator.address
        async with aclosing(diagnose(await config_of(settings))) as findings:
            async for _ in findings:
                await asyncio.to_thread(simulator.wait_for_stall)
                under_way = checks()
                break
        await asyncio.to_thread(simulator.wait_for_hangup)

    assert checks() == set()
    stalled = [task for task in under_way if task.get_name() == "doctor-cache-registry"]
    assert [task.cancelled() for task in stalled] == [True]
    assert all(task.done() for task in under_way)  # some may have ended by themselves meanwhile


@pytest.mark.usefixtures("servers")
async def test_a_finding_comes_before_the_checks_behind_it_have_ended(settings: Settings) -> None:
    with registries.serve() as simulator:
        simulator.fail("POST", "uploads", Stall())
        settings["cache_registry"]["address"] = simulator.address
        async with aclosing(diagnose(await config_of(settings))) as findings:
            first = await anext(findings)
            assert (first.check, first.level) == ("config", Level.OK)
            rest = [each async for each in findings]

    assert any(each.check == "cache-registry" and "timeout" in each.text for each in rest)
