"""A process that has imported the whole program and forks for each run of it: `python -m tests.daemon.fork_server FD`.

A run of the program costs a second of CPU for imports otherwise. FD is a socket that listens. What is asked
for comes over its connections: one JSON object with the arguments and four descriptors, of which the first
three become standard input, output and error. To the fourth it says the process id of the run, and in the
end its exit status. It ends with the last of its connections.
A run is a process like any other, but for its parent.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
from dataclasses import dataclass

import controller
import protos
import reconcile
from controller.cli import main
from reconcile.steps import PhaseLimits

MAX_REQUEST = 65536


@dataclass(frozen=True, slots=True)
class Run:
    """What a forked process is to do."""

    arguments: list[str]
    limits: dict[str, float]


def serve(listener: socket.socket) -> Run:
    """Fork for each request until all connections are closed; returns in each child, and nowhere else."""
    with selectors.DefaultSelector() as events:
        events.register(listener, selectors.EVENT_READ)
        connections = set[socket.socket]()
        reports: dict[int, tuple[int, int]] = {}  # process id to its pidfd, and to where its end is told
        while True:
            for key, _ in events.select():
                if key.data is not None:
                    _report_end(events, reports.pop(key.data), key.data)
                    continue
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is listener:
                    _accept(events, listener, connections)
                    continue
                text, files, _, _ = socket.recv_fds(key.fileobj, MAX_REQUEST, 4)
                if not text:
                    _close(events, key.fileobj, connections)
                    continue
                stdin, stdout, stderr, report = files
                pid = os.fork()
                if pid == 0:
                    for number, file in enumerate((stdin, stdout, stderr)):
                        os.dup2(file, number)
                    others = [file for pair in reports.values() for file in pair]
                    sockets = [each.detach() for each in (listener, *connections)]
                    for file in (*files, *others, *sockets):
                        os.close(file)
                    return Run(**json.loads(text))
                for file in (stdin, stdout, stderr):
                    os.close(file)
                with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                    os.write(report, f"{pid}\n".encode())
                reports[pid] = os.pidfd_open(pid), report
                events.register(reports[pid][0], selectors.EVENT_READ, pid)


def _accept(events: selectors.BaseSelector, listener: socket.socket, connections: set[socket.socket]) -> None:
    connection, _ = listener.accept()
    connections.add(connection)
    events.register(connection, selectors.EVENT_READ)


def _close(
    events: selectors.BaseSelector, connection: socket.socket, connections: set[socket.socket]
) -> None:
    events.unregister(connection)
    connections.remove(connection)
    connection.close()
    if not connections:
        sys.exit(0)


def _report_end(events: selectors.BaseSelector, files: tuple[int, int], pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    pidfd, report = files
    events.unregister(pidfd)
    os.close(pidfd)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.close(report)


LATE = (
    "alembic.command",
    "anyio._backends._asyncio",
    "docker",
    "google.protobuf.json_format",
    "httpcore",
    "rich.live",
    "rich.progress",
)
"""What the program, or a package of it, imports only where it needs it."""


def import_program() -> None:
    """Import every module of the program, and what it imports late."""
    for name in LATE:
        importlib.import_module(name)
    for package in (controller, reconcile, protos):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "versions" not in module.name and not module.name.endswith((".env", "__main__")):
                importlib.import_module(module.name)


def become(run: Run) -> None:
    """Be the program."""
    # Those of the server know what its own were: a terminal, a file, a pipe.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, until the end
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["controller", *run.arguments]
    limited = ["tests.daemon.limited_run", json.dumps(run.limits)] if run.limits else ["controller"]
    sys.orig_argv = [sys.executable, "-m", *limited, *run.arguments]  # what it executes to begin anew
    main(run.arguments, given=PhaseLimits(**run.limits) if run.limits else None)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_program()
    gc.collect()
    gc.freeze()  # a fork copies no page for the collector's sake
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
