"""The whole system on loopback: two registries, a BBS with a cell, Cloud Controller, and the daemon's process.

Registries are real ones where the Debian package docker-registry is installed, otherwise simulators.
"""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet

from controller.admin.admin_client import ClientTls
from protos.bbs.actual_lrp_pb2 import ActualLRP
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.contracts.distribution import BINARY, free_port, run_distribution
from tests.daemon.programs import Program, Starter, output_of, start_forked
from tests.simulators import images
from tests.simulators import registry as registry_simulator
from tests.simulators.bbs import Bbs, Version, actual, serve_bbs
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, CapiSimulator, serve_capi
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.cell_network import Condition
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import App, CloudController, InProcess
from tests.simulators.loggregator import Agent
from tests.simulators.recipes import Image
from tests.stores import make_database

PATIENCE = 90.0
"""Seconds that only a failure ever waits."""


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry on loopback.

    Attributes:
        kind: Whether it is real, for people.
        simulator: What can be told to fail; None where the registry is real.
        storage: Where a real one keeps its files, which it changes at any time; None for a simulator.
    """

    address: str
    url: str
    kind: str
    simulator: registry_simulator.RegistrySimulator | None = None
    storage: Path | None = None

    @property
    def faults(self) -> registry_simulator.RegistrySimulator:
        """The simulator that is to fail."""
        assert self.simulator is not None
        return self.simulator

    def push(self, repository: str, tag: str, image: images.Image) -> str:
        """Put an image into it, and give the reference a user would write."""
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            images.push_image(client, repository, tag, image)
        return f"{self.address}/{repository}:{tag}"

    def pull_manifest(self, repository: str, reference: str) -> images.Blob | None:
        """Read a manifest's exact bytes."""
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            return images.pull_manifest(client, repository, reference)

    def push_manifest(self, repository: str, reference: str, manifest: images.Blob) -> None:
        """Put a manifest into it as it is."""
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            images.push_manifest(client, repository, reference, manifest)

    def list_guids(self) -> list[str]:
        """List the repositories without a slash in their names, also those that hold no blob yet.

        They are read from one folder of a real registry: its catalog leaves repositories out while an
        upload ends, and whoever walks further meets folders that the registry is deleting.
        """
        if self.storage is None:
            return sorted(self.faults.store.repositories)
        folder = self.storage / "docker/registry/v2/repositories"
        return sorted(each.name for each in folder.iterdir()) if folder.exists() else []

    def lose_manifest(self, repository: str, digest: str) -> None:
        """Let a manifest get lost."""
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            client.delete(f"/v2/{repository}/manifests/{digest}").raise_for_status()

    def lose_config(self, repository: str, tag: str = "latest") -> None:
        """Let the config of an image get lost; its manifest and its layers stay."""
        self._lose_blob(self._document(repository, tag)["config"]["digest"])

    def lose_layers(self, repository: str, tag: str = "latest") -> None:
        """Let the layers of an image get lost; its manifest and its config stay."""
        for layer in self._document(repository, tag)["layers"]:
            self._lose_blob(layer["digest"])

    def _document(self, repository: str, tag: str) -> dict[str, Any]:
        manifest = self.pull_manifest(repository, tag)
        assert manifest is not None
        document: dict[str, Any] = json.loads(manifest.content)
        return document

    def _lose_blob(self, digest: str) -> None:
        """Let a blob get lost in all repositories; a real registry still answers from memory that it has it."""
        if self.storage is None:
            for held in self.faults.store.repositories.values():
                held.blobs.discard(digest)
            return
        algorithm, _, name = digest.partition(":")
        folder = self.storage / "docker/registry/v2/blobs" / algorithm / name[:2] / name
        (folder / "data").rename(folder / "lost")

    def find_lost_blobs(self) -> None:
        """Let a real registry have again what it has lost."""
        assert self.storage is not None
        for lost in self.storage.glob("docker/registry/v2/blobs/*/*/*/lost"):
            lost.rename(lost.with_name("data"))


def has_real_registry() -> bool:
    """Whether the distribution registry is installed."""
    return shutil.which(BINARY) is not None


@contextmanager
def run_registry(directory: Path, *, remembers: bool = False, port: int = 0) -> Iterator[Registry]:
    """Run a registry for the length of a block, a real one if there is any.

    Args:
        directory: Of its files, which an earlier one may have left.
        remembers: Whether a real one answers from memory which blobs it has, as it mostly is configured.
        port: Where it listens; 0 for any.
    """
    if not has_real_registry():
        with simulate_registry(port) as simulated:
            yield simulated
        return
    directory.mkdir(parents=True, exist_ok=True)
    with run_distribution(directory, remembers=remembers, port=port) as real:
        yield Registry(real.address, real.url, "distribution registry", storage=real.directory)


