"""Copies that the private registry has lost in part, or never gives: apps go back, and the copies are repaired."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator
from tests.daemon.pushes import all_on_copies, copy_of, image_of, staged, staged_and_cached
from tests.daemon.start_watch import StartWatch, failed_creations, process_starts, stop_requests
from tests.simulators.bbs import Version
from tests.simulators.cell_network import Hangs
from tests.simulators.cloud_controller import App

START_TIMEOUT = 3.0


@pytest.fixture
def remembers() -> bool:
    """Whether the private registry answers from memory which blobs it has."""
    return False


@pytest.fixture
async def env(
    version: Version,
    tmp_path: Path,
    remembers: bool,  # noqa: FBT001 - a fixture
) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        cache_remembers=remembers,
        start_delay=0.5,
        cells=3,
        sync_interval=30.0,
        converge_interval=30.0,
    ) as opened:
        yield opened


def forget_layers(env: Environment) -> None:
    """Let all cells forget what no app uses, so that the next pull fetches all."""
    for cell in env.cells:
        cell.clean()


async def pushed_on_its_copy(env: Environment, daemon: DaemonProcess, name: str) -> App:
    app = await staged_and_cached(env, daemon, name)
    await env.cloud.start_app(app)
    await all_on_copies(env, [app])
    return app


def figures_of(env: Environment, watch: StartWatch, app: App) -> str:
    start = watch.of(app)
    return (
        f"served after {start.seconds:.2f} s from its {start.served_from}, {start.seconds_back:.2f} s after the "
        f"first failed pull, process starts {dict(process_starts(env, app))}, {failed_creations(env)} failed "
        f"creations, {stop_requests(env, app)} stop requests"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["layers", pytest.param("config", marks=pytest.mark.long)])
async def test_a_copy_that_lost_a_blob_is_marked_and_repaired_and_its_app_runs_from_its_source(
    env: Environment, loss: str, record_property: Callable[[str, object], None]
) -> None:
    """The same image is pushed as another app, after the first is gone from the cells."""
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    first = await pushed_on_its_copy(env, daemon, "web")
    copy = copy_of(env, daemon, first)
    await env.cloud.delete(first)
    await until(lambda: not any(cell.instances for cell in env.cells))
    forget_layers(env)
    (env.cache.lose_layers if loss == "layers" else env.cache.lose_config)(copy)
    watch = StartWatch(env)
    with watch.watching():
        second = await staged(env, "other", image=image_of("web"))
        env.impose(env.source, Hangs(layers_only=True))  # or a cell would hold the layers from there
        start = await watch.start(second)
        await until(lambda: failed_creations(env) > 0 and not env.is_from_cache(second))
        env.mend(env.source)
        back = await daemon.logged(
            "reconciler.reconciled", process_guid=second.process_guid, reason="copy-not-pulled"
        )
        assert "blob unknown to registry" in back["data"]["detail"]
        await until(lambda: start.served_at is not None and not env.is_from_cache(second))
        figures = figures_of(env, watch, second)

        (listed,) = (await Operator(env).runs("apps", "--app", "other")).rows
        assert (listed["state"], listed["reason"]) == ("failed", "copy-not-pulled")
        assert "blob unknown to registry" in listed["detail"]

        (image,) = (await Operator(env).runs("images")).rows
        assert image["needs_verification_since"] > image["verified_at"] or is_whole_again(daemon)
        third = await staged(env, "third", image=image_of("web"))
        await watch.start(third)
        await until(lambda: is_whole_again(daemon))
        await all_on_copies(env, [third])

    record_property("figures", f"{loss} lost: {figures}; the copy was repaired at the next push")
    verified = await Operator(env).runs("verify")
    assert [(row["status"], verified.status) for row in verified.rows] == [("ok", 0)]


def is_whole_again(daemon: DaemonProcess) -> bool:
    """Whether a copy was read back for an app, or was looked at by itself and repaired before that."""
    return any(map(daemon.named, ("verifier.verified-copy", "presence.copy-is-complete-again")))


def hangs(env: Environment, _copy: str) -> None:
    """Let the private registry take requests and never answer."""
    env.impose(env.cache, Hangs())


def gives_no_bytes(env: Environment, copy: str) -> None:
    """Let the files of a copy's layers get lost while the registry remembers that it has them."""
    env.cache.lose_layers(copy)


@pytest.mark.parametrize(
    ("failure", "remembers"), [(hangs, False), pytest.param(gives_no_bytes, True, marks=pytest.mark.long)]
)
@pytest.mark.long
async def test_a_registry_that_gives_nothing_is_found_out_by_time(
    env: Environment,
    failure: Callable[[Environment, str], None],
    record_property: Callable[[str, object], None],
) -> None:
    """No crash is ever reported, and the pull cannot be interrupted."""
    env.settings["start_timeout"] = f"{START_TIMEOUT:g}s"
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    first = await pushed_on_its_copy(env, daemon, "web")
    copy = copy_of(env, daemon, first)
    await env.cloud.delete(first)
    await until(lambda: not any(cell.instances for cell in env.cells))
    for cell in env.cells:
        cell.settings.cleans_before_pull = True
    watch, invariants = StartWatch(env), Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        second = await staged_and_cached(env, daemon, "other", image=image_of("web"))
        failure(env, copy)
        for cell in env.cells:
            cell.start_gate.clear()  # its source is asked first
        start = await watch.start(second)
        await until(lambda: start.moves[-1] == "copy")
        for cell in env.cells:
            cell.start_gate.set()
        await until(lambda: start.served_at is not None)
        served_from, figures = start.served_from, figures_of(env, watch, second)
        await until(lambda: not env.is_from_cache(second))
        env.mend(env.cache)
        if failure is gives_no_bytes:
            env.cache.find_lost_blobs()
        await daemon.logged("reconciler.reconciled", process_guid=second.process_guid, reason="not-started")

    record_property("figures", f"limit of {START_TIMEOUT:g} s: {figures}")
    assert invariants.violations == []
    assert served_from == "source"
    (listed,) = (await Operator(env).runs("apps", "--app", "other")).rows
    assert (listed["state"], listed["reason"]) == ("failed", "not-started")
