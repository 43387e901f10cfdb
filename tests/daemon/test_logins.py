"""The cells' login for the private registry is rotated, while apps run from their copies."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.contracts.distribution import free_port
from tests.daemon.conftest import both_versions
from tests.daemon.environment import PATIENCE, DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator
from tests.daemon.pushes import all_on_copies, staged_and_cached
from tests.simulators.bbs import Version
from tests.simulators.cloud_controller import App
from tests.simulators.registry import BasicLogin

pytestmark = pytest.mark.thorough

PENDING = 2
Login = tuple[str, str]
DAEMON = ("daemon", "marker-of-the-daemon")
FIRST, SECOND = ("cells-1", "marker-one"), ("cells-2", "marker-two")
INSTANCES = 2


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        faulty_cache=True,
        start_delay=0.1,
        cells=2,
        sync_interval=30.0,
        converge_interval=1.0,
    ) as opened:
        opened.settings |= {"sync_interval": "1s", "metrics_address": f"127.0.0.1:{free_port()}"}
        opened.settings["cache_registry"] |= {"username": DAEMON[0], "password_file": secret(opened, DAEMON)}
        accept(opened, FIRST)
        configure(opened, FIRST)
        yield opened


def secret(env: Environment, login: Login) -> str:
    """Write a password file."""
    file = env.directory / f"{login[0]}.password"
    file.write_text(login[1])
    file.chmod(0o600)
    return str(file)


def accept(env: Environment, *logins: Login) -> None:
    """Let the private registry accept these logins of cells, and no others."""
    env.cache.faults.login = BasicLogin(dict([DAEMON, *logins]))


def configure(env: Environment, login: Login | None) -> None:
    """Write the cells' login into the config."""
    for key in ("cache_pull_username", "cache_pull_password_file"):
        env.settings.pop(key, None)
    if login is not None:
        env.settings |= {"cache_pull_username": login[0], "cache_pull_password_file": secret(env, login)}
    env.write_config()


async def reloaded(daemon: DaemonProcess, *, count: int = 2) -> None:
    """Let the daemon read its config again."""
    daemon.signal_reload()
    await daemon.logged("watcher.subscribed-to-bbs-events", count=count)


async def cached_apps(env: Environment, daemon: DaemonProcess, *names: str) -> list[App]:
    """Have apps run from their copies."""
    apps = [await staged_and_cached(env, daemon, name, instances=INSTANCES) for name in names]
    await asyncio.gather(*map(env.cloud.start_app, apps))
    await all_on_copies(env, apps)
    return apps


def login_of(env: Environment, app: App) -> Login:
    """Read the login of an app's LRP."""
    lrp = env.lrp(app)
    return ("", "") if lrp is None else (lrp.image_username, lrp.image_password)


async def all_have(env: Environment, apps: Sequence[App], login: Login) -> None:
    """Wait until all apps have a login, and run from their copies."""
    await until(lambda: all(login_of(env, app) == login for app in apps))
    await all_on_copies(env, apps)


async def nothing_is_left(env: Environment) -> None:
    """Wait until a plan has nothing to do: a migration ends a little after its bridge is gone."""
    async with asyncio.timeout(PATIENCE):
        while (await Operator(env).runs("reconcile")).status:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


def instances_of(env: Environment, apps: Sequence[App]) -> set[str]:
    """Name the instances of apps."""
    return {row.actual_lrp_instance_key.instance_guid for app in apps for row in env.rows(app)}


def says_no_secret(daemon: DaemonProcess) -> bool:
    """Whether no password is in the log."""
    return "marker-" not in daemon.text


@both_versions
async def test_a_new_login_reaches_every_app_without_a_gap(env: Environment, version: Version) -> None:
    """As the documentation says: both logins are valid meanwhile, and the first ends when no app has it."""
    daemon = await env.started_daemon()
    apps = await cached_apps(env, daemon, "web", "worker", "api")
    sources = {app.process_guid: app.package.text for app in apps}
    before, invariants = instances_of(env, apps), Invariants(env.bbs, env.cells, env.cloud)
    first = daemon.named("reconciler.reconciled")

    with invariants.watching():
        accept(env, FIRST, SECOND)
        configure(env, SECOND)
        await reloaded(daemon)
        await all_have(env, apps, SECOND)

        await nothing_is_left(env)
        accept(env, SECOND)
        await asyncio.gather(*(env.cloud.scale(app, INSTANCES + 1) for app in apps))
        await all_on_copies(env, apps)

    assert invariants.violations == []
    assert (before <= instances_of(env, apps)) is (version is Version.NEW), "an update in place stops nothing"
    reasons = {line["data"]["reason"] for line in daemon.named("reconciler.reconciled")[len(first) :]}
    assert ("login-updated" in reasons) is (version is Version.NEW)
    assert ("bridging" in reasons) is (version is Version.OLD)
    assert says_no_secret(daemon)
    restored = await Operator(env).runs("restore", "--app", "web", "--yes")
    assert restored.status == 0, restored.err
    lrp = env.lrp(apps[0])
    assert lrp is not None
    host, _, path = sources[apps[0].process_guid].partition("/")
    assert lrp.root_fs == f"docker://{host}/{path.replace(':', '#')}", "its true source is known as before"


