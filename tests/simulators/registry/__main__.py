"""Runs a registry alone until it is interrupted."""

import argparse
import contextlib
import threading

from tests.simulators.registry.server import serve


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.registry", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:5000", help="host:port; port 0 picks a free one")
    host, _, port = parser.parse_args().address.rpartition(":")
    with serve(host, int(port)) as registry, contextlib.suppress(KeyboardInterrupt):
        print(registry.url, flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
