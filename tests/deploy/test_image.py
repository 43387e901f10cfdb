"""The container image, built from real packages and started by a real docker daemon; and the systemd unit.

A container in which systemd is process 1 runs the unit with all that it forbids the daemon.
"""

import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from controller import __version__
from hack.oci_image import debian
from hack.oci_image.build import CONTAINER, USER
from hack.oci_image.contents import unpack
from hack.oci_image.debian import PYTHON
from tests.contracts.distribution import free_port
from tests.deploy.bosh import ROOT
from tests.deploy.image import running_dockerd
from tests.deploy.properties import Pems
from tests.deploy.source import Source

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("servers"), pytest.mark.timeout(900)]

VCAP = Path("/var/vcap")
HEALTHCHECK = CONTAINER["Healthcheck"]["Test"][1]
LINKED = """
import ssl, grpc, psycopg, pymysql, botocore.session, cryptography.fernet, sqlite3
print(len(ssl.create_default_context().get_ca_certs()) > 100, psycopg.pq.__impl__, grpc.__cached__ is not None)
"""


class Engine:
    """A docker daemon that has loaded the image."""

    def __init__(self, client: Any, image: str) -> None:
        self.client = client
        self.image = image

    def start(self, *command: str, **options: Any) -> Any:
        """Start a container that may do as little as its page says."""
        return self.client.containers.create(
            self.image,
            command=list(command) or None,
            network_mode="host",
            read_only=True,
            tmpfs={"/tmp": ""},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            **options,
        )

    def run(self, *command: str, **options: Any) -> tuple[int, str]:
        """Run a container to its end."""
        container = self.start(*command, **options)
        container.start()
        status = container.wait(timeout=120)["StatusCode"]
        text = container.logs().decode()
        container.remove()
        return status, text


@pytest.fixture(scope="module")
def engine(source: Source) -> Iterator[Engine]:
    with running_dockerd() as address:
        client = docker.DockerClient(base_url=address, timeout=120)
        try:
            with source.archive.open("rb") as archive:
                (image,) = client.images.load(archive)
            yield Engine(client, image.tags[0])
        finally:
            client.close()


def test_its_name_is_its_version(engine: Engine) -> None:
    assert engine.image == f"diego-docker-cache:{__version__}"
    assert engine.run("--version") == (0, f"diego-docker-cache, version {__version__}\n")


def test_what_is_compiled_finds_its_libraries(engine: Engine) -> None:
    """And Python finds the certificates of public registries."""
    ended = engine.run("-c", LINKED, entrypoint=f"/usr/bin/python{PYTHON}")

    assert ended == (0, "True binary True\n")


def test_a_container_without_a_config_says_what_is_missing(engine: Engine) -> None:
    status, text = engine.run()

    assert status == 3
    assert "docker_cache.json: No such file" in text


def test_the_daemon_lives_reads_its_config_again_and_ends_with_sigterm(
    engine: Engine, pems: Pems, tmp_path: Path
) -> None:
    with running(engine, write_config(tmp_path, pems), tmp_path / "store") as container:
        wait_until_well(container)
        assert container.exec_run("id").exit_code != 0, "there is a shell's tool in it"
        checked = container.exec_run(["/usr/bin/diego-docker-cache", "config", "check"])
        assert checked.exit_code == 0, checked.output
        status = container.exec_run(["/usr/bin/diego-docker-cache", "status"])
        assert __version__ in status.output.decode(), status.output

        container.kill("SIGHUP")
        until(lambda: container.logs().decode().count('"docker-cache.daemon.starting"') == 2, container)
        wait_until_well(container)

        container.stop(timeout=30)
        assert container.wait(timeout=30)["StatusCode"] == 0

    database = tmp_path / "store" / "cache.db"
    assert (database.stat().st_uid, database.stat().st_mode & 0o777) == (USER, 0o600)
    for line in container.text.splitlines():
        assert json.loads(line)["source"] == "docker-cache"


def write_config(directory: Path, pems: Pems) -> Path:
    """Write what a daemon needs that reaches no other system."""
    config = directory / "config"
    config.mkdir()
    for name, text in {"ca.crt": pems.ca, "client.crt": pems.cert, "client.key": pems.key}.items():
        (config / name).write_text(text)
    (config / "journal.key").write_text("A" * 43 + "=")
    inside = VCAP / "jobs/docker_cache/config"
    values = {
        "start_paused": True,
        "bbs_address": f"https://127.0.0.1:{free_port()}",
        "bbs_ca_cert_file": f"{inside}/ca.crt",
        "bbs_client_cert_file": f"{inside}/client.crt",
        "bbs_client_key_file": f"{inside}/client.key",
        "database_url": f"sqlite:///{VCAP}/store/docker_cache/cache.db",
        "journal_key_file": f"{inside}/journal.key",
        "cache_registry": {"address": f"127.0.0.1:{free_port()}"},
        "admin_address": f"127.0.0.1:{free_port()}",
        "admin_without_tls": True,
        "healthcheck_address": f"127.0.0.1:{free_port()}",
    }
    (config / "docker_cache.json").write_text(json.dumps(values))
    return config