@contextmanager
def simulate_registry(port: int = 0) -> Iterator[Registry]:
    """Run a registry that can be told to fail, for the length of a block; port 0 picks a free one."""
    with registry_simulator.serve(port=port) as simulated:
        yield Registry(simulated.address, simulated.url, "registry simulator", simulated)


class DaemonProcess:
    """The daemon as a process of its own, with its log lines."""

    def __init__(self, program: Program, log: Path) -> None:
        self.pid = program.pid
        self.lines: list[dict[str, Any]] = []
        self.text = ""
        self._program = program
        self._log = log
        self._lines_added = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._program.stdout is not None
        async for raw in self._program.stdout:
            text = raw.decode(errors="replace")
            self.text += text
            with self._log.open("a") as log:
                log.write(text)
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(text))
            async with self._lines_added:
                self._lines_added.notify_all()
        async with self._lines_added:
            self._lines_added.notify_all()

    async def logged(self, message: str, *, count: int = 1, **data: object) -> dict[str, Any]:
        """Wait for the nth line of a message with some data, and give it."""
        async with asyncio.timeout(PATIENCE), self._lines_added:
            await self._lines_added.wait_for(
                lambda: len(self.named(message, **data)) >= count or self._reader.done()
            )
        found = self.named(message, **data)
        if len(found) < count:
            raise AssertionError(f"the daemon ended without {message}:\n{self.text[-3000:]}")
        return found[count - 1]

    def named(self, message: str, **data: object) -> list[dict[str, Any]]:
        """Find the lines of a message with some data."""
        return [
            line
            for line in self.lines
            if line.get("message") == f"docker-cache.{message}"
            and all(line["data"].get(key.replace("_", "-")) == value for key, value in data.items())
        ]

    async def next_line(self, condition: Callable[[dict[str, Any]], bool], *, within: float) -> None:
        """Wait for a line that is yet to come.

        Raises:
            TimeoutError: None came within so many seconds.
        """
        seen = len(self.lines)
        async with asyncio.timeout(within), self._lines_added:
            await self._lines_added.wait_for(lambda: any(map(condition, self.lines[seen:])))

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    def signal_user(self) -> None:
        """Let it go on although migrations have failed."""
        self._program.send_signal(signal.SIGUSR1)

    def signal_reload(self) -> None:
        """Let it read its config again."""
        self._program.send_signal(signal.SIGHUP)

    def signal_drain(self) -> None:
        """Let it end once no migration is under way."""
        self._program.send_signal(signal.SIGUSR2)

    def freeze(self) -> None:
        """Let it stand still, as a machine that hangs does."""
        self._program.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it stood still."""
        self._program.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """End it with SIGTERM, and give its exit status."""
        return await self._end(signal.SIGTERM)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._program.returncode is not None

    async def ended(self, within: float | None = PATIENCE) -> int:
        """Wait until it ends by itself, and give its exit status; None waits for ever."""
        try:
            async with asyncio.timeout(within):
                status = await self._program.wait()
                await self._reader
        except TimeoutError:
            raise AssertionError(
                f"process {self.pid} has not ended: {self._standing()}\n{self.text[-3000:]}"
            ) from None
        return status

    def _standing(self) -> str:
        """Say what the system knows of the process: its state, and what its threads wait for."""
        directory = Path(f"/proc/{self.pid}")
        if not directory.exists():
            return "there is none any more, so its end was not reported, or somebody else has its output"
        found = re.findall(
            r"^(?:State|SigBlk|SigIgn|SigPnd|ShdPnd):.*", (directory / "status").read_text(), re.MULTILINE
        )
        waits = Counter((task / "wchan").read_text() for task in (directory / "task").iterdir())
        return f"{', '.join(found)}; its threads wait in {dict(waits)}"

    async def _end(self, number: signal.Signals) -> int:
        if self._program.returncode is None:
            self._program.send_signal(number)
        return await self.ended()


@dataclass
class Environment:
    """Everything that runs, and what to do with it.

    Attributes:
        capi: The API of `cloud` and its UAA, of which the daemon knows nothing unless it is told.
    """

    directory: Path
    source: Registry
    cache: Registry
    bbs: Bbs
    cells: list[SimulatedCell]
    cloud: CloudController
    capi: CapiSimulator
    settings: dict[str, Any]
    certificates: Certificates
    limits: Mapping[str, float]
    start: Starter
    _source_stack: contextlib.ExitStack
    _daemons: list[DaemonProcess] = field(default_factory=list)

    @property
    def cell(self) -> SimulatedCell:
        """The first cell."""
        return self.cells[0]

    @property
    def config_path(self) -> Path:
        """Where the daemon's config file lies."""
        return self.directory / "config.json"

    @property
    def admin(self) -> tuple[str, ClientTls]:
        """Address of the admin API, and what it takes to be let in."""
        files = (self.certificates.ca, self.certificates.client.certificate, self.certificates.client.key)
        return self.settings["admin_address"], ClientTls(*files)

    def connect_cloud_controller(self) -> None:
        """Let daemons that are started from now on ask Cloud Controller."""
        secret = self.directory / "uaa-client-secret"
        secret.write_text(f"{CLIENT_SECRET}\n")
        secret.chmod(0o600)
        self.settings |= {
            "cloud_controller_api_url": self.capi.url,
            "cloud_controller_ca_cert_file": str(self.certificates.ca),
            "uaa_client_id": CLIENT_ID,
            "uaa_client_secret_file": str(secret),
        }

    def connect_loggregator(self, agent: Agent) -> None:
        """Let daemons that are started from now on hand log lines of apps to an agent."""
        pair = self.certificates.client
        self.settings["loggregator"] = {
            "loggregator_use_v2_api": True,
            "loggregator_api_port": agent.port,
            "loggregator_ca_path": str(self.certificates.ca),
            "loggregator_cert_path": str(pair.certificate),
            "loggregator_key_path": str(pair.key),
            "loggregator_instance_id": "cache-0",
        }

    def write_config(self) -> None:
        """Write the config file."""
        self.config_path.write_text(json.dumps(self.settings, indent=2))

    async def start_daemon(self) -> DaemonProcess:
        """Write the config file and start a daemon."""
        self.write_config()
        arguments = ("run", "--config", str(self.config_path))
        program = await self.start(*arguments, err=subprocess.STDOUT, limits=self.limits)
        daemon = DaemonProcess(program, self.directory / "daemon.log")
        self._daemons.append(daemon)
        return daemon

    async def started_daemon(self) -> DaemonProcess:
        """Start a daemon, and wait until it has listed the BBS."""
        daemon = await self.start_daemon()
        await daemon.logged("watcher.listed-bbs")
        return daemon

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command of the program, and give its exit status and what it wrote."""
        return await output_of(await self.start(*arguments))

    async def push_app(self, name: str, image: Image, *, instances: int = 1) -> App:
        """Do what `cf push` does."""
        return await self.cloud.push(name, image, instances=instances)

    def stop_source(self) -> None:
        """End the source registry."""
        self._source_stack.close()

    def start_source(self) -> None:
        """Start the source registry again, where it was and with what it had."""
        before, port = self.source, int(self.source.address.rpartition(":")[2])
        if before.simulator is None:
            self.source = self._source_stack.enter_context(run_registry(self.directory / "source", port=port))
        else:
            self.source = self._source_stack.enter_context(simulate_registry(port))
            self.source.faults.store = before.simulator.store

    def lrp(self, app: App) -> DesiredLRP | None:
        """The app's desired LRP as the BBS has it."""
        return self.bbs.state.desired.get(app.process_guid)

    def rows(self, app: App) -> list[ActualLRP]:
        """The app's instance rows."""
        return [row for row in self.bbs.state.rows() if row.actual_lrp_key.process_guid == app.process_guid]

    def running_from(self, app: App, rootfs: str) -> int:
        """How many of the app's instances run, by the BBS and by the cell, from a rootfs."""
        running = {
            row.actual_lrp_instance_key.instance_guid for row in self.rows(app) if row.state == "RUNNING"
        }
        return sum(
            instance.is_running and instance.rootfs == rootfs
            for cell in self.cells
            for guid, instance in cell.instances.items()
            if guid in running
        )

    def is_from_cache(self, app: App) -> bool:
        """Whether the app's LRP is desired from the private registry."""
        lrp = self.lrp(app)
        return lrp is not None and lrp.root_fs.startswith(f"docker://{self.cache.address}/")

    def forget_stores(self) -> None:
        """Let the time pass after which no daemon is taken for one that works, whichever store it had."""
        domains = self.bbs.state.domains
        for marker in [each for each in domains if each.startswith("docker-cache-store-")]:
            del domains[marker]

    def lose_stops(self) -> None:
        """Let every stop request get lost, so that instance rows stay after a removal."""
        for cell in self.cells:
            cell.lost_stops = 1000

    def end_instances(self) -> None:
        """Let the rows that stayed go after all."""
        for cell in self.cells:
            cell.lost_stops = 0
        for row in list(self.bbs.state.rows()):
            key = row.actual_lrp_key
            actual.remove(self.bbs.state, key.process_guid, key.index, None)

    def impose(self, registry: Registry, condition: Condition, *cells: SimulatedCell) -> None:
        """Let something go wrong between cells and a registry; all cells if none is named."""
        for cell in cells or self.cells:
            cell.network.impose(registry.address, condition)

    def mend(self, registry: Registry, *cells: SimulatedCell) -> None:
        """Let cells reach a registry again; all cells if none is named."""
        for cell in cells or self.cells:
            cell.network.mend(registry.address)

    async def replaced(self, app: App) -> str:
        """Wait until an app's LRP is desired from the cache, and give its rootfs."""
        await until(lambda: self.is_from_cache(app))
        lrp = self.lrp(app)
        assert lrp is not None
        return lrp.root_fs

    def last_words(self) -> str:
        """The end of the daemons' log."""
        return "".join(daemon.text for daemon in self._daemons)[-4000:]

    async def close(self) -> None:
        """End the daemons."""
        for daemon in self._daemons:
            await daemon.kill()


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until another process has brought something about; it has no other way to say so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the other process sets no event here
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_environment(
    directory: Path,
    *,
    version: Version = Version.NEW,
    faulty_source: bool = False,
    faulty_cache: bool = False,
    cache_remembers: bool = False,
    start_delay: float = 1.0,
    pulls: bool = True,
    cells: int = 1,
    sync_interval: float | None = None,
    converge_interval: float | None = None,
    limits: Mapping[str, float] | None = None,
    start: Starter = start_forked,
) -> AsyncIterator[Environment]:
    """Start everything but the daemon, until the block ends.

    Args:
        directory: Pins all files.
        version: Of the BBS.
        faulty_source: Whether the source registry is a simulator that can be told to fail.
        faulty_cache: The same of the private registry.
        cache_remembers: Whether that answers from memory which blobs it has, also when their files are gone.
        start_delay: Seconds from the end of a pull to RUNNING.
        pulls: Whether cells pull for real.
        cells: How many cells there are, each with a store of its own.
        sync_interval: Seconds between Cloud Controller's syncs; None leaves them to the test.
        converge_interval: The same of the BBS's convergence.
        limits: Those of the daemon's migration protocol that are to be others, by the names of `Limits`.
        start: Starts the program.
    """
    async with AsyncExitStack() as stack:
        source_stack = stack.enter_context(contextlib.ExitStack())
        source = source_stack.enter_context(
            simulate_registry() if faulty_source else run_registry(directory / "source")
        )
        cache = stack.enter_context(
            simulate_registry()
            if faulty_cache
            else run_registry(directory / "cache", remembers=cache_remembers)
        )
        certificates = make_certificates(directory / "certificates")
        bbs = await stack.enter_async_context(
            serve_bbs(
                certificates,
                version=version,
                converge_interval=converge_interval,
                address=("127.0.0.1", free_port()),  # which nobody takes while it does not listen
            )
        )
        registry_map = {each.address: each.url for each in (source, cache)} if pulls else None
        running_cells = [
            await stack.enter_async_context(
                SimulatedCell(
                    bbs,
                    CellSettings(
                        cell_id=f"cell-{number}", start_delay=start_delay, registry_map=registry_map
                    ),
                )
            )
            for number in range(1, cells + 1)
        ]
        cloud = await stack.enter_async_context(CloudController(InProcess(bbs), interval=sync_interval))
        capi = await stack.enter_async_context(serve_capi(cloud, pair=certificates.server))
        await asyncio.to_thread(make_database, directory / "store" / "docker-cache.db")
        key = directory / "journal.key"
        key.write_bytes(Fernet.generate_key())
        key.chmod(0o600)
        environment = Environment(
            directory,
            source,
            cache,
            bbs,
            running_cells,
            cloud,
            capi,
            settings={
                "log_level": "debug",
                "bbs_address": bbs.url,
                "bbs_ca_cert_file": str(certificates.ca),
                "bbs_client_cert_file": str(certificates.client.certificate),
                "bbs_client_key_file": str(certificates.client.key),
                "communication_timeout": "10s",
                "sync_interval": "5s",
                "route_propagation_delay": "0s",
                "database_url": f"sqlite:///{directory}/store/docker-cache.db",
                "journal_key_file": str(key),
                "cache_registry": {"address": cache.address, "plain_http": True},
                "registries": [
                    {"address": source.address, "plain_http": True, "allowed_networks": ["127.0.0.1/32"]}
                ],
                "admin_address": f"127.0.0.1:{free_port()}",
                "uuid": "cache-0",
                "admin_ca_cert_file": str(certificates.ca),
                "admin_server_cert_file": str(certificates.server.certificate),
                "admin_server_key_file": str(certificates.server.key),
                "admin_client_cert_file": str(certificates.client.certificate),
                "admin_client_key_file": str(certificates.client.key),
            },
            certificates=certificates,
            limits=limits or {},
            start=start,
            _source_stack=source_stack,
        )
        stack.push_async_callback(environment.close)
        yield environment
