"""Counts the requests to Cloud Controller that droplets cost, in the situations that cost most.

No time is measured, since on a platform it is the limit of requests that decides. Started by
hack/bench/requests.
"""

import argparse
import asyncio
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from controller.logs import configure_logs
from hack.bench.droplets_alone import DropletBench, open_bench
from reconcile.lrps import AppGuid

STAGINGS, APPS = 1_000, 5_000
LATER = 1.0
"""Seconds by which copies are later than the ends of stagings."""
LIMIT, SHARE = 2_000, 0.5
"""Of a platform with the usual limit, and the default of the config."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What something cost at Cloud Controller.

    Attributes:
        droplets: Whose number it depends on.
        requests: What they ask to how many there were.
    """

    what: str
    droplets: int
    requests: Mapping[str, int]

    @property
    def total(self) -> int:
        """All requests to the API."""
        return sum(self.requests.values())


async def measure(stagings: int, apps: int) -> list[Cost]:
    """Count what each of the situations costs."""
    return [*await _measure_stagings(stagings), *await _measure_former(apps)]


async def _measure_stagings(count: int) -> list[Cost]:
    async with open_bench() as bench, bench.running():
        await bench.listed()
        async with bench.counting() as in_time:
            apps = bench.add_apps(count)
            await bench.request_copies(apps)
            await bench.finish_copies(apps)
            bench.end_stagings(apps)
            await bench.patched(apps)
        async with bench.counting() as late:
            await _stage_with_late_copies(bench, count)
    return [
        Cost("stagings whose copies were ready first", count, in_time),
        Cost("stagings whose copies were ready later", count, late),
    ]


async def _stage_with_late_copies(bench: DropletBench, count: int) -> None:
    apps = bench.add_apps(count)
    await bench.request_copies(apps)
    bench.end_stagings(apps)
    await asyncio.sleep(LATER)
    await bench.until(lambda: bench.droplets.status().waiting == 0)
    await bench.finish_copies(apps)
    for app in apps:
        bench.droplets.job_ended(AppGuid(app.guid))
    await bench.patched(apps)


async def _measure_former(count: int) -> list[Cost]:
    async with open_bench() as bench:
        apps = bench.add_apps(count)
        await bench.request_copies(apps)
        await bench.finish_copies(apps)
        async with bench.counting() as first, bench.running():
            await bench.patched(apps)
        async with bench.counting() as second, bench.running():
            await bench.listed()
        async with bench.running():
            await bench.listed()
            async with bench.counting() as restore:
                await bench.restored()
    return [
        Cost("droplets that were there before, at the first start", count, first),
        Cost("droplets at the next start, or the next listing", count, second),
        Cost("droplets that are restored", count, restore),
    ]


def show(cost: Cost) -> None:
    """Print what something cost, for people."""
    each = cost.total / cost.droplets
    print(f"{cost.droplets} {cost.what}: {cost.total} requests, {each:.2f} each")
    for kind, number in sorted(cost.requests.items()):
        print(f"  {number:6} {kind}")


def main() -> None:
    """Read the arguments, count, and print."""
    parser = argparse.ArgumentParser(
        prog="hack/bench/requests", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--stagings", type=int, default=STAGINGS, help="how many images are staged")
    parser.add_argument("--apps", type=int, default=APPS, help="how many apps are there before the daemon")
    parser.add_argument("--json", action="store_true", help="print JSON, one line for each situation")
    arguments = parser.parse_args()
    configure_logs("fatal", io.StringIO())
    costs = asyncio.run(measure(arguments.stagings, arguments.apps))
    for cost in costs:
        if arguments.json:
            print(json.dumps({"what": cost.what, "droplets": cost.droplets, "requests": cost.requests}))
        else:
            show(cost)
    backfill = costs[2].total / (LIMIT * SHARE)
    print(
        f"with a limit of {LIMIT} requests an hour and a background share of {SHARE},"
        f" the first start takes {backfill:.1f} hours",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
