"""Writes the dashboard for Grafana, or shows as text what it shows.

Started by hack/dashboard.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from controller.config.values import parse_duration
from hack.alerts import JOB
from hack.grafana.description import ROOT, read_description
from hack.grafana.document import DASHBOARD, grafana_document, grafana_json
from hack.grafana.faults import FAULTS
from hack.grafana.meeting import meet
from hack.grafana.prometheus import Prometheus
from hack.grafana.text import PanelQueries, show
from tests import databases


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hack/dashboard", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("write", help="write the JSON from its description: what happens without a command")
    shown = commands.add_parser("show", help="show it as text, with what a Prometheus says")
    shown.add_argument("url", help="of the Prometheus, such as http://127.0.0.1:9090")
    shown.add_argument("--job", default=JOB)
    shown.add_argument("--since", type=parse_duration, default=3600.0, metavar="TIME", help="such as 6h")
    shown.add_argument("--row", action="append", default=[], help="first words of a row; all by default")
    faults = commands.add_parser("faults", help="let a daemon meet faults, and show the dashboard in each")
    faults.add_argument("names", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all by default")
    return parser


def _show(arguments: argparse.Namespace) -> None:
    prometheus = Prometheus(arguments.url)
    queries = PanelQueries(prometheus, arguments.job, time.time(), arguments.since)
    print(show(grafana_document(read_description()), queries, rows=arguments.row))
    prometheus.close()


def _meet(names: list[str]) -> None:
    if unknown := set(names) - set(FAULTS):
        sys.exit(f"hack/dashboard: no fault {', '.join(sorted(unknown))}")
    databases.begin_run()
    try:
        with tempfile.TemporaryDirectory(prefix="docker-cache-dashboard-") as directory:
            chosen = names or list(FAULTS)
            unseen = asyncio.run(meet(Path(directory), chosen, lambda text: print(text, flush=True)))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        databases.end_run()
    if unseen:
        sys.exit(f"hack/dashboard: not seen: {', '.join(unseen)}")


def main() -> None:
    """Read the arguments, and do it."""
    arguments = _parser().parse_args()
    match arguments.command:
        case "show":
            _show(arguments)
        case "faults":
            _meet(arguments.names)
        case _:
            DASHBOARD.write_text(grafana_json())
            print(f"wrote {DASHBOARD.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
