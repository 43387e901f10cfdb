"""Instances of two versions on one database, of which the newer one has a further revision of the schema."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from controller.store.schema import VERSIONS, head
from tests import databases
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.instances import Instances, open_instances
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import LONGEST_LINE, Program, Starter
from tests.simulators.bbs import Version

pytestmark = pytest.mark.thorough

REFUSED = 4
NEXT = f"{int(head()) + 1:04}"
REVISION = f'''"""Add a table of a later version."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{head()}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table("added_later", sa.Column("id", sa.Integer, primary_key=True))
'''


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.05, pulls=False, sync_interval=30.0, limits=limits
    ) as opened:
        yield opened


@pytest.fixture
def database(worker_id: str) -> Iterator[str]:
    """Name a database whose schema no other test meets."""
    server, name = databases.run_server("postgresql"), f"upgraded_{worker_id}"
    server.create(name)
    yield name
    server.drop(name)


@pytest.fixture
async def instances(env: Environment, database: str, tmp_path: Path) -> AsyncIterator[Instances]:
    """Prepare an old instance, a newer one, and another old one."""
    url = databases.run_server("postgresql").url(database)
    async with open_instances(env, url, 3) as opened:
        opened.all[1].env.start = newer_version(tmp_path / "schema")
        yield opened


def newer_version(directory: Path) -> Starter:
    """Make the program of a later version."""
    shutil.copytree(VERSIONS, directory)
    (directory / "versions" / f"{NEXT}_add_a_table.py").write_text(REVISION)

    async def start(
        *arguments: str, err: int = subprocess.PIPE, limits: Mapping[str, float] | None = None
    ) -> Program:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.daemon.newer_run", str(directory), json.dumps(dict(limits or {}))),
            *arguments,
            stdout=subprocess.PIPE,
            stderr=err,
            limit=LONGEST_LINE,
        )

    return start


def revision_of(database: str) -> str:
    ((found,),) = databases.run_server("postgresql").execute(
        "SELECT version_num FROM alembic_version", database=database
    )
    return str(found)


@pytest.mark.slow
async def test_a_newer_version_migrates_when_it_becomes_active_and_older_ones_refuse_from_then_on(
    env: Environment, instances: Instances, database: str
) -> None:
    old, new, other_old = instances.all
    await old.start()
    await instances.active()
    for each in (new, other_old):
        await each.start()
        await each.daemon.logged("leadership.lock-is-held")
    (web,) = await running_apps(env, "web")
    await env.replaced(web)
    assert revision_of(database) == head()

    other_old.daemon.freeze()  # else it may be faster, which is an ordinary take-over
    assert await old.stop() == 0
    await new.daemon.logged("daemon.started")
    other_old.daemon.thaw()
    assert revision_of(database) == NEXT

    refused = await old.start()
    assert await refused.ended() == REFUSED
    assert f"has schema {NEXT}, written by a newer version than this one ({head()})" in refused.text
    status = (await Operator(other_old.env).runs("status")).row
    assert (status["active"], status["holder"]["instance_id"]) == (False, new.name)

    await new.kill()
    assert await other_old.daemon.ended() == REFUSED
    assert "schema-newer" in other_old.daemon.text
    assert not other_old.daemon.named("daemon.started")
    await new.start()
    assert await instances.active() is new
    (another,) = await running_apps(env, "another")
    await env.replaced(another)
    await until(lambda: not any(row.state != "RUNNING" for row in env.rows(another)))
