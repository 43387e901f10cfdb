"""Watches when the certificates that the daemon uses end: for a metric, for `status`, and for the log."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog

from controller.certificate_files import RENEW_WITHIN, CertificateFile, read_end
from controller.process import Process

log = structlog.get_logger(scope="certificates")

LOOK_INTERVAL = 300.0
"""Seconds between two looks at the files."""

URGENT_WITHIN = timedelta(days=7)
"""Time before the end of a certificate in which this process is not well."""

SAY_INTERVAL = 86_400.0
"""Seconds after which the log says again that a certificate ends."""


class CertificateEnds:
    """Knows when certificates end.

    Args:
        files: Those that the daemon reads.
        process: Clock and metrics.
    """

    def __init__(self, files: Iterable[CertificateFile], *, process: Process) -> None:
        self._files = tuple(file for file in files if not file.is_for_commands)
        self._process = process
        self._ends: dict[str, datetime] = {}
        self._said: dict[str, float] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Describe each certificate that ends soon, or has ended."""
        now = datetime.fromtimestamp(self._process.clock(), UTC)
        return tuple(
            describe_end(name, end, now) for name, end in self._ends.items() if end - now < RENEW_WITHIN
        )

    @property
    def problem(self) -> str:
        """Describe the certificates that end within days, or have ended; empty where there are none."""
        now = datetime.fromtimestamp(self._process.clock(), UTC)
        ends = self._ends.items()
        return "; ".join(describe_end(name, end, now) for name, end in ends if end - now < URGENT_WITHIN)

    async def run(self) -> None:
        """Look at once, and then at an interval forever."""
        while True:
            self._ends = await asyncio.to_thread(self._read)
            self._report()
            await asyncio.sleep(LOOK_INTERVAL)

    def _read(self) -> dict[str, datetime]:
        """Read when the certificates in each file end; what cannot be read now keeps what is known of it."""
        ends = dict(self._ends)
        for file in self._files:
            try:
                ends[file.name] = read_end(file)
            except (OSError, ValueError) as error:
                log.info("failed-to-read-certificate", file=str(file.path), error=str(error))
        return ends

    def _report(self) -> None:
        now = self._process.clock()
        for name, end in self._ends.items():
            self._process.metrics.instance.certificate_end.labels(file=name).set(end.timestamp())
            if end.timestamp() - now >= RENEW_WITHIN.total_seconds():
                self._said.pop(name, None)
            elif not 0 <= now - self._said.get(name, 0.0) < SAY_INTERVAL:
                self._said[name] = now
                detail = describe_end(name, end, datetime.fromtimestamp(now, UTC))
                log.error("found-certificate-near-its-end", file=name, detail=detail)


def describe_end(name: str, end: datetime, now: datetime) -> str:
    """Say when the certificate in a file ends, or since when it has ended."""
    verb = "expired on" if end <= now else f"{(end - now).days} days left, ends on"
    return f"{name}: {verb} {end:%Y-%m-%d %H:%M} UTC"
