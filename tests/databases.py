"""Starts PostgreSQL and MariaDB from their Debian packages, once for all workers of a test run, on loopback.

The servers refuse to run as root, so that they run as nobody there. Nothing of theirs is worth a write to the
disk. They compare and order texts as servers of old do, so that a column that leaves this to them is noticed.
"""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.store.schema import REVISIONS_TABLE
from controller.store.tables import metadata
from tests.contracts.distribution import free_port
from tests.simulators.certificates import Authority, Pair

RUN_DIRECTORY = "TEST_DATABASES_DIRECTORY"
"""Name of the environment variable by which workers find the directory of their run."""

USER = "docker"
SECURED = "secured"
"""A user who needs TLS and this password."""
PASSWORD = "correct/horse:battery@staple"

_POSTGRESQL_PACKAGES = Path("/usr/lib/postgresql")
_PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/bin"
_ALIVE = "alive"
_START_WITHIN = 60.0

_TABLES = {
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    "mysql": "SELECT table_name FROM information_schema.tables WHERE table_schema = database()",
}

_made: dict[tuple[str, str], Any] = {}
"""An administrator's connections to the databases that this process has created, by their kinds and names."""

# Waits until the process of the tests has ended, however it has; then nothing is left of the server.
_GUARD = """
"$@" >"$DIRECTORY/log" 2>&1 &
server=$!
flock "$ALIVE" true
kill -9 $server
wait
rm -rf "$DIRECTORY"
ls -d "$RUN"/*/ >/dev/null 2>&1 || rm -rf "$RUN"
"""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server on loopback.

    Attributes:
        kind: "postgresql" or "mysql", as in a database URL.
        ca: The authority of its certificate, which is for localhost.
    """

    kind: str
    port: int
    ca: str

    def url(self, database: str, *, user: str = USER, host: str = "127.0.0.1") -> str:
        """Name one of its databases."""
        return f"{self.kind}://{user}@{host}:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "") -> list[Any]:
        """Run statements as its administrator, each by itself, and return the rows of the last."""
        rows: list[Any] = []
        with closing(self.connect(database)) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall()) if cursor.description else []
        return rows

    def connect(self, database: str) -> Any:
        """Connect as its administrator; each statement is a transaction of its own."""
        if self.kind == "postgresql":
            import psycopg  # noqa: PLC0415 - a driver that only some runs need

            name = database or "postgres"
            return psycopg.connect(
                host="127.0.0.1", port=self.port, user=USER, dbname=name, autocommit=True, connect_timeout=5
            )
        import pymysql  # noqa: PLC0415 - the other one

        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            database=database or None,
            autocommit=True,
            client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
            ssl_disabled=True,
        )

    def create(self, database: str) -> None:
        """Create an empty database, in place of one of that name."""
        self.drop(database)
        self.execute(f"CREATE DATABASE {database}")

    def drop(self, database: str) -> None:
        """Drop a database, whoever uses it."""
        force = " WITH (FORCE)" if self.kind == "postgresql" else ""
        self.execute(f"DROP DATABASE IF EXISTS {database}{force}")


def begin_run() -> None:
    """Make the directory of a run of tests, and mark it as alive as long as this process lives."""
    if RUN_DIRECTORY in os.environ:
        return
    directory = Path(tempfile.mkdtemp(prefix="docker-cache-databases-"))
    directory.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(directory, "nobody", "nogroup")
    alive = os.open(directory / _ALIVE, os.O_CREAT | os.O_RDONLY, 0o644)
    fcntl.flock(alive, fcntl.LOCK_EX)  # the kernel frees it when this process ends
    os.environ[RUN_DIRECTORY] = str(directory)


def disconnect() -> None:
    """Close the connections of this process."""
    while _made:
        _, connection = _made.popitem()
        with suppress(Exception):  # a test has ended it, or its server
            connection.close()


def end_run() -> None:
    """Forget the directory of a run; its servers delete what is theirs when this process has ended."""
    directory = Path(os.environ.pop(RUN_DIRECTORY, "/nonexistent"))
    with suppress(OSError):
        if not any(path.is_dir() for path in directory.iterdir()):
            shutil.rmtree(directory)


def run_server(kind: str) -> RunningServer:
    """Start a server, "postgresql" or "mysql", or find the one that another worker has started in this run."""
    directory = Path(os.environ[RUN_DIRECTORY])
    found = directory / f"{kind}.json"
    with (directory / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            server = _start(kind, directory / kind)
            found.write_text(json.dumps([server.kind, server.port, server.ca]))
        return RunningServer(*json.loads(found.read_text()))


def is_installed(kind: str) -> bool:
    """Whether a server can be started, "postgresql" or "mysql"."""
    if kind == "postgresql":
        return any(_POSTGRESQL_PACKAGES.glob("*/bin/initdb"))
    return shutil.which("mariadbd", path=_PROGRAMS) is not None


def empty_database(kind: str, worker: str) -> str:
    """Give the URL of a worker's own database on a server, without a row but with what tables there are."""
    server, database = run_server(kind), f"store_{worker}"
    if (kind, database) not in _made:
        server.create(database)
        _made[kind, database] = server.connect(database)
    try:
        _empty(kind, _made[kind, database])
    except Exception:  # noqa: BLE001 - of either driver: a test before this one has ended all connections
        _made[kind, database] = server.connect(database)
        _empty(kind, _made[kind, database])
    return server.url(database)


