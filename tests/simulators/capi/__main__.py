"""Runs the API of a Cloud Controller and a UAA, with a BBS and a cell behind it, until it is told to end.

Prints one line of JSON when it is ready: their URLs, the client of UAA, the BBS, and the paths of the certificates;
then one line for each app.
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
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, serve_capi
from tests.simulators.capi.uaa import SMALLEST_USEFUL
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import INTERVAL, CloudController, InProcess
from tests.simulators.recipes import Image


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.capi", description=__doc__)
    parser.add_argument("--certificates", type=Path, help="directory for certificates; a new one if missing")
    parser.add_argument("--plain", action="store_true", help="speak plain HTTP in place of TLS")
    parser.add_argument("--client-id", default=CLIENT_ID, help="name of the client of UAA")
    parser.add_argument("--client-secret", default=CLIENT_SECRET, help="its secret")
    parser.add_argument(
        "--authority",
        action="append",
        metavar="SCOPE",
        help=f"what its tokens allow; without this option {', '.join(SMALLEST_USEFUL)}",
    )
    parser.add_argument("--token-lifetime", type=int, default=43200, help="seconds that its tokens are valid")
    parser.add_argument("--rate-limit", type=int, help="requests an hour; no limit without it")
    parser.add_argument("--sync", type=float, default=INTERVAL, help="seconds between syncs")
    parser.add_argument(
        "--push", action="append", default=[], metavar="NAME=IMAGE", help="push an app with an image"
    )
    return parser.parse_args()


async def _run(arguments: argparse.Namespace, certificates: Certificates) -> None:
    stopped = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    pair = None if arguments.plain else certificates.server
    async with (
        serve_bbs(certificates, converge_interval=CONVERGE_INTERVAL) as bbs,
        SimulatedCell(bbs, CellSettings()),
        CloudController(InProcess(bbs), interval=arguments.sync) as cloud,
        serve_capi(cloud, pair=pair) as capi,
    ):
        authorities = tuple(arguments.authority or SMALLEST_USEFUL)
        lifetime = arguments.token_lifetime
        capi.add_client(arguments.client_id, arguments.client_secret, authorities, lifetime=lifetime)
        capi.limiter.limit = arguments.rate_limit
        _say(
            {
                "url": capi.url,
                "uaa": capi.uaa.url,
                "client_id": arguments.client_id,
                "client_secret": arguments.client_secret,
                "bbs": bbs.url,
                "ca": str(certificates.ca),
                "certificate": str(certificates.client.certificate),
                "key": str(certificates.client.key),
            }
        )
        for text in arguments.push:
            name, _, image = text.partition("=")
            app = await cloud.push(name, Image(image))
            droplet = "" if app.current is None else app.current.guid
            _say({"app": name, "guid": app.guid, "process_guid": app.process_guid, "droplet": droplet})
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
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="capi-simulator-")))
        asyncio.run(_run(arguments, make_certificates(directory)))


if __name__ == "__main__":
    main()
