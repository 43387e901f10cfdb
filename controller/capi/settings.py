"""Describes how Cloud Controller is asked, and by which clocks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controller.capi.uaa import UaaClient
from reconcile.request_budget import BudgetSettings

PER_PAGE = 1000
"""Items on a page of a list: the API allows 5000, and a request costs more of the limit than its items."""


@dataclass(frozen=True, slots=True)
class CapiSettings:
    """How Cloud Controller is asked.

    Attributes:
        api_url: URL of its API, without a slash at its end.
        client: Whose tokens are sent.
        budget: How often it may be asked.
        updates: Whether droplets are to be changed.
        timeout: Seconds that one request may take.
        unacknowledged: See `controller.transport.open_calls`.
        per_page: Items on a page of a list.
    """

    api_url: str
    client: UaaClient
    budget: BudgetSettings
    updates: bool = True
    timeout: float = 30.0
    unacknowledged: float | None = None
    per_page: int = PER_PAGE


@dataclass(frozen=True, slots=True)
class Clocks:
    """What tells the time.

    Attributes:
        monotonic: Gives seconds of a clock that does not jump.
        wall: Gives UTC seconds since 1970.
        sleep: Waits for some seconds of the first.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
