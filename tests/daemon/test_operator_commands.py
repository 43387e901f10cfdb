"""What an operator sees and does at the command line beside planning, with a real daemon's process."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from controller.admin.admin_client import open_client
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.contracts.distribution import free_port
from tests.controller.store.test_original_sources import PRIVATE
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator, running_apps, until_deletable
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.stores import open_store

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
        opened.settings |= {"sync_interval": "1s", "eviction_grace": "1s"}
        opened.bbs.state.desired["other"] = DesiredLRP(process_guid="other", domain="other")
        yield opened


async def moved(env: Environment) -> App:
    """Have an app run from its copy."""
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    return web


async def test_every_listing_is_json_lines_when_that_is_asked_for(env: Environment) -> None:
    web = await moved(env)
    operator = Operator(env)

    status = (await operator.runs("status")).row
    (image,) = (await operator.runs("images")).rows
    (app,) = (await operator.runs("apps", "--org", "acme", "--state", "cached")).rows
    (one,) = (await operator.runs("image", image["cache_guid"])).rows
    (job,) = (await operator.runs("jobs", "--state", "cached")).rows

    assert (status["paused"], status["watching"], status["images"]) == (False, True, 1)
    assert status["jobs_by_state"] == {"cached": 1}
    assert status["circuit_breaker"] == {
        "open": False,
        "failures": 0,
        "last": "",
        "retry_at": None,
        "cell": "",
    }
    assert image["source"] == f"{env.source.address}/team/web:1"
    assert image["url"] == f"{env.cache.address}/{image['cache_guid']}:latest"
    assert one["process_guids"] == [web.process_guid]
    assert {**image, "process_guids": one["process_guids"]} == one
    assert "process_guids" not in image, "what is not looked up is absent"
    assert (app["state"], app["reason"], app["running"]) == ("cached", "migrated", 2)
    assert app["rootfs"] == app["to_rootfs"] == f"docker://{image['url'].replace(':latest', '#latest')}"
    assert (job["cache_guid"], job["progress"]) == (image["cache_guid"], None)
    assert (await operator.runs("migrations")).rows == []
    none = await operator.runs("apps", "--org", "other")
    assert (none.status, none.rows) == (0, [])


async def test_pause_outlives_a_restart_and_loses_no_staging(env: Environment) -> None:
    daemon = await env.started_daemon()
    operator = Operator(env)
    await operator.runs("pause")
    await daemon.stop()
    daemon = await env.started_daemon()
    sample = images.image([images.layer(1000, 3)])
    app = env.cloud.create("late", Image(env.source.push("team/late", "1", sample)))
    build = await env.cloud.stage(app)
    assert await env.cloud.staged(app, build) == ""
    await env.cloud.start_app(app)
    await daemon.logged("cacher.queued-job", reason="staging-task")
    await until(lambda: env.rows(app) != [] and env.rows(app)[0].state == "RUNNING")

    paused = await operator.runs("status")
    waiting = await operator.runs("jobs")
    seen = await operator.runs("apps")
    await operator.runs("resume")

    assert paused.row["paused"] is True
    assert [job["state"] for job in waiting.rows] == ["queued"]
    assert [row["reason"] for row in seen.rows] == ["paused"]
    await env.replaced(app)


async def test_an_image_is_cached_by_hand_also_while_the_daemon_is_paused(env: Environment) -> None:
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)
    reference = env.source.push("team/tool", "2", images.image([images.layer(9000, 4)]))

    followed = await operator.runs("cache", "--follow", reference)
    shown = await operator.reads("cache", "--follow", reference)

    last = followed.rows[-1]
    assert (followed.status, last["state"]) == (0, "cached")
    assert shown.out == f"{last['url']}\n", "a script can take it from there"
    repository = last["url"].partition("/")[2].rpartition(":")[0]
    assert env.cache.pull_manifest(repository, "latest") is not None


async def test_a_copy_that_cannot_be_made_by_hand_fails_with_its_reason(env: Environment) -> None:
    await env.started_daemon()

    answer = await Operator(env).runs("cache", "--follow", f"{env.source.address}/team/none:1")

    assert answer.status == FAILED
    assert "copy-failed" in answer.err
    assert "team/none" in answer.err


@pytest.mark.parametrize("text", ["team/UPPER", "a b", "", "docker://x/y"])
async def test_what_is_no_reference_is_refused(env: Environment, text: str) -> None:
    await env.started_daemon()

    answer = await Operator(env).runs("cache", "--", text)

    assert answer.status == REFUSED
    assert answer.err.count("\n") == 1


async def test_the_policy_holds_for_what_is_cached_by_hand(env: Environment) -> None:
    env.settings |= {"deny_images": ["*/secret/*"]}
    await env.started_daemon()

    answer = await Operator(env).runs("cache", f"{env.source.address}/secret/x:1")

    assert answer.status == REFUSED
    assert "denied" in answer.err


async def test_evict_refuses_what_runs_and_deletes_what_does_not(env: Environment) -> None:
    web = await moved(env)
    operator = Operator(env)
    (image,) = (await operator.runs("images")).rows
    repository = image["url"].partition("/")[2].rpartition(":")[0]

    refused = await operator.runs("evict", "--yes", image["cache_guid"])
    await env.cloud.delete(web)
    await env.cloud.sync()
    await until(lambda: env.lrp(web) is None)
    await until_deletable(operator, image["cache_guid"])
    evicted = await operator.runs("evict", "--yes", image["cache_guid"])
    again = await operator.runs("evict", "--yes", image["cache_guid"])

    assert refused.status == REFUSED
    assert f"{image['cache_guid']}: used by LRP {web.process_guid}" in refused.err
    assert evicted.status == 0, evicted.err
    assert env.cache.pull_manifest(repository, "latest") is None
    assert (await operator.runs("images")).rows == []
    assert again.status == REFUSED
    assert "no-such-image" in again.err


async def test_what_was_evicted_is_copied_anew_under_the_same_guid(env: Environment) -> None:
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)
    reference = env.source.push("team/tool", "2", images.image([images.layer(9000, 4)]))
    first = (await operator.runs("cache", "--follow", reference)).rows[-1]
    await until_deletable(operator, first["cache_guid"])
    await operator.runs("evict", "--yes", first["cache_guid"])

    second = (await operator.runs("cache", "--follow", reference)).rows[-1]

    assert second["url"] == first["url"]
    repository = second["url"].partition("/")[2].rpartition(":")[0]
    assert env.cache.pull_manifest(repository, "latest") is not None


async def test_verify_tells_copies_that_are_ok_from_those_that_are_missing(env: Environment) -> None:
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)
    good = env.source.push("team/good", "1", images.image([images.layer(9000, 5)]))
    bad = env.source.push("team/bad", "1", images.image([images.layer(9000, 6)]))
    for reference in (good, bad):
        await operator.runs("cache", "--follow", reference)
    before = await operator.runs("verify")
    rows = (await operator.runs("images", "--image", f"{env.source.address}/team/bad")).rows
    env.cache.lose_manifest(rows[0]["cache_guid"], rows[0]["digest"])

    after = await operator.runs("verify")

    assert (before.status, [row["status"] for row in before.rows]) == (0, ["ok", "ok"])
    assert after.status == FAILED
    assert {row["source"]: row["status"] for row in after.rows} == {good: "ok", bad: "missing"}
    assert "1 of 2 copies is corrupt, missing or unreadable" in after.err
    (listed,) = (await operator.runs("images", "--image", f"{env.source.address}/team/bad")).rows
    assert listed["needs_verification_since"] is not None


async def test_an_open_circuit_breaker_refuses_a_plan_until_it_is_reset(env: Environment) -> None:
    env.settings |= {"max_consecutive_failures": 1, "start_paused": True}
    (web,) = await running_apps(env, "web")
    env.cell.settings.crash_reason = lambda lrp: "no such file" if env.cache.address in lrp.root_fs else ""
    await env.started_daemon()
    operator = Operator(env)

    crashed = await operator.runs("reconcile", "--apply", "--yes")
    refused = await operator.runs("reconcile", "--apply", "--yes")
    status = await operator.runs("status")
    reset = await operator.runs("reset-circuit-breaker")

    assert crashed.status == FAILED
    assert crashed.rows[-1]["reason"] == "bridge-crashed"
    assert "not-all-done: 1 of 1 apps were not migrated" in crashed.err
    assert not env.is_from_cache(web)
    assert refused.status == REFUSED
    assert "circuit-breaker-open: 1 migrations in a row failed" in refused.err
    assert status.row["circuit_breaker"]["open"] is True
    assert reset.status == 0
    assert (await operator.runs("status")).row["circuit_breaker"]["open"] is False


async def test_an_open_circuit_breaker_stays_open_in_the_next_process_until_it_is_reset(
    env: Environment,
) -> None:
    env.settings |= {"max_consecutive_failures": 1, "start_paused": True}
    await running_apps(env, "web")
    env.cell.settings.crash_reason = lambda lrp: "no such file" if env.cache.address in lrp.root_fs else ""
    operator = Operator(env)
    first = await env.started_daemon()
    await operator.runs("reconcile", "--apply", "--yes")
    opened = (await operator.runs("status")).row["circuit_breaker"]
    await until(lambda: kept_failures(env) > 0)
    await first.kill()

    second = await env.started_daemon()
    assert second.named("reconciler.restored-circuit-breaker-state")
    assert (await operator.runs("status")).row["circuit_breaker"] == opened
    assert (await operator.runs("reconcile", "--apply", "--yes")).status == REFUSED
    await operator.runs("reset-circuit-breaker")
    await second.stop()

    third = await env.started_daemon()
    assert (await operator.runs("status")).row["circuit_breaker"]["open"] is False
    assert not third.named("reconciler.restored-circuit-breaker-state")


def kept_failures(env: Environment) -> int:
    """Count what the store keeps of failures."""
    with closing(
        sqlite3.connect(f"file:{env.directory / 'store/docker-cache.db'}?mode=ro", uri=True)
    ) as store:
        return int(store.execute("SELECT count(*) FROM circuit_breakers").fetchone()[0])


async def test_what_operators_do_is_kept_with_who_did_it(env: Environment) -> None:
    await running_apps(env, "web")
    env.settings |= {"start_paused": True}
    daemon = await env.started_daemon()
    operator = Operator(env)
    await operator.runs("reconcile")
    await operator.runs("reconcile", "--apply", "--yes")
    await operator.runs("evict", "--yes", "nothing")
    async with open_client(*env.admin) as client:
        assert [row["deleted"] async for row in client.evict(["nothing"])] == [False]
    await operator.runs("resume")
    await daemon.stop()

    audit = await operator.runs("audit", "--direct")

    entries = [(row["call"], row["outcome"].partition(":")[0]) for row in audit.rows]
    assert entries == [
        ("Resume", "done"),
        ("Evict", "done"),
        ("Evict", "begun"),
        ("Apply", "done"),
        ("Apply", "begun"),
    ], "asking is no entry"
    assert {row["caller"] for row in audit.rows} == {"CN=client"}
    assert json.loads(audit.rows[-1]["arguments"]) == {"max_in_flight": 0, "migrations": 1}
    logged = [
        line["data"] for line in daemon.lines if line.get("message") == "docker-cache.admin.finished-call"
    ]
    assert [line["call"] for line in logged] == ["Apply", "Apply", "Evict", "Evict", "Resume"]


@pytest.mark.thorough
async def test_no_password_is_in_what_operators_see(env: Environment) -> None:
    marker = "marker-password-5f3a"
    sample = images.image([images.layer(1000, 8)])
    reference = env.source.push("team/private", "1", sample)
    app = env.cloud.create("private", Image(reference, "robot", marker))
    app.droplet = app.package
    await env.cloud.start_app(app)
    env.settings |= {"start_paused": True}
    daemon = await env.started_daemon()
    operator = Operator(env)

    answers = [
        await operator.runs(*command)
        for command in (
            ("reconcile", "--out", str(env.directory / "plan.jsonl")),
            ("apps",),
            ("reconcile", "--apply", "--yes"),
            ("jobs", "--state", "cached"),
            ("migrations",),
            ("restore", "--all", "--yes"),
            ("audit",),
        )
    ]

    written = [answer.out + answer.err for answer in answers]
    await daemon.kill()  # nothing writes its files any more, and the write-ahead log stays as it was
    assert [answer.status for answer in answers] == [2, 0, 0, 0, 0, 0, 0]
    assert marker not in "".join(written) + daemon.text
    assert marker not in (env.directory / "plan.jsonl").read_text()
    for file in (env.directory / "store").iterdir():
        assert marker.encode() not in file.read_bytes()


async def test_the_log_level_is_changed_while_the_daemon_runs(env: Environment) -> None:
    """By a command, which the audit has, and at the debug server, as at the other components of Diego."""
    env.settings |= {"log_level": "info", "debug_address": f"127.0.0.1:{free_port()}"}
    daemon = await env.started_daemon()
    operator = Operator(env)
    assert (await operator.runs("log-level")).row == {"level": "info", "configured": "info"}
    assert daemon.named("watcher.listed-bbs") != []
    assert {line["level"] for line in daemon.lines} <= {"info", "error"}

    changed = await operator.reads("log-level", "debug")
    assert changed.out == (
        "the daemon writes lines of level debug and above, until it starts again with info\n"
    )
    await daemon.next_line(lambda line: line["level"] == "debug", within=10)
    (entry,) = (await operator.runs("audit")).rows
    assert (entry["call"], entry["arguments"]) == ("SetLogLevel", '{"level": "debug"}')

    url = f"http://{env.settings['debug_address']}"
    async with httpx.AsyncClient() as client:
        tasks, threads = await client.get(f"{url}/debug/tasks"), await client.get(f"{url}/debug/threads")
        answer = await client.put(f"{url}/log-level", content=b"fatal")
    assert answer.text == "fatal\n"
    assert re.search(r"task watcher:\n  \S*controller/daemon.py:[0-9]+ _run_forever\n", tasks.text)
    assert "thread MainThread:\n" in threads.text
    assert (await operator.reads("log-level")).out.startswith("the daemon writes lines of level fatal")


async def test_errors_are_one_line_that_says_what_to_do(env: Environment) -> None:
    env.write_config()
    operator = Operator(env)
    without_api = {key: value for key, value in env.settings.items() if not key.startswith("admin_")}
    other = env.directory / "other.json"
    other.write_text(json.dumps(without_api))

    nobody = await operator.runs("status")
    (status, _, no_api) = await env.run_command("status", "--config", str(other))
    (missing, _, no_file) = await env.run_command("status", "--config", "/nowhere.json")
    (unknown, _, no_command) = await env.run_command("stauts")

    assert (nobody.status, nobody.err.count("\n")) == (FAILED, 1)
    assert "is the daemon running?" in nobody.err
    assert status == missing == unknown == WRONG_USAGE
    assert "admin_address" in no_api
    assert "cannot read config file /nowhere.json" in no_file
    assert "No such command 'stauts'" in no_command


async def test_a_shell_can_complete_the_commands(env: Environment) -> None:
    for shell in ("bash", "zsh", "fish"):
        (status, script, _) = await env.run_command("completion", shell)
        assert status == 0
        assert "_DIEGO_DOCKER_CACHE_COMPLETE" in script


async def test_jobs_are_watched_as_they_get_on(env: Environment) -> None:
    await env.started_daemon()
    reference = env.source.push("team/tool", "2", images.image([images.layer(9000, 9)]))
    async with open_client(*env.admin) as client:
        watching = client.watch_jobs()
        job = await client.cache_image(reference)
        states = []
        async for row in watching:
            assert row["job_id"] == job["job_id"]
            states.append(row["state"])
            if row["state"] == "cached":
                break
        await watching.aclose()

    assert states[-1] == "cached"


async def test_what_is_so_after_a_command_is_told_to_programs_too(env: Environment) -> None:
    await env.started_daemon()
    operator = Operator(env)

    assert (await operator.runs("pause")).row == {"paused": True}
    assert (await operator.runs("resume")).row == {"paused": False}
    assert (await operator.runs("reset-circuit-breaker")).row == {"circuit_breaker_open": False}
    assert (await operator.reads("pause")).out == "paused; `resume` ends it\n"


async def test_a_new_journal_key_seals_at_the_start_what_the_old_one_has_sealed(env: Environment) -> None:
    key = Path(env.settings["journal_key_file"])
    old, new = key.read_text().strip(), Fernet.generate_key().decode()  # noqa: ASYNC240 - before anything runs
    async with open_store(env.settings["database_url"], journal_key=old.encode(), run_id="r") as store:
        await store.original_sources.save_original_source(PRIVATE)
    key.write_text(f"{new}\n{old}\n")  # noqa: ASYNC240 - before anything runs
    daemon, operator = await env.started_daemon(), Operator(env)

    assert (await daemon.logged("daemon.sealed-anew"))["data"]["renewed"] == 1
    assert (await operator.runs("seal-anew")).row == {"values": 1, "renewed": 0, "unreadable": 0}
    assert (await operator.reads("seal-anew")).out == "sealed 0 of 1 value anew\n"


async def test_a_daemon_says_at_its_start_that_others_can_read_its_key(env: Environment) -> None:
    await asyncio.to_thread(Path(env.settings["journal_key_file"]).chmod, 0o644)
    daemon = await env.started_daemon()

    (told,) = daemon.named("daemon.found-exposed-file")
    assert told["data"]["detail"].startswith(
        f"journal_key_file: {env.settings['journal_key_file']} can be read"
    )
    assert "chmod o-rwx" in told["data"]["advice"]


@pytest.mark.thorough
async def test_what_people_read_is_text_wherever_it_goes(env: Environment) -> None:
    web = await moved(env)
    operator = Operator(env)
    (image,) = (await operator.runs("images")).rows

    for command, told in (
        ("status", "circuit breaker"),
        ("images", image["cache_guid"]),
        ("jobs", "0 jobs"),
        ("apps", web.process_guid),
        ("migrations", "0 migrations"),
        ("audit", "0 entries"),
        ("verify", "1 copy"),
        ("reconcile", "0 apps to migrate"),
        ("doctor", "cache-registry"),
    ):
        answer = await operator.reads(command)
        assert told in answer.out, answer.out + answer.err
        assert not answer.out.startswith("{")
        assert answer.out.replace("\n", "").isprintable(), "no colours, no frames"
    (line,) = [line for line in (await operator.reads("apps")).out.splitlines() if web.process_guid in line]
    assert line.split()[:3] == ["web", "acme", "dev"], "one line that grep finds whole"


async def test_images_are_named_by_a_prefix_or_their_source_and_several_at_once(env: Environment) -> None:
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)
    made = []
    for number in range(3):
        reference = env.source.push("team/tool", f"{number}", images.image([images.layer(9000, 20 + number)]))
        made.append((await operator.runs("cache", "--follow", reference)).rows[-1])
    first, second, third = made

    shown = await operator.runs("image", first["cache_guid"][:13], second["source"])
    verified = await operator.runs("verify", third["source"], first["cache_guid"][:18])
    short = await operator.runs("image", first["cache_guid"][:3])
    await until_deletable(operator, first["cache_guid"], second["cache_guid"])
    named = (first["cache_guid"][:13], "0000000000", second["source"])
    evicted = await operator.runs("evict", "--yes", *named)
    left = await operator.runs("images")

    assert [row["cache_guid"] for row in shown.rows] == [first["cache_guid"], second["cache_guid"]]
    assert [row["cache_guid"] for row in verified.rows] == [third["cache_guid"], first["cache_guid"]]
    assert (short.status, "name-too-short" in short.err) == (REFUSED, True)
    assert evicted.status == REFUSED
    assert [row["cache_guid"] for row in evicted.rows] == [first["cache_guid"], second["cache_guid"]]
    assert "0000000000: admin: no-such-image" in evicted.err
    assert "1 of 3 copies was not deleted" in evicted.err
    assert [row["cache_guid"] for row in left.rows] == [third["cache_guid"]]
    audit = (await operator.runs("audit")).rows
    assert json.loads(audit[0]["arguments"])["deleted"] == [first["cache_guid"], second["cache_guid"]]


async def test_an_lrp_is_named_by_a_unique_prefix_of_its_process_guid(env: Environment) -> None:
    env.settings |= {"start_paused": True}
    web, worker = await running_apps(env, "web", "worker", instances=1)
    await env.started_daemon()
    operator = Operator(env)

    found = await operator.runs("apps", "--process-guid", web.process_guid[:20])
    planned = await operator.runs("reconcile", "--process-guid", worker.process_guid[:20])
    missing = await operator.runs("apps", "--process-guid", "0000")
    globbed = await operator.runs("apps", "--app", "w?b", "--org", "ac*")

    assert [row["app_name"] for row in found.rows] == ["web"]
    assert [row["app_name"] for row in planned.kind("migration")] == ["worker"]
    assert (missing.status, missing.rows) == (REFUSED, [])
    assert [row["app_name"] for row in globbed.rows] == ["web"]


async def test_a_job_that_fails_says_which_attempt_it_was_and_when_the_next_begins(env: Environment) -> None:
    await env.started_daemon()
    operator = Operator(env)
    env.stop_source()
    asked = await operator.runs("cache", f"{env.source.address}/team/none:1")

    async with asyncio.timeout(60):
        while not (job := (await operator.runs("jobs", "--job", asked.row["job_id"][:8])).row)["error"]:  # noqa: ASYNC110 - the daemon sets no event here
            await asyncio.sleep(0.2)
    shown = await operator.reads("jobs")

    assert job["attempts"] >= 1
    assert job["max_attempts"] > job["attempts"]
    heading, line = shown.out.splitlines()[1:3]
    assert heading.split()[:2] == ["SOURCE", "STATE"]
    for column in ("ATTEMPT", "NEXT-ATTEMPT", "REASON", "ERROR", "JOB-ID"):
        assert column in heading.split()
    assert f" of {job['max_attempts']}" in line
    assert "operator-request" in line
