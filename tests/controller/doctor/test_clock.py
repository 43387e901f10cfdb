"""Clocks that differ: a BBS that answers with a prepared date, a registry whose clock is ahead."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from controller.doctor.clock import check_clock
from controller.doctor.findings import Finding, Level
from tests.controller.bbs.peers import Answer, Peer, head, serve
from tests.controller.doctor.conftest import Settings, all_of, config_of
from tests.simulators import registry as registries
from tests.simulators.bbs import serve_bbs
from tests.simulators.certificates import Certificates, server_context
from tests.simulators.registry import BasicLogin, Raw, RegistrySimulator


async def look(settings: Settings) -> list[Finding]:
    return await all_of(check_clock(await config_of(settings)))


@pytest.fixture
def cache(servers: None, settings: Settings) -> Iterator[RegistrySimulator]:
    with registries.serve() as simulator:
        settings["cache_registry"] = {"address": simulator.address, "plain_http": True}
        yield simulator


BbsAt = Callable[[str], AbstractAsyncContextManager[Peer]]


@pytest.fixture
def bbs_at(servers: None, certificates: Certificates) -> BbsAt:
    """Serve a BBS that answers with a date."""

    def serving(date: str) -> AbstractAsyncContextManager[Peer]:
        lines = ("Content-Type: application/x-protobuf", "Content-Length: 0")
        told = Answer(head(*lines, *((f"Date: {date}",) if date else ())))
        return serve(server_context(certificates.ca, certificates.server), [told])

    return serving


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


async def test_clocks_that_agree_are_one_line(
    cache: RegistrySimulator, settings: Settings, certificates: Certificates
) -> None:
    async with serve_bbs(certificates) as bbs:
        settings["bbs_address"] = bbs.url
        (found,) = await look(settings)

    assert (found.check, found.level) == ("clock", Level.OK)
    assert found.text == "this machine's clock agrees with the BBS and the cache registry within 30 s"


@pytest.mark.parametrize(("ahead", "told"), [(125.0, "s ahead of"), (-3600.0, "s behind")])
async def test_a_registry_with_another_time_is_a_warning_that_says_by_how_much(
    ahead: float, told: str, cache: RegistrySimulator, settings: Settings
) -> None:
    cache.ahead = ahead
    cache.login = BasicLogin({})  # its refusal has a date, too

    (found,) = await look(settings)

    assert found.level is Level.WARNING
    assert told in found.text
    words = found.text.split()
    assert abs(int(words[words.index("s") - 1]) - abs(ahead)) <= 2
    assert "the cache registry" in found.text
    assert "NTP" in found.advice


async def test_a_bbs_with_another_time_is_a_warning(
    cache: RegistrySimulator, settings: Settings, bbs_at: BbsAt
) -> None:
    async with bbs_at(date_in(90)) as bbs:
        settings["bbs_address"] = bbs.address
        (found,) = await look(settings)

    assert found.level is Level.WARNING
    assert found.text.startswith("the clock of the BBS is ")


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Foo 2026 00:00:00 GMT"])
async def test_who_tells_no_time_is_not_compared(
    date: str, cache: RegistrySimulator, settings: Settings, bbs_at: BbsAt
) -> None:
    cache.fail("GET", "/v2/", Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    async with bbs_at(date) as bbs:
        settings["bbs_address"] = bbs.address
        (found,) = await look(settings)

    assert (found.level, "could not be compared" in found.text) == (Level.OK, True)


async def test_when_nobody_answers_nothing_is_compared(settings: Settings) -> None:
    (found,) = await look(settings)

    assert (found.level, "could not be compared" in found.text) == (Level.OK, True)
