"""Measures what it costs to watch copies: requests to the private registry, and the daemon's CPU.

All settings are the defaults. The same world is measured with checks that are never due, so that the
difference is what watching costs. Started by hack/bench/watch.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.bench.copies_in_use import run_from_copies
from tests.daemon.environment import Environment, open_environment
from tests.daemon.programs import start_interpreter

SETTLING = 45.0
"""Seconds after the start that are not measured: the daemon reads what there is."""
NEVER = "8760h"
TICKS = os.sysconf("SC_CLK_TCK")
_KIND = re.compile(r"/v2/[^/]+/(manifests|blobs)/")


@dataclass
class Cost:
    """What some minutes of a daemon cost.

    Attributes:
        seconds: For how long the daemon was measured.
        requests: To the private registry, by method and kind, such as "HEAD manifests".
        busiest: Most requests in one second.
        cpu: Seconds of all the daemon's threads.
        rss: Bytes of memory at the end.
    """

    seconds: float
    requests: Counter[str] = field(default_factory=Counter)
    busiest: int = 0
    cpu: float = 0.0
    rss: int = 0


async def measure(copies: int, seconds: float, settings: dict[str, Any]) -> Cost:
    """Run a daemon beside apps that run from so many copies."""
    with tempfile.TemporaryDirectory(prefix="docker-cache-watch-") as directory:
        async with open_environment(
            Path(directory),
            faulty_source=True,
            faulty_cache=True,
            start_delay=0.0,
            pulls=False,
            start=start_interpreter,
        ) as env:
            await run_from_copies(env, copies)
            del env.settings["sync_interval"], env.settings["log_level"]
            env.settings |= settings
            daemon = await env.started_daemon()
            await asyncio.sleep(SETTLING)
            return await _observe(env, daemon.pid, seconds)


async def _observe(env: Environment, pid: int, seconds: float) -> Cost:
    cost, registry = Cost(seconds), env.cache.faults
    registry.forget_requests()
    before, seen = _cpu_of(pid), 0
    for _ in range(round(seconds)):
        await asyncio.sleep(1.0)
        cost.busiest = max(cost.busiest, len(registry.requests) - seen)
        seen = len(registry.requests)
    cost.cpu = _cpu_of(pid) - before
    cost.rss = _rss_of(pid)
    for each in registry.requests:
        found = _KIND.match(each.path)
        cost.requests[f"{each.method} {found[1] if found else each.path}"] += 1
    return cost


def _cpu_of(pid: int) -> float:
    """Read the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss_of(pid: int) -> int:
    """Read the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row(copies: int, watched: Cost, idle: Cost) -> dict[str, object]:
    """Sum up one number of copies: the costs with checks, beside the CPU without any."""
    minutes = watched.seconds / 60.0
    return {
        "copies": copies,
        "requests_per_minute": round(watched.requests.total() / minutes, 1),
        "by_kind": {kind: round(count / minutes, 1) for kind, count in sorted(watched.requests.items())},
        "busiest_second": watched.busiest,
        "cpu_percent": round(100 * watched.cpu / watched.seconds, 2),
        "cpu_percent_without": round(100 * idle.cpu / idle.seconds, 2),
        "rss_mib": round(watched.rss / 2**20, 1),
    }


def table(rows: list[dict[str, object]]) -> str:
    """Write the rows for people."""
    lines = ["copies   requests/min   busiest second   cpu %   without checks   RSS MiB   by kind"]
    for each in rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in each["by_kind"].items())  # type: ignore[attr-defined]
        lines.append(
            f"{each['copies']:<8} {each['requests_per_minute']:<14} {each['busiest_second']:<16} "
            f"{each['cpu_percent']:<7} {each['cpu_percent_without']:<16} {each['rss_mib']:<9} {kinds}"
        )
    return "\n".join(lines)


async def main(arguments: argparse.Namespace) -> None:
    """Measure each number of copies twice: with the default checks, and without checks."""
    rows = []
    never = {"copy_check_interval": NEVER, "blob_check_interval": NEVER}
    for copies in arguments.copies:
        watched = await measure(copies, arguments.minutes * 60, {})
        rows.append(row(copies, watched, await measure(copies, arguments.minutes * 60, never)))
        if arguments.json:
            print(json.dumps(rows[-1]), flush=True)
    if not arguments.json:
        print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hack/bench/watch", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("copies", nargs="*", type=int, metavar="COPIES", help="1000 and 10000 by default")
    parser.add_argument("--minutes", type=float, default=5.0, help="that each is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object per number of copies")
    parsed = parser.parse_args()
    parsed.copies = parsed.copies or [1000, 10000]
    sys.exit(asyncio.run(main(parsed)))
