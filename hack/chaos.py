"""Lets everything go wrong around the daemon for some minutes, and says what the apps noticed.

Started by hack/chaos. Each round is a fresh environment with a seed of its own, so that any of them can
be run again alone.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.daemon.chaos import (
    ALL_FAULTS,
    CLOUD_CONTROLLER_FAULTS,
    SHARED_FAULTS,
    Database,
    FaultName,
    Settings,
    run_round,
)

ROUND = 60.0
"""Seconds of trouble in one round."""


NO_FAULT = "none"


def possible_faults(database: Database, *, cloud_controller: bool) -> frozenset[FaultName]:
    """Give all faults that there are for a database, with or without a Cloud Controller."""
    possible = ALL_FAULTS if database is Database.SQLITE else SHARED_FAULTS
    return possible if cloud_controller else possible - CLOUD_CONTROLLER_FAULTS


def chosen_faults(names: list[str], possible: frozenset[FaultName]) -> frozenset[FaultName]:
    """Give the faults of these names, and all that are possible when there are no names."""
    return frozenset(FaultName(name) for name in names or possible if name != NO_FAULT)


async def run(arguments: argparse.Namespace) -> int:
    """Run rounds until the time is up, and give the exit status."""
    seed, keep = arguments.seed, arguments.keep
    settings = Settings(
        instances=arguments.instances,
        database=arguments.database,
        operators=arguments.operators,
        cloud_controller=arguments.cloud_controller,
        faults=arguments.faults,
    )
    end, total, violations = time.monotonic() + arguments.minutes * 60, Counter[str](), 0
    while (left := end - time.monotonic()) > 0:
        directory = Path(tempfile.mkdtemp(prefix="chaos-")) if keep is None else keep / f"seed-{seed}"
        directory.mkdir(parents=True, exist_ok=True)
        report = await run_round(seed, min(ROUND, max(10.0, left)), directory, settings)
        print(report, flush=True)
        for violation in [*report.violations, *report.details]:
            print(f"  {violation}", flush=True)
        if report.violations:
            print(f"  kept in {directory}", flush=True)
        elif keep is None:
            shutil.rmtree(directory)
        total.update(report.happened)
        violations += len(report.violations)
        seed += 1
    print("in all: " + ", ".join(f"{count} {name}" for name, count in sorted(total.items())))
    print(f"{violations} violations")
    return 1 if violations else 0


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="hack/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first round; each further one is one more"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="directory to keep configs, stores and logs of all rounds in, not only of those with violations",
    )
    parser.add_argument(
        "--operators",
        action="store_true",
        help="let operators pause, plan, apply, restore and evict meanwhile",
    )
    parser.add_argument(
        "--no-cloud-controller",
        dest="cloud_controller",
        action="store_false",
        help="let the daemon know of no Cloud Controller, which then starts apps from their sources again",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=[*FaultName, NO_FAULT],
        metavar="NAME",
        help="what is lost or changed meanwhile, all of it by default; may be given several times: "
        f"{', '.join(FaultName)}, or {NO_FAULT}",
    )
    parser.add_argument("--instances", type=int, default=1, help="how many daemons there are")
    parser.add_argument(
        "--database",
        choices=[*Database],
        default=Database.SQLITE,
        help="what they keep their store in; several instances need a server, and a lock in Locket",
    )
    arguments = parser.parse_args()
    arguments.database = database = Database(arguments.database)
    if arguments.instances < 1 or (arguments.instances > 1 and database is Database.SQLITE):
        parser.error("--instances: several need --database postgresql")
    possible = possible_faults(database, cloud_controller=arguments.cloud_controller)
    arguments.faults = chosen_faults(arguments.fault, possible)
    if impossible := arguments.faults - possible:
        parser.error(
            f"--fault: not with --database {database}, or without Cloud Controller: "
            f"{', '.join(sorted(impossible))}"
        )
    if arguments.minutes <= 0:
        parser.error("--minutes must be more than 0")
    try:
        sys.exit(asyncio.run(run(arguments)))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
