"""Runs a BBS with cells, and a Cloud Controller's sync if wanted, until it is told to end.

Prints one line of JSON when it is ready: its URL, the paths of its certificates and, if asked for, of an app.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.simulators.bbs.server import CONVERGE_INTERVAL, serve_bbs
from tests.simulators.bbs.state import Version
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import CloudController, InProcess
from tests.simulators.recipes import Image

PULL_NOTHING = "none"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.bbs", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", help="address and port; port 0 chooses one")
    parser.add_argument("--certificates", type=Path, help="directory for certificates; a new one if missing")
    parser.add_argument("--version", choices=[*Version], default=Version.NEW, help="which BBS to be")
    parser.add_argument("--cells", type=int, default=1, help="how many cells")
    parser.add_argument(
        "--registry",
        action="append",
        metavar="HOST=URL",
        help="pull images of HOST from URL (docker.io=http://127.0.0.1:5000); 'none' pulls from hosts on"
        " loopback only; without this option nothing is pulled",
    )
    parser.add_argument(
        "--converge", type=float, default=CONVERGE_INTERVAL, help="seconds between convergences"
    )
    parser.add_argument("--start-delay", type=float, default=0.5, help="seconds a cell needs to start")
    parser.add_argument("--stop-delay", type=float, default=0.3, help="seconds a cell needs to stop")
    parser.add_argument("--task-delay", type=float, default=1.0, help="seconds a task runs")
    parser.add_argument(
        "--sync", type=float, help="seconds between Cloud Controller's syncs; none without it"
    )
    parser.add_argument(
        "--push", action="append", default=[], metavar="NAME=IMAGE", help="push an app with an image"
    )
    return parser.parse_args()


def _settings(arguments: argparse.Namespace, number: int) -> CellSettings:
    registry_map: dict[str, str] | None = None
    if arguments.registry:
        pairs = [text.partition("=") for text in arguments.registry if text != PULL_NOTHING]
        registry_map = {host: url for host, _, url in pairs}
    return CellSettings(
        cell_id=f"cell-{number}",
        start_delay=arguments.start_delay,
        stop_delay=arguments.stop_delay,
        task_delay=arguments.task_delay,
        registry_map=registry_map,
    )


async def _run(arguments: argparse.Namespace, certificates: Certificates) -> None:
    stopped = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    host, _, port = arguments.listen.rpartition(":")
    async with contextlib.AsyncExitStack() as stack:
        bbs = await stack.enter_async_context(
            serve_bbs(
                certificates,
                version=Version(arguments.version),
                converge_interval=arguments.converge,
                address=(host, int(port)),
            )
        )
        for number in range(1, arguments.cells + 1):
            await stack.enter_async_context(SimulatedCell(bbs, _settings(arguments, number)))
        _say(
            {
                "url": bbs.url,
                "ca": str(certificates.ca),
                "certificate": str(certificates.client.certificate),
                "key": str(certificates.client.key),
            }
        )
        if arguments.sync is not None or arguments.push:
            controller = CloudController(InProcess(bbs), interval=arguments.sync)
            await stack.enter_async_context(controller)
            for text in arguments.push:
                name, _, image = text.partition("=")
                app = await controller.push(name, Image(image))
                _say({"app": name, "guid": app.guid, "process_guid": app.process_guid})
        await stopped.wait()


def _say(line: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    arguments = _arguments()
    with contextlib.ExitStack() as stack:
        directory = arguments.certificates
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bbs-simulator-")))
        asyncio.run(_run(arguments, make_certificates(directory)))


if __name__ == "__main__":
    main()
