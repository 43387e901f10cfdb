"""Runs servers of Locket over one state until it is told to end.

Prints one line of JSON when it is ready: their addresses, and the paths of the certificates.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.locket.server import Locket
from tests.simulators.locket.state import State


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.locket", description=__doc__)
    parser.add_argument(
        "--listen", default="127.0.0.1:0", help="address and port of the first; 0 chooses one"
    )
    parser.add_argument("--servers", type=int, default=1, help="how many servers")
    parser.add_argument("--certificates", type=Path, help="directory for certificates; a new one if missing")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace, certificates: Certificates) -> None:
    stopped = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    host, _, port = arguments.listen.rpartition(":")
    state = State(time.monotonic)
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                Locket(certificates, state, address=(host, int(port) if number == 0 else 0))
            )
            for number in range(arguments.servers)
        ]
        line = {
            "addresses": [server.address for server in servers],
            "ca": str(certificates.ca),
            "certificate": str(certificates.client.certificate),
            "key": str(certificates.client.key),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    arguments = _arguments()
    with contextlib.ExitStack() as stack:
        directory = arguments.certificates
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locket-simulator-")))
        asyncio.run(_run(arguments, make_certificates(directory)))


if __name__ == "__main__":
    main()
