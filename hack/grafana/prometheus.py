"""A real Prometheus on loopback, which scrapes daemons, and what it is asked."""

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.contracts.distribution import free_port

BINARY = "prometheus"
"""Of the Debian package of the same name."""

SCRAPE_INTERVAL = 1.0
"""Seconds between two scrapes, of a Prometheus that is started here."""


def is_installed() -> bool:
    """Whether a Prometheus can be started."""
    return shutil.which(BINARY) is not None


class QueryFailed(Exception):
    """Prometheus does not evaluate a query."""


@dataclass(frozen=True, slots=True)
class Series:
    """What Prometheus gives for one set of labels: (time, value) pairs, of which an instant query has one."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class Prometheus:
    """A Prometheus that is asked over its API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30.0)

    def ask(self, expr: str, at: float) -> list[Series]:
        """Ask for what holds at a moment.

        Raises:
            QueryFailed: Prometheus does not evaluate it.
        """
        return _series(self._get("query", query=expr, time=at))

    def ask_over_time(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Ask for a range of time.

        Raises:
            QueryFailed: Prometheus does not evaluate it.
        """
        return _series(self._get("query_range", query=expr, start=start, end=end, step=step))

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._client.get("/-/ready").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _get(self, call: str, **parameters: object) -> list[dict[str, Any]]:
        data = {name: str(value) for name, value in parameters.items()}
        response = self._client.post(f"/api/v1/{call}", data=data)
        document = response.json()
        if document["status"] != "success":
            raise QueryFailed(f"{document['error']}: {parameters['query']}")
        result: list[dict[str, Any]] = document["data"]["result"]
        return result


def _series(result: list[dict[str, Any]]) -> list[Series]:
    return [
        Series(
            {name: value for name, value in each["metric"].items() if name != "__name__"},
            [(float(at), float(value)) for at, value in each.get("values") or [each["value"]]],
        )
        for each in result
    ]


@contextmanager
def run_prometheus(
    directory: Path, targets: Mapping[str, str], *, job: str, rules: Path | None = None
) -> Iterator[Prometheus]:
    """Run a Prometheus for the length of a block.

    Args:
        directory: Where it keeps what it scrapes.
        targets: Addresses of daemons' metrics, by the name of the instance.
        job: The name of their job.
        rules: Alert rules that it evaluates.

    Raises:
        RuntimeError: It is not installed, or does not start.
    """
    binary = shutil.which(BINARY)
    if binary is None:
        raise RuntimeError(f"no {BINARY} here: hack/real-parts installs it")
    directory.mkdir(parents=True, exist_ok=True)
    address, config = f"127.0.0.1:{free_port()}", directory / "prometheus.json"
    config.write_text(json.dumps(_config(targets, job, rules)))  # JSON is YAML
    arguments = {
        "config.file": config,
        "storage.tsdb.path": directory / "data",
        "web.listen-address": address,
        "log.level": "error",
    }
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [binary, *(f"--{name}={value}" for name, value in arguments.items())], stdout=log, stderr=log
        )
    prometheus = Prometheus(f"http://{address}")
    try:
        _wait_until_ready(prometheus, process)
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        process.wait(30)


def _config(targets: Mapping[str, str], job: str, rules: Path | None) -> dict[str, Any]:
    interval = f"{math.ceil(SCRAPE_INTERVAL)}s"
    scrape = {
        "job_name": job,
        "static_configs": [
            {"targets": [address], "labels": {"instance": name}} for name, address in targets.items()
        ],
    }
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [] if rules is None else [str(rules)],
        "scrape_configs": [scrape],
    }


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60.0
    while not prometheus.is_ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{BINARY} does not start: its log is beside its config")
        time.sleep(0.05)