class Ended:
    """A container, and what it has written when it is gone."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)


def give_to_user(config: Path, store: Path) -> None:
    """Make the store's directory, and let nobody but the daemon's user read what it needs."""
    store.mkdir(mode=0o700)
    for path in (store, config, *config.iterdir()):
        os.chown(path, USER, USER)
        path.chmod(0o700 if path.is_dir() else 0o600)


@contextmanager
def running(engine: Engine, config: Path, store: Path) -> Iterator[Any]:
    give_to_user(config, store)
    container = Ended(
        engine.start(
            volumes={
                str(config): {"bind": str(VCAP / "jobs/docker_cache/config"), "mode": "ro"},
                str(store): {"bind": str(VCAP / "store/docker_cache"), "mode": "rw"},
            },
            healthcheck={"interval": 1_000_000_000},  # a person waits longer than a test
        )
    )
    try:
        container.start()
        yield container
        container.text = container.logs().decode()
    finally:
        with suppress(NotFound):
            container.remove(force=True)


def wait_until_well(container: Any) -> None:
    def is_well() -> bool:
        container.reload()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until(is_well, container)
    assert container.exec_run([HEALTHCHECK]).exit_code == 0


def until(condition: Any, container: Any) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It does not hold.
    """
    end = time.monotonic() + 90
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(container.logs().decode())
        time.sleep(0.2)


UNIT = ROOT / "deploy" / "systemd" / "diego-docker-cache.service"
TARGET = """[Unit]
DefaultDependencies=no
Wants=diego-docker-cache.service systemd-journald.service
"""
STATUS = "import sys; print(open(f'/proc/{sys.argv[1]}/status').read())"


@pytest.fixture(scope="module")
def machine(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a machine's files: those of the image, systemd and the unit."""
    scratch = tmp_path_factory.mktemp("machine")
    root = scratch / "root"
    root.mkdir()
    with tarfile.open(source.archive) as archive:
        (loaded,) = json.loads(read(archive, "manifest.json"))
        for layer in loaded["Layers"]:
            subprocess.run(["tar", "-xz", "-C", root], input=read(archive, layer), check=True)
    debian.download(scratch / "packages", scratch / "apt", with_needs=("systemd", "procps"), files_only=())
    there = {package.name for package in debian.packages_in(source.packages / "debian")}
    for package in debian.packages_in(scratch / "packages"):
        if package.name not in there:
            unpack(package.file, root)
    units = root / "usr" / "lib" / "systemd" / "system"
    for wanted in units.glob("*.target.wants"):  # nothing of the real machine is touched
        shutil.rmtree(wanted)
    own = root / "etc" / "systemd" / "system"
    own.mkdir(parents=True, exist_ok=True)
    (own / "default.target").write_text(TARGET)
    shutil.copy(UNIT, own)
    (root / "usr" / "local" / "bin").mkdir(parents=True, exist_ok=True)
    (root / "usr" / "local" / "bin" / "diego-docker-cache").symlink_to("/usr/bin/diego-docker-cache")
    (root / "etc" / "machine-id").touch()
    subprocess.run(["tar", "-C", root, "-cf", scratch / "machine.tar", "."], check=True)
    return scratch / "machine.tar"


def read(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    assert content is not None
    return content.read()


def test_the_unit_runs_it_under_systemd_with_all_that_it_forbids(
    engine: Engine, machine: Path, pems: Pems, tmp_path: Path
) -> None:
    config = write_config(tmp_path, pems)
    address = json.loads((config / "docker_cache.json").read_text())["healthcheck_address"]
    with under_systemd(engine, machine, config, tmp_path / "store") as container:
        until(lambda: answers(f"http://{address}/ping"), container)
        pid = shown(container, "MainPID")
        status = dict(
            line.split(":\t", 1)
            for line in output_of(container, f"/usr/bin/python{PYTHON}", "-c", STATUS, pid).splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(USER)] * 4
        assert int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

        output_of(container, "/usr/bin/systemctl", "reload", UNIT.name)
        until(lambda: log_of(container).count('"docker-cache.daemon.starting"') == 2, container)
        until(lambda: answers(f"http://{address}/ping"), container)
        assert shown(container, "MainPID") == pid

        output_of(container, "/usr/bin/systemctl", "stop", UNIT.name)
        assert shown(container, "Result") == "success"
        assert shown(container, "ExecMainStatus") == "0"
        assert shown(container, "NRestarts") == "0"


@contextmanager
def under_systemd(engine: Engine, machine: Path, config: Path, store: Path) -> Iterator[Any]:
    """Run a container of which systemd is the first process."""
    engine.client.api.import_image_from_file(str(machine), repository="machine", tag="1")
    give_to_user(config, store)
    groups = Path("/sys/fs/cgroup/systemd")
    groups = groups if groups.exists() else groups.parent
    container = engine.client.containers.create(
        "machine:1",
        command=["/usr/lib/systemd/systemd"],
        network_mode="host",
        cgroupns="host",
        cap_add=["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"],
        security_opt=["seccomp=unconfined"],
        environment={"container": "docker"},
        tmpfs={"/run": "", "/run/lock": "", "/tmp": ""},
        volumes=[
            "/sys/fs/cgroup:/sys/fs/cgroup:ro",
            f"{groups}:{groups}:rw",
            f"{config}:{VCAP}/jobs/docker_cache/config:ro",
            f"{store}:{VCAP}/store/docker_cache:rw",
        ],
    )
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True)


def output_of(container: Any, *command: str) -> str:
    ended = container.exec_run(list(command))
    assert ended.exit_code == 0, (command, ended.output, log_of(container))
    return str(ended.output.decode())


def shown(container: Any, key: str) -> str:
    return output_of(container, "/usr/bin/systemctl", "show", "--value", "-p", key, UNIT.name).strip()


def log_of(container: Any) -> str:
    ended = container.exec_run(["/usr/bin/journalctl", "--no-pager", "--output", "cat"])
    return str(ended.output.decode())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
