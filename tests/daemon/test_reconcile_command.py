"""What an operator plans, applies and restores at the command line, with a real daemon's process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator, running_apps
from tests.simulators.bbs import Fault, Version

PENDING = 2
WRONG_USAGE = 3
REFUSED = 4
FAILED = 5


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.1,
        pulls=False,
        sync_interval=30.0,
        converge_interval=1.0,
    ) as opened:
        opened.settings |= {"start_paused": True, "sync_interval": "1s"}
        yield opened


async def test_a_plan_changes_nothing_and_names_every_change(env: Environment) -> None:
    await running_apps(env, "web", "worker")
    await env.started_daemon()

    plan = await Operator(env).runs("reconcile")

    assert plan.status == PENDING
    (copy,) = plan.kind("copy")
    assert (copy["source"], copy["lrps"], copy["known"]) == (f"{env.source.address}/team/web:1", 2, True)
    assert copy["bytes"] > 25_000
    assert copy["requests"] == 5, "a HEAD, a manifest, a config and two layers"
    migrations = plan.kind("migration")
    assert [(row["app_name"], row["strategy"], row["instances"]) for row in migrations] == [
        ("web", "bridge", 2),
        ("worker", "bridge", 2),
    ]
    assert plan.kind("plan")[0]["problems"] == []
    assert not any(env.is_from_cache(app) for app in env.cloud.apps.values())
    assert (await Operator(env).runs("images")).rows == []
    assert (await Operator(env).runs("jobs")).rows == []


async def test_a_plan_in_a_file_is_applied_while_the_daemon_is_paused(env: Environment) -> None:
    apps = await running_apps(env, "web", "worker", "other")
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    invariants = Invariants(env.bbs, [env.cell], env.cloud)

    planned = await operator.runs("reconcile", "--app", "web", "--app", "worker", "--out", str(file))
    with invariants.watching():
        applied = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert (planned.status, applied.status) == (PENDING, 0), applied.err
    assert [env.is_from_cache(app) for app in apps] == [True, True, False]
    last = applied.rows[-1]
    assert (last["done"], last["total"], last["state"], last["reason"]) == (2, 2, "done", "migrated")
    assert invariants.violations == []
    again = await operator.runs("reconcile", "--apply", str(file), "--yes")
    assert again.status == 0, "what is done already is done"
    assert {row["detail"] for row in again.rows if row.get("state") == "done"} == {"it was before"}
    left = await operator.runs("reconcile", "--app", "web", "--app", "worker")
    assert (left.status, left.kind("migration")) == (0, [])


async def test_a_plan_is_refused_whole_when_an_app_has_changed(env: Environment) -> None:
    web, worker = await running_apps(env, "web", "worker")
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))

    await env.cloud.scale(worker, 3)
    applied = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert applied.status == REFUSED
    assert "plan-is-stale: worker wants instances: 3, not 2" in applied.err
    assert not env.is_from_cache(web)
    assert (await operator.runs("jobs")).rows == [], "nothing was begun"


async def test_an_app_that_is_gone_is_named(env: Environment) -> None:
    web, _ = await running_apps(env, "web", "worker")
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))

    await env.cloud.delete(web)
    applied = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert applied.status == REFUSED
    assert "web is gone" in applied.err


@pytest.mark.thorough
async def test_interrupted_it_harms_nothing_and_a_second_run_finishes(env: Environment) -> None:
    """Of the same file: what was done before counts as done."""
    names = [f"app-{n}" for n in range(8)]
    apps = await running_apps(env, *names, instances=1)
    env.settings |= {"max_in_flight": 2}
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    arguments = ("reconcile", "-o", "json", "--config", str(env.config_path), "--apply", str(file), "--yes")
    with invariants.watching():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controller",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async for line in process.stdout:
            if json.loads(line).get("state") == "done":
                break
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == FAILED
        assert "of 8 done, " in err.decode()
        assert "on their way: waiting for them (again Ctrl-C leaves them to the daemon)" in err.decode()
        assert "the others were not started; run the command again for the rest" in err.decode()
        assert (await operator.runs("migrations")).rows == [], "it waited for what had begun"
        assert not any(guid.startswith("docker-cache-bridge") for guid in env.bbs.state.desired)
        moved = sum(env.is_from_cache(app) for app in apps)

        second = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert 1 <= moved < len(apps)
    assert second.status == 0, second.err
    assert all(env.is_from_cache(app) for app in apps)
    assert invariants.violations == []


async def test_i15_a_plan_built_on_an_incomplete_listing_says_so_and_cannot_be_applied(
    env: Environment,
) -> None:
    await running_apps(env, "web")
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    env.bbs.faults.order(Fault.UNAVAILABLE, "/v1/desired_lrps/list.r3", calls=100)

    planned = await operator.runs("reconcile", "--out", str(file))
    env.bbs.faults.clear()
    applied = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert planned.status == REFUSED
    assert "the listing is not complete" in planned.kind("plan")[0]["problems"][0]
    assert "plan-incomplete" in planned.err
    assert applied.status == REFUSED
    assert "plan-incomplete" in applied.err


@pytest.mark.thorough
async def test_restored_apps_stay_on_their_sources_until_they_are_asked_for(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    env.settings |= {"start_paused": False}
    daemon = await env.started_daemon()
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    operator = Operator(env)
    invariants = Invariants(env.bbs, [env.cell], env.cloud)

    with invariants.watching():
        restored = await operator.runs("restore", "--app", "web", "--yes")
    held = (await operator.runs("apps")).row
    without = await operator.runs("reconcile")
    again = await operator.runs("reconcile", "--include-pinned", "--apply", "--yes")

    assert restored.status == 0, restored.err
    assert restored.rows[-1]["reason"] == "restored"
    assert (held["state"], held["reason"], held["running"]) == ("skipped", "pinned-to-source", 2)
    assert held["rootfs"].startswith(f"docker://{env.source.address}/")
    assert [row["reason"] for row in without.kind("skipped")] == ["pinned-to-source"]
    assert without.status == 0
    assert again.status == 0, again.err
    assert env.is_from_cache(web)
    assert invariants.violations == []


async def test_restore_asks_which_apps(env: Environment) -> None:
    await env.started_daemon()

    answer = await Operator(env).runs("restore", "--yes")

    assert answer.status == WRONG_USAGE
    assert "give a filter such as --app NAME, or --all" in answer.err


@pytest.mark.parametrize("command", ["reconcile", "restore"])
async def test_a_filter_that_matches_nothing_is_no_success(env: Environment, command: str) -> None:
    await running_apps(env, "web")
    await env.started_daemon()

    answer = await Operator(env).runs(command, "--app", "wbe")

    assert answer.status == REFUSED
    assert "nothing matches --app wbe" in answer.err


async def test_without_a_terminal_it_does_not_guess_the_answer(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()

    answer = await Operator(env).runs("reconcile", "--apply")

    assert answer.status == WRONG_USAGE
    assert "no terminal to ask on: give --yes" in answer.err
    assert not env.is_from_cache(web)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a plan"),
        ("{}\n", "is not a plan"),
        ('{"docker_cache_plan": 1}\n', "has no end: it was cut"),
        ('{"docker_cache_plan": 1}\n{"migration": 3}\n', "line 2, is not an entry of a plan"),
    ],
)
async def test_a_file_that_is_no_plan_is_refused(env: Environment, text: str, told: str) -> None:
    await env.started_daemon()
    file = env.directory / "plan.jsonl"
    file.write_text(text)

    answer = await Operator(env).runs("reconcile", "--apply", str(file), "--yes")

    assert answer.status == REFUSED
    assert told in answer.err


async def test_no_cache_missing_leaves_apps_alone_whose_images_have_no_copy(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()

    answer = await Operator(env).runs("reconcile", "--no-cache-missing", "--apply", "--yes")

    assert answer.status == 0
    assert [row["reason"] for row in answer.kind("skipped")] == ["not-cached"]
    assert not env.is_from_cache(web)


async def test_only_apps_of_the_wanted_strategy_are_planned(env: Environment) -> None:
    await running_apps(env, "web")
    await env.started_daemon()
    operator = Operator(env)

    assert (await operator.runs("reconcile", "--strategy", "recreate")).kind("migration") == []
    assert len((await operator.runs("reconcile", "--strategy", "bridge")).kind("migration")) == 1


async def test_more_at_a_time_than_the_daemon_moves_is_refused(env: Environment) -> None:
    await running_apps(env, "web")
    await env.started_daemon()

    answer = await Operator(env).runs("reconcile", "--apply", "--yes", "--max-in-flight", "11")

    assert answer.status == REFUSED
    assert "max-in-flight: the daemon migrates 1 to 10 LRPs at a time" in answer.err


async def test_a_copy_that_cannot_be_made_leaves_its_app_alone_and_says_why(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()
    operator = Operator(env)
    await operator.runs("reconcile")
    env.stop_source()
    env.settings |= {"registry_timeout": "1s"}

    answer = await operator.runs("reconcile")

    (copy,) = answer.kind("copy")
    assert (copy["known"], answer.status) == (False, PENDING)
    assert env.source.address in copy["problem"]
    assert not env.is_from_cache(web)


class TestWithoutADaemon:
    async def test_it_does_the_same_in_its_own_process(self, env: Environment) -> None:
        apps = await running_apps(env, "web", "worker")
        env.write_config()
        invariants = Invariants(env.bbs, [env.cell], env.cloud)
        operator = Operator(env)

        planned = await operator.runs("reconcile", "--direct")
        with invariants.watching():
            applied = await operator.runs("reconcile", "--direct", "--apply", "--yes")

        assert planned.status == PENDING, planned.err
        assert applied.status == 0, applied.err
        assert all(env.is_from_cache(app) for app in apps)
        assert invariants.violations == []
        assert not any(guid.startswith("docker-cache-bridge") for guid in env.bbs.state.desired)
        assert (await operator.runs("status", "--direct")).row["apps_by_state"] == {"cached": 2}

    async def test_it_refuses_beside_a_daemon(self, env: Environment) -> None:
        daemon = await env.started_daemon()

        answer = await Operator(env).runs("reconcile", "--direct")

        assert answer.status == REFUSED
        assert f"is held by process {daemon.pid}" in answer.err

    async def test_without_direct_it_says_that_no_daemon_answers(self, env: Environment) -> None:
        env.write_config()

        answer = await Operator(env).runs("reconcile")

        assert answer.status == FAILED
        assert "nothing listens there: is the daemon running?" in answer.err
        assert env.settings["admin_address"] in answer.err


@pytest.mark.long
async def test_an_interrupted_restore_holds_only_what_it_has_begun(env: Environment) -> None:
    names = [f"app-{n}" for n in range(6)]
    apps = await running_apps(env, *names, instances=1)
    env.settings |= {"max_in_flight": 1}
    await env.started_daemon()
    operator = Operator(env)
    await operator.runs("reconcile", "--apply", "--yes")
    assert all(map(env.is_from_cache, apps))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller",
        *("restore", "-o", "json", "--config", str(env.config_path), "--all", "--yes"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if json.loads(line).get("state") == "done":
            break
    process.send_signal(signal.SIGINT)
    await process.communicate()
    await until(lambda: not any(guid.startswith("docker-cache-bridge") for guid in env.bbs.state.desired))

    back = sum(not env.is_from_cache(app) for app in apps)
    held = (await operator.runs("status")).row["pinned_apps"]
    assert 1 <= back < len(apps)
    assert held == back


async def test_an_lrp_that_cannot_be_looked_at_is_given_up(env: Environment) -> None:
    """An order must come to an end, also where passes fail again and again."""
    await running_apps(env, "web")
    env.settings |= {"communication_timeout": "1s"}
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))
    env.bbs.faults.order(Fault.UNAVAILABLE, "/v1/desired_lrps/get_by_process_guid.r3", calls=10_000)

    answer = await operator.runs("reconcile", "--apply", str(file), "--yes")

    last = answer.rows[-1]
    assert (answer.status, last["state"], last["reason"]) == (FAILED, "skipped", "check-failed")
    assert "get_by_process_guid" in last["detail"]


async def test_a_file_without_a_name_is_no_new_plan(env: Environment) -> None:
    """As a script with a variable that is not set would write it."""
    (web,) = await running_apps(env, "web")
    await env.started_daemon()

    answer = await Operator(env).runs("reconcile", "--apply=", "--yes")

    assert answer.status == WRONG_USAGE
    assert not env.is_from_cache(web)


async def test_an_app_that_restore_finds_on_its_source_stays_there(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()
    operator = Operator(env)

    restored = await operator.runs("restore", "--app", "web", "--yes")
    await operator.runs("resume")

    assert restored.status == 0, restored.err
    assert [row["app_name"] for row in restored.kind("pin")] == ["web"]
    assert (await operator.runs("apps")).row["reason"] == "pinned-to-source"
    assert (await operator.runs("status")).row["pinned_apps"] == 1
    assert not env.is_from_cache(web)


async def test_a_plan_is_refused_when_an_app_was_pinned_since(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))
    await operator.runs("reconcile", "--apply", str(file), "--yes")
    await operator.runs("restore", "--app", "web", "--yes")

    again = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert again.status == REFUSED
    assert "web is pinned to its source now" in again.err
    assert not env.is_from_cache(web)


async def test_ctrl_c_at_the_question_ends_it(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    await env.started_daemon()
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller",
        *("reconcile", "--config", str(env.config_path), "--apply"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += await asyncio.to_thread(os.read, ours, 65536)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        status = await process.wait()
    said = await asyncio.to_thread(os.read, ours, 65536)
    os.close(ours)

    assert status == FAILED
    assert b"interrupted: nothing was changed" in said
    assert not env.is_from_cache(web)


async def test_a_reader_that_has_seen_enough_ends_it_without_a_traceback(env: Environment) -> None:
    await running_apps(env, "web")
    await env.started_daemon()
    command = f"{sys.executable} -m controller reconcile -o json --config {env.config_path} --apply --yes | head -n 1"
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )

    out, err = await process.communicate()

    assert json.loads(out)["kind"] == "copy"
    assert b"Traceback" not in err


@pytest.mark.thorough
async def test_a_daemon_that_is_killed_in_mid_plan_finishes_what_has_begun_and_the_plan_is_applied_again(
    env: Environment,
) -> None:
    apps = await running_apps(env, *(f"app-{n}" for n in range(4)), instances=1)
    env.settings |= {"max_in_flight": 1, "route_propagation_delay": "2s"}
    daemon = await env.started_daemon()
    operator, file = Operator(env), env.directory / "plan.jsonl"
    await operator.runs("reconcile", "--out", str(file))
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    with invariants.watching():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller", "reconcile", "-o", "json"),
            *("--config", str(env.config_path), "--apply", str(file), "--yes"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async for line in process.stdout:
            if json.loads(line).get("reason") == "bridging":
                break
        await daemon.kill()
        async with asyncio.timeout(60):
            _, err = await process.communicate()
        assert process.returncode == FAILED
        assert "the daemon finishes those that have begun, also after its next start" in err.decode()
        assert "run the command again for the rest" in err.decode()

        await env.started_daemon()
        await until(lambda: any(map(env.is_from_cache, apps)))
        again = await operator.runs("reconcile", "--apply", str(file), "--yes")

    assert again.status == 0, again.err
    assert all(map(env.is_from_cache, apps))
    assert invariants.violations == []


async def test_a_second_ctrl_c_leaves_what_has_begun_to_the_daemon(env: Environment) -> None:
    apps = await running_apps(env, *(f"app-{n}" for n in range(4)), instances=1)
    env.settings |= {"max_in_flight": 1, "route_propagation_delay": "3s"}
    await env.started_daemon()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "reconcile", "-o", "json"),
        *("--config", str(env.config_path), "--apply", "--yes"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async for line in process.stdout:
        if json.loads(line).get("reason") == "bridging":
            break
    process.send_signal(signal.SIGINT)
    first = await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        _, err = await process.communicate()

    assert first.decode() == (
        "0 of 4 done, 1 on their way: waiting for them (again Ctrl-C leaves them to the daemon)\n"
    )
    assert process.returncode == FAILED
    assert "the daemon finishes those that have begun" in err.decode()
    await until(lambda: any(map(env.is_from_cache, apps)))
    await until(lambda: not any(guid.startswith("docker-cache-bridge") for guid in env.bbs.state.desired))
    assert sum(map(env.is_from_cache, apps)) == 1


async def test_a_saved_plan_says_how_to_apply_it_and_each_command_applies_its_own(env: Environment) -> None:
    (web,) = await running_apps(env, "web", instances=1)
    await env.started_daemon()
    operator, there, back = Operator(env), env.directory / "there.jsonl", env.directory / "back again.jsonl"
    config = f"--config {env.config_path}"

    planned = await operator.reads("reconcile", "--out", str(there))
    wrong = await operator.reads("restore", "--apply", str(there), "--yes")
    applied = await operator.reads("reconcile", "--apply", str(there), "--yes")
    assert env.is_from_cache(web), applied.err
    restoring = await operator.reads("restore", "--app", "web", "--out", str(back))
    other = await operator.reads("reconcile", "--apply", str(back), "--yes")
    assert env.is_from_cache(web)
    restored = await operator.reads("restore", "--apply", str(back), "--yes")

    told = f"saved to {there}; apply it with: diego-docker-cache reconcile {config} --apply {there}\n"
    assert (planned.status, planned.err) == (PENDING, told)
    assert (wrong.status, other.status) == (REFUSED, REFUSED)
    assert f"diego-docker-cache reconcile {config} --apply {there}" in wrong.err
    assert (
        f"saved to {back}; apply it with: diego-docker-cache restore {config} --apply '{back}'"
        in restoring.err
    )
    assert f"apply it with: diego-docker-cache restore {config} --apply '{back}'" in other.err
    assert restored.status == 0, restored.err
    assert not env.is_from_cache(web)


@pytest.mark.parametrize("command", ["apps", "reconcile", "restore"])
async def test_filters_that_match_nothing_are_named_by_every_command(env: Environment, command: str) -> None:
    await running_apps(env, "web", instances=1)
    await env.started_daemon()
    operator = Operator(env)

    org = await operator.reads(command, "--org", "nope", "--space", "a b")
    app = await operator.reads(command, "--app", "no*pe", "--org", "acme")

    assert (org.status, org.err) == (0, "nothing matches --org nope --space 'a b'\n")
    assert app.status == REFUSED
    assert "nothing matches --app 'no*pe' --org acme" in app.err