async def test_a_login_that_is_not_the_configured_one_is_drift_in_plan_and_list(
    env: Environment, version: Version
) -> None:
    daemon = await env.started_daemon()
    apps, operator = await cached_apps(env, daemon, "web", "worker"), Operator(env)
    await operator.runs("pause")
    accept(env, FIRST, SECOND)
    configure(env, SECOND)
    await reloaded(daemon)
    await daemon.logged("watcher.found-other-logins", lrps=2)
    for app in apps:
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="paused")

    plan, listed = await operator.runs("reconcile"), await operator.runs("apps")
    text = (await operator.reads("reconcile")).out

    assert plan.status == PENDING
    migrations = plan.kind("migration")
    assert [(row["app_name"], row["reason"], row["strategy"]) for row in migrations] == [
        ("web", "login-outdated", "bridge"),  # the most that it may take: this BBS is not known yet
        ("worker", "login-outdated", "bridge"),
    ]
    assert all(row["to_rootfs"] == row["from_rootfs"] for row in migrations)
    assert "2 of these run from their copies with another login" in " ".join(text.split())
    assert {(row["reason"], row["detail"]) for row in listed.rows} == {
        ("paused", "its login for the private registry is not the configured one")
    }
    assert [login_of(env, app) for app in apps] == [FIRST, FIRST], "it is paused"

    applied = await operator.runs("reconcile", "--apply", "--yes")

    assert applied.status == 0, applied.err
    await all_have(env, apps, SECOND)
    done = {row["reason"] for row in applied.rows if row.get("state") == "done"}
    assert done == {"login-updated" if version is Version.NEW else "migrated"}
    assert "marker-" not in plan.out + text + applied.out + listed.out
    assert says_no_secret(daemon)


@pytest.mark.parametrize("login", [None, SECOND], ids=["one too many", "none"])
async def test_a_login_too_many_and_one_that_is_missing_are_drift_too(
    env: Environment, login: Login | None
) -> None:
    """Registries that ask nobody for a login, before the rotation or after it."""
    env.cache.faults.login = None
    env.settings["cache_registry"] = {"address": env.cache.address, "plain_http": True}
    configure(env, FIRST if login is None else None)
    daemon = await env.started_daemon()
    apps = await cached_apps(env, daemon, "web")

    configure(env, login)
    await reloaded(daemon)

    await all_have(env, apps, login or ("", ""))


@both_versions
async def test_no_app_is_touched_while_cells_cannot_pull_with_the_new_login(env: Environment) -> None:
    daemon = await env.started_daemon()
    apps = await cached_apps(env, daemon, "web", "worker")
    before = instances_of(env, apps)

    configure(env, SECOND)  # which the registry does not know
    await reloaded(daemon)
    await daemon.logged("canary.cells-cannot-pull")
    for app in apps:
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="cells-not-proven")
    listed = (await Operator(env).runs("apps")).rows

    assert all("is not the configured one" in row["detail"] for row in listed)
    assert [login_of(env, app) for app in apps] == [FIRST, FIRST]
    assert instances_of(env, apps) == before

    accept(env, FIRST, SECOND)
    await all_have(env, apps, SECOND)


@pytest.mark.slow
async def test_apps_whose_login_was_refused_before_it_was_changed_run_from_their_copies_again(
    env: Environment,
) -> None:
    """Their source is not needed for that, and is not there."""
    daemon = await env.started_daemon()
    apps = await cached_apps(env, daemon, "web")
    accept(env, SECOND)
    await Operator(env).runs("pause")  # nobody restores it meanwhile
    for cell in env.cells:
        for instance in list(cell.instances.values()):
            cell.containers.crash(instance, "APP/PROC/WEB: Exited with status 1")
    await until(lambda: all("authentication required" in row.crash_reason for row in env.rows(apps[0])))
    env.stop_source()

    configure(env, SECOND)
    await reloaded(daemon)
    await Operator(env).runs("resume")

    await all_have(env, apps, SECOND)
    assert says_no_secret(daemon)
