"""Opens the client of Cloud Controller that the active instance uses, and watches how its requests end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from controller.capi.capi_errors import ApiAnswer
from controller.capi.client import CloudController
from controller.capi.settings import Clocks
from controller.capi_wiring import capi_settings, open_configured
from controller.config import Config
from controller.leadership.lease import ActiveLease
from controller.metrics import Metrics
from controller.process import Process
from reconcile.cloud_controller_status import ApiCall, ApiOutcome, CloudControllerStatus

log = structlog.get_logger(scope="cloud-controller")

FAILING_FOR = 30.0
"""Seconds of failures after which the log says so: single ones may have a reason in what was asked."""


@asynccontextmanager
async def open_cloud_controller(
    config: Config, *, lease: ActiveLease, process: Process
) -> AsyncIterator[CloudController | None]:
    """Open the client that the active instance uses; None where the config names no Cloud Controller.

    Raises:
        Invalid: A file of the config cannot be used.
    """
    # Without a bound a change could arrive minutes after its droplet was looked at again, and decided anew.
    unacknowledged = min(config.communication_timeout, lease.confirmed_within or config.communication_timeout)
    settings = await asyncio.to_thread(capi_settings, config, unacknowledged=unacknowledged)
    if settings is None:
        yield None
        return
    async with open_configured(
        config,
        settings,
        check_active=lease.check,
        observer=RequestWatch(process.metrics, process.clock),
        clocks=Clocks(process.monotonic, process.clock),
    ) as opened:
        yield opened


class RequestWatch:
    """Counts requests, shows in metrics what is known after each, and logs when that changes for long.

    Args:
        metrics: Of the process.
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        metrics.cloud_controller.last_success.set(0)
        metrics.cloud_controller.failing_since.set(0)
        self._is_failing = False
        self._missing: tuple[str, ...] = ()

    def answered(self, answer: ApiAnswer, seconds: float) -> None:
        """Log one answer, with the ID by which the log of the server has the request."""
        log.debug(
            "received-response",
            call=answer.call,
            status=answer.status,
            request_id=answer.request_id,
            duration_s=round(seconds, 3),
        )

    def asked(self, call: ApiCall, outcome: ApiOutcome, status: CloudControllerStatus) -> None:
        """Take note of one request."""
        self._metrics.cloud_controller.requests.labels(call, outcome).inc()
        self._metrics.cloud_controller.requests_left.set(status.requests_left)
        self._metrics.cloud_controller.last_success.set(status.last_success or 0)
        self._metrics.cloud_controller.failing_since.set(status.failing_since or 0)
        self._log_health(status)
        self._log_scopes(status.missing_scopes)

    def _log_health(self, status: CloudControllerStatus) -> None:
        since, now = status.failing_since, self._clock()
        if since is not None and now - since >= FAILING_FOR and not self._is_failing:
            self._is_failing = True
            log.error(
                "became-unavailable", address=status.address, error=status.error, for_s=round(now - since)
            )
        if since is None and self._is_failing and status.reachable_since is not None:
            self._is_failing = False
            log.info("became-available", address=status.address)

    def _log_scopes(self, missing: tuple[str, ...]) -> None:
        if missing != self._missing:
            self._missing = missing
            if missing:
                log.error("scopes-missing", scopes=list(missing))
