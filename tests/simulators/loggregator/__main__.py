"""Runs an agent until it is told to end, and shows the log lines that it gets as `cf logs` does.

Prints one line of JSON when it is ready: its port, and the paths of the certificates.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.simulators.certificates import make_certificates
from tests.simulators.loggregator.agent import serve_agent
from tests.simulators.loggregator.display import cf_logs


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.loggregator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port at 127.0.0.1; 0 chooses one")
    parser.add_argument("--certificates", type=Path, help="directory for certificates; a new one if missing")
    return parser.parse_args()


async def _run(port: int, directory: Path) -> None:
    stopped = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    certificates = make_certificates(directory)
    async with serve_agent(certificates, address=("127.0.0.1", port)) as agent:
        ready = {
            "port": agent.port,
            "ca": str(certificates.ca),
            "certificate": str(certificates.client.certificate),
            "key": str(certificates.client.key),
        }
        _write(json.dumps(ready))
        shown = 0
        while not stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), 0.2)
            new, shown = agent.envelopes[shown:], len(agent.envelopes)
            for line in cf_logs(each for each in new if each.HasField("log")):
                _write(line)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    arguments = _arguments()
    with contextlib.ExitStack() as stack:
        directory = arguments.certificates
        if directory is None:
            directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="loggregator-simulator-"))
            )
        asyncio.run(_run(arguments.port, directory))


if __name__ == "__main__":
    main()
