"""Compares this machine's clock with the Date headers of the BBS, Cloud Controller and private registry."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from controller.config import Config
from controller.doctor.bbs import open_client
from controller.doctor.cloud_controller import open_api
from controller.doctor.findings import Finding, Findings, ok, warning
from controller.doctor.registries import fetch_cache_date
from reconcile.errors import DockerCacheError

CLOCK = "clock"

MOST_APART = 30.0
"""Maximum difference of two clocks in seconds; a Date header has a precision of one second."""

_PATIENCE = 5.0  # seconds


async def check_clock(config: Config) -> Findings:
    """Report the clocks that are off."""
    async with asyncio.TaskGroup() as asking:
        bbs = asking.create_task(_seconds_ahead(_fetch_bbs_date, config), name="doctor-clock-bbs")
        cache = asking.create_task(_seconds_ahead(fetch_cache_date, config), name="doctor-clock-cache")
        api = asking.create_task(_seconds_ahead(_fetch_api_date, config), name="doctor-clock-api")
    found = {
        "the BBS": bbs.result(),
        "the cache registry": cache.result(),
        "Cloud Controller": api.result(),
    }
    ahead = {name: seconds for name, seconds in found.items() if seconds is not None}
    for finding in judge_clocks(ahead):
        yield finding


def judge_clocks(ahead: dict[str, float]) -> tuple[Finding, ...]:
    """Report by how many seconds each peer's clock is ahead of this machine's."""
    if not ahead:
        return (ok(CLOCK, "this machine's clock could not be compared: no peer sent the time"),)
    wrong = tuple(_off(name, seconds) for name, seconds in ahead.items() if abs(seconds) > MOST_APART)
    if wrong:
        return wrong
    return (ok(CLOCK, f"this machine's clock agrees with {' and '.join(ahead)} within {MOST_APART:.0f} s"),)


def _off(name: str, seconds: float) -> Finding:
    side = "ahead of" if seconds > 0 else "behind"
    return warning(
        CLOCK,
        f"the clock of {name} is {abs(seconds):.0f} s {side} this machine's",
        "synchronize all machines by NTP: whether certificates and tokens are valid depends on their clocks",
    )


async def _fetch_bbs_date(config: Config) -> str | None:
    async with open_client(config) as bbs:
        return await bbs.fetch_date()


async def _fetch_api_date(config: Config) -> str | None:
    async with open_api(config) as api:
        return None if api is None else (await api.fetch_root()).date


async def _seconds_ahead(fetch: Callable[[Config], Awaitable[str | None]], config: Config) -> float | None:
    """Compare a peer's date with the clock here; None where it sent none that can be parsed."""
    try:
        async with asyncio.timeout(_PATIENCE):
            text = await fetch(config)
        moment = parsedate_to_datetime(text or "")
    except (DockerCacheError, OSError, ValueError):  # another check reports it
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
