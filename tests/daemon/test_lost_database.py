"""What operators do when the database is lost, corrupt, or older than the world."""

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import start_interpreter
from tests.simulators.bbs import Version
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough

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
        opened.settings |= {"sync_interval": "1s", "copy_notes_after": "0s"}
        yield opened


async def migrated(env: Environment) -> tuple[DaemonProcess, App]:
    """Have an app run from its copy, beside which lies a note."""
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await daemon.logged("notes.wrote-note")
    return daemon, web


def lose_database(env: Environment) -> None:
    """Lose the database with all files beside it, and start again two minutes later."""
    env.forget_stores()
    shutil.rmtree(env.directory / "store")


def spoil_database(env: Environment) -> None:
    """Overwrite the database."""
    (env.directory / "store" / "docker-cache.db").write_bytes(b"this was a database once" * 600)


def names_beside(env: Environment) -> set[str]:
    """Name the database and all files beside it."""
    return {each.name for each in (env.directory / "store").iterdir()}


def size_and_mode(file: Path) -> tuple[int, int]:
    """Read the bytes and the permissions of a file."""
    return file.stat().st_size, file.stat().st_mode & 0o777


def cut(file: Path) -> None:
    """Cut a file in half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


async def state_of(operator: Operator, app: App) -> tuple[str, str]:
    """Read state and reason of an app, once the daemon has looked at it."""
    (row,) = [row for row in (await operator.runs("apps")).rows if row["process_guid"] == app.process_guid]
    return row["state"], row["reason"]


@pytest.mark.slow
async def test_after_the_loss_of_the_database_apps_are_adopted_by_the_notes_beside_their_copies(
    env: Environment,
) -> None:
    daemon, web = await migrated(env)
    operator = Operator(env)
    (before,) = (await operator.runs("images")).rows
    await daemon.stop()
    lose_database(env)
    env.settings |= {"start_paused": True}
    daemon = await env.started_daemon()
    said = await daemon.logged("notes.lrps-run-from-unknown-copies")

    lost = await state_of(operator, web)
    rebuilt = await operator.runs("rebuild")
    (after,) = (await operator.runs("images")).rows
    found = await state_of(operator, web)
    again = await operator.runs("rebuild")
    restored = await operator.runs("restore", "--app", "web", "--yes")

    assert "rebuild" in said["data"]["detail"]
    assert lost == ("waiting", "copy-unknown")
    assert rebuilt.status == 0, rebuilt.err
    assert [(row["status"], row["process_guids"]) for row in rebuilt.rows] == [
        ("adopted", [web.process_guid])
    ]
    known = ("cache_guid", "source", "url", "root_digest", "platform_digest", "digest", "bytes")
    assert {name: after[name] for name in known} == {name: before[name] for name in known}
    assert found == ("cached", "already-cached")
    assert (again.status, again.rows) == (0, [])
    assert restored.status == 0, restored.err
    lrp = env.lrp(web)
    assert lrp is not None
    assert lrp.root_fs == f"docker://{before['source'].removesuffix(':1')}#1"


async def test_a_note_that_was_tampered_with_adopts_nothing(env: Environment) -> None:
    daemon, web = await migrated(env)
    operator = Operator(env)
    (image,) = (await operator.runs("images")).rows
    await daemon.stop()
    lose_database(env)
    repository = image["cache_guid"]
    note = env.cache.pull_manifest(repository, "latest.note")
    assert note is not None
    document = json.loads(note.content)
    document["annotations"]["diego-docker-cache.source"] = "evil.example/team/web:1"
    tampered = replace(note, content=json.dumps(document).encode())
    env.cache.push_manifest(repository, "latest.note", tampered)
    env.settings |= {"start_paused": True}
    await env.started_daemon()

    rebuilt = await operator.runs("rebuild")
    restored = await operator.runs("restore", "--app", "web", "--yes")

    assert rebuilt.status == FAILED
    assert [(row["status"], row["source"]) for row in rebuilt.rows] == [("reserved", "")]
    assert "not sealed" in rebuilt.rows[0]["detail"]
    assert restored.status == FAILED
    assert "source-unknown" in restored.out + restored.err
    assert env.is_from_cache(web)


async def test_a_copy_without_a_note_is_found_by_the_next_staging(env: Environment) -> None:
    env.settings |= {"copy_notes": False}
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    rootfs = await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await daemon.stop()
    lose_database(env)
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)

    rebuilt = await operator.runs("rebuild")
    copied = await operator.runs("cache", "--follow", web.package.text)

    assert [row["status"] for row in rebuilt.rows] == ["reserved"]
    assert f"docker://{copied.rows[-1]['url'].replace(':latest', '#latest')}" == rootfs
    assert len((await operator.runs("images")).rows) == 1


async def test_a_backup_of_a_working_daemon_takes_the_place_of_its_database(
    env: Environment, tmp_path: Path
) -> None:
    env.start = start_interpreter
    daemon, web = await migrated(env)
    operator = Operator(env)
    file = tmp_path / "backup.db"

    saved = await operator.runs("backup", str(file))
    twice = await operator.runs("backup", str(file))
    images = (await operator.runs("images")).rows
    await operator.runs("pause")
    restored = await operator.runs("restore-backup", "--yes", str(file))
    status = (await operator.runs("status")).row
    after = (await operator.runs("images")).rows
    said = await daemon.logged("daemon.restored-backup")

    assert (saved.status, saved.row["images"], saved.row["migrations"]) == (0, 1, 0)
    assert (saved.row["bytes"], 0o600) == size_and_mode(file)
    assert twice.status == REFUSED
    assert "file-exists" in twice.err
    assert restored.status == 0, restored.err
    assert Path(restored.row["replaced"]).name in names_beside(env)
    assert said["data"]["replaced"] == restored.row["replaced"]
    assert status["paused"] is True
    assert after == images
    assert (await state_of(operator, web))[0] == "cached"


async def test_a_backup_that_does_not_fit_changes_nothing(env: Environment, tmp_path: Path) -> None:
    daemon, _ = await migrated(env)
    operator = Operator(env)
    file = tmp_path / "backup.db"
    await operator.runs("backup", str(file))
    cut(file)
    before = (await operator.runs("status")).row["run_id"]

    refused = await operator.runs("restore-backup", "--yes", str(file))
    beside_a_daemon = await operator.runs("restore-backup", "--yes", "--direct", str(file))

    assert refused.status == REFUSED
    assert "backup-corrupt" in refused.err
    assert beside_a_daemon.status == REFUSED
    assert "store-in-use" in beside_a_daemon.err
    assert (await operator.runs("status")).row["run_id"] == before
    assert names_beside(env) <= {"docker-cache.db" + end for end in ("", "-wal", "-shm", ".lock")}
    assert daemon.named("daemon.restored-backup") == []


async def test_a_corrupt_database_says_what_helps_and_is_replaced_without_a_daemon(
    env: Environment, tmp_path: Path
) -> None:
    daemon, web = await migrated(env)
    operator = Operator(env)
    file = tmp_path / "backup.db"
    await operator.runs("backup", str(file))
    await daemon.stop()
    spoil_database(env)
    failing = await env.start_daemon()
    await failing.ended()

    restored = await operator.runs("restore-backup", "--yes", "--direct", str(file))
    await env.started_daemon()

    assert "restore-backup FILE --direct" in failing.text
    assert "rebuild" in failing.text
    assert restored.status == 0, restored.err
    assert Path(restored.row["replaced"]).name in names_beside(env)
    assert "SQLITE_NOTADB" in restored.row["problem"]
    await until(lambda: env.is_from_cache(web))
    assert (await operator.runs("status")).row["paused"] is True