def _empty(kind: str, administrator: Any) -> None:
    with administrator.cursor() as cursor:
        cursor.execute(_TABLES[kind])
        tables = {str(row[0]) for row in cursor.fetchall()}
        rows = [
            f"DELETE FROM {each.name}" for each in reversed(metadata.sorted_tables) if each.name in tables
        ]
        rows += [f"DROP TABLE {name}" for name in tables - metadata.tables.keys() - {REVISIONS_TABLE}]
        if rows:
            cursor.execute("; ".join(rows))
            while cursor.nextset():
                pass


def _start(kind: str, directory: Path) -> RunningServer:
    directory.mkdir()
    authority = Authority(directory / "tls")
    certificate = authority.server("localhost")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody:nogroup", directory], check=True)
    port = free_port()
    command = (prepare_postgresql if kind == "postgresql" else _mariadb)(directory, port, certificate)
    run = directory.parent
    environment = {**os.environ, "RUN": str(run), "DIRECTORY": str(directory), "ALIVE": str(run / _ALIVE)}
    guard = subprocess.Popen(
        as_nobody("sh", "-c", _GUARD, "guard", *command),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    guard.returncode = 0  # nobody waits for it
    server = RunningServer(kind, port, str(authority.certificate))
    began = time.monotonic()
    while True:
        try:
            server.execute("SELECT 1")
        except Exception:  # noqa: BLE001 - of either driver
            if time.monotonic() - began > _START_WITHIN:
                log = (directory / "log").read_text(errors="replace")
                raise AssertionError(f"{kind} has not started: {log}") from None
            time.sleep(0.02)
        else:
            break
    if kind == "postgresql":
        server.execute(f"CREATE ROLE {SECURED} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    return server


def prepare_postgresql(directory: Path, port: int, certificate: Pair) -> Sequence[str]:
    """Make an empty PostgreSQL server's files, and give the command that starts it."""
    programs = max(_POSTGRESQL_PACKAGES.glob("*/bin"), default=_POSTGRESQL_PACKAGES)
    data = directory / "data"
    language = ("--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US")
    _run(
        _require(str(programs / "initdb")), "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", *language
    )
    secured = f"hostnossl all {SECURED} all reject\nhostssl all {SECURED} all scram-sha-256\n"
    secured += f"host all {USER} 127.0.0.0/8 trust\n"
    rules = data / "pg_hba.conf"
    rules.write_text(secured + rules.read_text())
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "autovacuum": "off",
        "shared_buffers": "16MB",
        "max_wal_senders": 0,
        "wal_level": "minimal",
        "ssl": "on",
        "ssl_cert_file": certificate.certificate,
        "ssl_key_file": certificate.key,
    }
    return [
        str(programs / "postgres"),
        "-D",
        str(data),
        *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
    ]


def _mariadb(directory: Path, port: int, certificate: Pair) -> Sequence[str]:
    data, first = f"--datadir={directory / 'data'}", directory / "first.sql"
    program = _require("mariadbd")
    _run(
        _require("mariadb-install-db"),
        "--no-defaults",
        data,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    )
    first.write_text(
        f"CREATE USER IF NOT EXISTS {USER}@'%';\nGRANT ALL ON *.* TO {USER}@'%';\n"
        f"CREATE USER IF NOT EXISTS {SECURED}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL;\n"
        f"GRANT ALL ON *.* TO {SECURED}@'%';\n"
    )
    return [
        program,
        "--no-defaults",
        data,
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={directory / 'socket'}",
        f"--init-file={first}",
        "--skip-name-resolve",
        "--character-set-server=latin1",
        "--collation-server=latin1_swedish_ci",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=O_DIRECT_NO_FSYNC",
        "--innodb-doublewrite=0",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        "--performance-schema=OFF",
        f"--ssl-cert={certificate.certificate}",
        f"--ssl-key={certificate.key}",
    ]


def _require(program: str) -> str:
    """Find a program; without it CI fails and a developer's run skips."""
    found = shutil.which(program) or shutil.which(program, path=_PROGRAMS)
    if found is None:
        detail = f"{program} is not installed (Debian packages postgresql and mariadb-server)"
        if os.environ.get("CI") == "true":
            raise RuntimeError(detail)
        pytest.skip(detail)
    return found


def _run(*command: str) -> None:
    made = subprocess.run(as_nobody(*command), check=False, capture_output=True, text=True, cwd="/")
    if made.returncode:
        raise AssertionError(f"{command[0]}: {made.stdout}{made.stderr}")


def as_nobody(*command: str) -> list[str]:
    """Give the command that runs another one as nobody, where this process runs as root.

    A process that is to change its user cannot be made with vfork, and gRPC's handlers may hang in a fork.
    """
    change = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    return [*(change if os.geteuid() == 0 else ()), *command]
