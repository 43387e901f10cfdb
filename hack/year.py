"""Tells what becomes of apps in a year, as an operator would see it, and checks where each one ends.

A copy is deleted, the cells' password changes, the source is down while the daemon and an app are restarted,
the private registry is replaced, and the database is lost. Started by `hack/demo --year`; the documentation
shows what it prints, and a test compares the two.
"""

import asyncio
import json
import shlex
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hack.terminal import Broken, Terminal, run_in_terminal, run_story, wait
from reconcile.reasons import AppState, Reason
from tests.daemon.environment import (
    PATIENCE,
    DaemonProcess,
    Environment,
    open_environment,
    simulate_registry,
    until,
)
from tests.daemon.operator import Operator
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators import registry as registry_simulator
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry import BasicLogin
from tests.simulators.registry.faults import Fault, Meanwhile

LAYER_BYTES = 1_000_000
CHECK_INTERVAL = "2s"


class Year:
    """The story: its parts in the order in which they are told."""

    def __init__(self, env: Environment, terminal: Terminal, opened: ExitStack) -> None:
        self._env, self._terminal, self._opened = env, terminal, opened
        self._types, self._show = terminal.types, terminal.show
        self._users = {"docker-cache": "of the daemon", "cells": "of last year"}
        self._apps: list[App] = []
        self._daemon: DaemonProcess | None = None

    async def run(self) -> None:
        """Tell all parts of the story."""
        await self._begin()
        await self._delete_a_copy()
        await self._lose_a_layer()
        await self._change_the_password()
        await self._restart_without_source()
        await self._change_the_registry()
        await self._lose_the_database()
        await self._go_back_to_the_source()
        self._check_the_end()

    async def _begin(self) -> None:
        env = self._env
        env.cache.faults.login = BasicLogin(self._users)
        env.settings |= {
            "sync_interval": "1s",
            "log_level": "debug",
            "copy_check_interval": CHECK_INTERVAL,
            "blob_check_interval": CHECK_INTERVAL,
            "copy_notes_after": "0s",
            "cache_pull_username": "cells",
            "cache_pull_password_file": self._secret("cells"),
        }
        env.settings["cache_registry"] |= {
            "username": "docker-cache",
            "password_file": self._secret("docker-cache"),
        }
        self._apps = await self._running_apps()
        self._daemon = await env.started_daemon()
        await wait(self._are_all_cached)
        self._show(
            "As it was installed",
            "Three apps run from their copies in a private registry that wants a login. For this story the"
            f" daemon looks for each copy, and for its layers, every {CHECK_INTERVAL}. By default it does "
            "so once an hour, and once a day.",
        )
        await self._types("apps")
        await self._types("status")

    def _secret(self, user: str) -> str:
        file = self._env.directory / f"{user}.password"
        file.write_text(self._users[user])
        file.chmod(0o600)
        return str(file)

    async def _running_apps(self) -> list[App]:
        env, base = self._env, images.layer(LAYER_BYTES, 1)
        apps = []
        for number, (name, instances) in enumerate((("web", 2), ("worker", 1), ("tool", 1)), 2):
            sample = images.image([base, images.layer(LAYER_BYTES, number)])
            reference = await asyncio.to_thread(env.source.push, f"team/{name}", "1", sample)
            app = env.cloud.create(name, Image(reference))
            app.droplet, app.instances = app.package, instances
            await env.cloud.start_app(app)
            apps.append(app)
        await until(lambda: sum(each.is_running for each in env.cell.instances.values()) == 4)
        return apps

    # What happens

    async def _delete_a_copy(self) -> None:
        web, _, _ = self._apps
        self._show(
            "Somebody deletes a copy",
            "The copy of `web` is deleted from the private registry, as a retention rule would. Then the "
            "app is scaled up, and the cell must pull.",
        )
        assert self._daemon is not None
        with self._held_source():  # or the daemon may have sent the copy again before a cell misses it
            with self._env.cache.faults.store.lock:
                copy = self._env.cache.faults.store.repository(self._guid(web))
                copy.manifests.clear()
                copy.tags.clear()
            self._env.cell.clean()
            await self._env.cloud.scale(web, 3)
            await until(lambda: any(row.crash_count for row in self._env.rows(web)))
            await self._daemon.logged(
                "reconciler.reconciled", process_guid=web.process_guid, reason="copy-incomplete"
            )
            await self._types("apps --app web")
        await wait(lambda: self._has_come_up(web) and self._is_complete(web))
        self._show(
            "The daemon sends it again",
            "It has found out, and has sent the same content again, under the same name. The third instance"
            " runs.",
        )
        await self._types("apps --app web")

    async def _lose_a_layer(self) -> None:
        _, worker, _ = self._apps
        self._show(
            "The registry loses a layer",
            "A layer of `worker`'s copy is gone. `verify` reads every byte of every copy, and says what is "
            "missing; with `--repair` it has it sent again.",
        )
        await self._types("pause")
        self._lose_layer(worker)
        await self._types("verify", status=5)
        await self._types("verify --repair")
        await self._types("verify")
        await self._types("resume")
        await wait(lambda: self._is_complete(worker))

    async def _change_the_password(self) -> None:
        self._show(
            "The cells get another password",
            "A second account is made, and written into the config. Both are valid until no app names the "
            "first one. While the daemon is paused, the plan shows what it will do.",
        )
        self._users["cells-2"] = "of this year"
        self._env.settings |= {
            "cache_pull_username": "cells-2",
            "cache_pull_password_file": self._secret("cells-2"),
        }
        await self._types("pause")
        await self._reload()
        await self._types("reconcile", status=2)
        await self._types("resume")
        await wait(
            lambda: all(self._login_of(app) == "cells-2" for app in self._apps) and self._are_all_cached()
        )
        await self._types("reconcile")
        self._show(
            "The old account is disabled", "All instances of `web` are pulled anew, with the new password."
        )
        del self._users["cells"]
        self._env.cell.clean()
        await self._env.cloud.restart(self._apps[0])
        await wait(lambda: self._has_come_up(self._apps[0]) and self._are_all_cached())
        await self._types("apps")

    async def _restart_without_source(self) -> None:
        web, _, _ = self._apps
        self._show(
            "The source is down, and everything restarts",
            "The public registry is shut down. Then the daemon is killed and started again, and somebody "
            "runs `cf restart web`: Cloud Controller asks for it from the public registry.",
        )
        assert self._daemon is not None
        self._env.stop_source()
        await self._daemon.kill()
        self._daemon = await self._env.started_daemon()
        self._env.cell.clean()
        await self._env.cloud.restart(web)
        await wait(lambda: self._has_come_up(web) and self._are_all_cached())
        await self._types("apps --app web")
        await self._types("status")

    async def _change_the_registry(self) -> None:
        env = self._env
        new = self._opened.enter_context(simulate_registry())
        new.faults.login = BasicLogin(self._users)
        env.cache = new
        former = env.settings["cache_registry"]
        env.settings["former_cache_registries"] = [former]
        env.settings["cache_registry"] = {**former, "address": new.address}
        self._show(
            "The private registry is replaced",
            "The config names a new, empty registry, and the old one as a former one. The source is still "
            "down, so copies come from the old registry.",
        )
        await self._types("pause")
        await self._reload()
        await self._shown_as("paused")
        await self._types("status")
        await self._types("reconcile", status=2)
        await self._types("resume")
        await wait(self._are_all_cached)
        await self._types("reconcile")
        await self._types("images")
        await self._types("backup " + shlex.quote(str(self._backup)))

    @property
    def _backup(self) -> Path:
        return self._env.directory / "backup.db"

    async def _lose_the_database(self) -> None:
        env = self._env
        self._show(
            "The database is lost",
            "The disk of the daemon is gone, and with it the database. The apps run on. The daemon starts "
            "with an empty one, and `rebuild` finds out what it had done from what lies beside each copy.",
        )
        assert self._daemon is not None
        await wait(lambda: all(map(self._is_noted, self._apps)))
        await self._daemon.stop()
        for file in (env.directory / "store").iterdir():
            file.unlink()
        self._daemon = await env.started_daemon()
        await self._shown_as("copy-unknown")
        await self._types("apps")
        await self._types("rebuild")
        await self._shown_as("already-cached")
        await self._types("apps")
        await self._types("images")

    async def _go_back_to_the_source(self) -> None:
        tool = self._apps[2]
        self._show(
            "The source is known again",
            "The public registry is back. `tool` is restored to what it ran from a year ago.",
        )
        await self._open_source_again()
        await self._types("restore --app tool --yes")
        await wait(lambda: self._has_come_up(tool) and not self._env.is_from_cache(tool))
        await self._types("apps")

    # What is looked at

    def _check_the_end(self) -> None:
        env, (web, worker, tool) = self._env, self._apps
        source = f"docker://{env.source.address}/team/tool#1"
        ends = [
            *((app, f"docker://{env.cache.address}/{self._guid(app)}#latest") for app in (web, worker)),
            (tool, source),
        ]
        for app, rootfs in ends:
            running = env.running_from(app, rootfs)
            if running != app.instances:
                raise Broken(
                    f"{running} of {app.instances} instances of {app.owner.app_name} run from {rootfs}"
                )
        left = [guid for guid in env.bbs.state.desired if guid.startswith("docker-cache-bridge")]
        if left:
            raise Broken(f"bridges are left: {', '.join(left)}")

    def _are_all_cached(self) -> bool:
        return all(map(self._env.is_from_cache, self._apps)) and all(map(self._has_come_up, self._apps))

    def _has_come_up(self, app: App) -> bool:
        """Whether all its instances run from what it is desired from, and nothing of a migration is left."""
        lrp = self._env.lrp(app)
        return (
            lrp is not None
            and f"docker-cache-bridge-{app.process_guid}" not in self._env.bbs.state.desired
            and len(self._env.rows(app)) == app.instances
            and self._env.running_from(app, lrp.root_fs) == app.instances
            and not self._is_migrating(app)
        )

    def _is_migrating(self, app: App) -> bool:
        """Whether the daemon has said last of an app that it is being migrated."""
        assert self._daemon is not None
        said = self._daemon.named("reconciler.reconciled", process_guid=app.process_guid)
        return bool(said) and Reason(said[-1]["data"]["reason"]).state is AppState.MIGRATING

    async def _shown_as(self, reason: str) -> None:
        """Wait until the daemon says of every app that it is in some state for this reason."""
        operator = Operator(self._env)
        async with asyncio.timeout(PATIENCE):
            while {row["reason"] for row in (await operator.runs("apps")).rows} != {reason}:  # noqa: ASYNC110 - the other process sets no event here
                await asyncio.sleep(0.1)

    def _is_complete(self, app: App) -> bool:
        """Whether the private registry holds all of the copy that an app runs from."""
        store = self._env.cache.faults.store
        found = store.find_manifest(self._guid(app), "latest")
        return found is not None and not store.missing(self._guid(app), found[1])

    def _is_noted(self, app: App) -> bool:
        """Whether the daemon has stored its note beside the copy that an app runs from."""
        return len(self._env.cache.faults.store.repository(self._guid(app)).manifests) > 1

    def _guid(self, app: App) -> str:
        """Read the GUID of the copy that an app runs from."""
        lrp = self._env.lrp(app)
        if lrp is None:
            raise Broken(f"{app.owner.app_name} has no LRP")
        return lrp.root_fs.rpartition("/")[2].partition("#")[0]

    def _login_of(self, app: App) -> str:
        lrp = self._env.lrp(app)
        return "" if lrp is None else lrp.image_username

    # What is done

    def _lose_layer(self, app: App) -> None:
        """Let the top layer of the copy that an app runs from get lost."""
        store, guid = self._env.cache.faults.store, self._guid(app)
        found = store.find_manifest(guid, "latest")
        if found is None:
            raise Broken(f"{guid} is not there")
        store.repository(guid).blobs.discard(json.loads(found[1].content)["layers"][-1]["digest"])

    @contextmanager
    def _held_source(self) -> Iterator[None]:
        """Let the source answer nothing until the block ends."""
        released = threading.Event()

        def hold() -> None:
            released.wait(PATIENCE)

        self._env.source.faults.faults += [
            Fault(method, "/manifests/", Meanwhile(hold), times=None) for method in ("HEAD", "GET")
        ]
        try:
            yield
        finally:
            released.set()

    async def _reload(self) -> None:
        assert self._daemon is not None
        starts = len(self._daemon.named("daemon.started"))
        self._env.write_config()
        self._daemon.signal_reload()
        await self._daemon.logged("daemon.started", count=starts + 1)
        await until(self._has_listed)

    def _has_listed(self) -> bool:
        """Whether the daemon has listed the BBS since it was started, or has read its config again."""
        assert self._daemon is not None
        said = [line.get("message") for line in self._daemon.lines]
        newest = max(at for at, message in enumerate(said) if message == "docker-cache.daemon.started")
        return "docker-cache.watcher.listed-bbs" in said[newest:]

    async def _open_source_again(self) -> None:
        """Serve what the source held, where it was."""
        before = self._env.source
        port = int(before.address.rpartition(":")[2])
        served = await asyncio.to_thread(self._opened.enter_context, registry_simulator.serve(port=port))
        served.store = before.faults.store


async def main(columns: int) -> int:
    """Open everything, tell the story, and close everything; give the exit status."""
    with tempfile.TemporaryDirectory(prefix="docker-cache-year-") as directory, ExitStack() as opened:
        async with open_environment(
            Path(directory),
            faulty_source=True,
            faulty_cache=True,
            start_delay=0.2,
            sync_interval=30.0,
            converge_interval=1.0,
            start=start_interpreter,
        ) as env:
            return await run_in_terminal(env, columns, lambda terminal: Year(env, terminal, opened).run())


if __name__ == "__main__":
    run_story("hack/demo --year", __doc__, main)
