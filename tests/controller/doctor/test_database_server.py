"""What doctor says about a database on a server."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.doctor.database import check_database
from controller.doctor.database_server import judge_holder, judge_keys, judge_server
from controller.doctor.diagnosis import checks_of, run_check
from controller.doctor.findings import Finding, Level
from controller.leadership.ports import Holder, HolderNote
from controller.store.location import ServerLocation, location_from_url
from controller.store.schema import SchemaState, head
from controller.store.server_inspection import InspectedServer
from tests.controller.doctor.conftest import Settings, all_of, config_of
from tests.databases import empty_database
from tests.stores import open_store

WELL = InspectedServer(
    version="PostgreSQL 15.3",
    is_encrypted=True,
    is_durable=True,
    clock_ahead=0.1,
    schema=SchemaState(head()),
    registries={},
    key_uses=None,
    store_ids=frozenset(),
    holder=None,
    used_keys=(),
    own_keys=(),
)
URL = "postgresql://docker_cache@db.example/store"


@pytest.fixture
def location() -> ServerLocation:
    found = location_from_url(URL).server
    assert found is not None
    return found


async def judge(settings: Settings, location: ServerLocation, **changed: Any) -> list[Finding]:
    settings["database_url"] = URL
    return list(judge_server(await config_of(settings), location, replace(WELL, **changed)))


async def test_a_verified_server_with_this_schema_is_well(
    settings: Settings, location: ServerLocation
) -> None:
    settings["database_ca_cert_file"] = settings["bbs_ca_cert_file"]
    found = await judge(settings, location)

    assert [each.text for each in found] == [
        "postgresql://db.example:5432/store is PostgreSQL 15.3; the connection is encrypted and verified",
        "postgresql://db.example:5432/store has the schema of this version",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "the connection is encrypted, and the server is not verified"),
        ({"is_encrypted": False}, "the connection is not encrypted"),
        ({"is_durable": False}, "may lose what it has committed"),
        ({"clock_ahead": -60.0}, "is 60 s behind this machine's"),
        ({"schema": SchemaState("0001")}, "has schema 0001"),
    ],
)
async def test_what_an_operator_should_know_is_a_warning(
    settings: Settings, location: ServerLocation, changed: dict[str, Any], said: str
) -> None:
    warned = [each for each in await judge(settings, location, **changed) if each.level is Level.WARNING]

    assert any(said in each.text for each in warned)
    assert all(each.advice for each in warned)


@pytest.mark.parametrize("schema", [SchemaState("9999"), SchemaState(None, frozenset({"things"}))])
async def test_another_schema_is_a_problem(
    settings: Settings, location: ServerLocation, schema: SchemaState
) -> None:
    levels = [each.level for each in await judge(settings, location, schema=schema)]

    assert Level.PROBLEM in levels


async def test_an_empty_database_is_as_it_should_be_before_the_first_start(
    settings: Settings, location: ServerLocation
) -> None:
    found = await judge(settings, location, schema=SchemaState(None))

    assert "is empty" in found[1].text
    assert found[1].level is Level.OK


async def test_a_server_that_does_not_answer_is_a_problem_without_its_password(settings: Settings) -> None:
    settings["database_url"] = "postgresql://u:hunter2@127.0.0.1:1/store"
    config = await config_of(settings)
    found = await all_of(check_database(config))

    assert Level.PROBLEM in [each.level for each in found]
    subjects = [each.subject for each in checks_of(config)]
    assert "hunter2" not in f"{found}{subjects}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:1/store?password=hunter2",
        "postgresql://u@127.0.0.1:1/store?password=pass@hunter2",
        "postgresql://u:hunter2?@127.0.0.1:1/store#hunter2",
    ],
)
async def test_a_password_at_a_wrong_place_of_the_url_is_not_shown(url: str, settings: Settings) -> None:
    settings["database_url"] = url
    (check,) = [each for each in checks_of(await config_of(settings)) if each.name == "database"]
    found = await run_check(check)

    assert Level.PROBLEM in [each.level for each in found]
    assert "hunter2" not in f"{found}{check.subject}"


@pytest.mark.usefixtures("servers")
async def test_a_server_that_an_instance_uses_is_looked_at(
    settings: Settings, worker_id: str, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(empty_database, "postgresql", worker_id)
    settings["database_url"] = url
    key = await asyncio.to_thread(Path(settings["journal_key_file"]).read_bytes)
    async with open_store(url, journal_key=key, run_id="r"):
        found = await all_of(check_database(await config_of(settings)))

    assert [each.level for each in found].count(Level.PROBLEM) == 0
    assert any("has the schema of this version" in each.text for each in found)


@pytest.mark.usefixtures("servers")
async def test_a_bad_journal_key_does_not_lead_to_the_server(settings: Settings, worker_id: str) -> None:
    key = await asyncio.to_thread(Path(settings["journal_key_file"]).read_bytes)
    settings["database_url"] = await asyncio.to_thread(empty_database, "postgresql", worker_id)
    await asyncio.to_thread(Path(settings["journal_key_file"]).write_text, "no key")
    async with open_store(settings["database_url"], journal_key=key, run_id="r"):
        found = await all_of(check_database(await config_of(settings)))

    (wrong,) = [each for each in found if each.level is Level.PROBLEM]
    assert "holds no Fernet key" in wrong.text
    assert any("has the schema of this version" in each.text for each in found)


HELD = Holder("first-run-1", HolderNote("first", "run-1", "10.0.0.2:8910", 100.0, "1"))


@pytest.mark.parametrize(
    ("holder", "level", "said"),
    [
        (None, Level.OK, "nobody holds the lock in db, so no instance is active"),
        (HELD, Level.OK, "instance first at 10.0.0.2:8910 since 1970-01-01T00:01:40+00:00 (this one) holds"),
        (Holder("somebody", None), Level.WARNING, "another program holds the lock in db: somebody"),
    ],
)
def test_who_holds_the_lock_in_a_database_is_named(holder: Holder | None, level: Level, said: str) -> None:
    found = judge_holder("db", holder, "first")

    assert found.level is level
    assert said in found.text


@pytest.mark.parametrize(
    ("used", "own", "level"),
    [
        (("new", "old"), ("new", "old"), Level.OK),
        (("old",), ("old", "new"), Level.OK),
        (("new", "old"), ("old", "new"), Level.OK),
        (("old",), ("new", "old"), Level.WARNING),
        (("new", "old"), ("old",), Level.PROBLEM),
        (("old",), ("other",), Level.PROBLEM),
        ((), ("old",), None),
        (("old",), (), None),
    ],
)
def test_journal_keys_are_compared_with_those_of_the_instance_that_was_active_last(
    used: tuple[str, ...], own: tuple[str, ...], level: Level | None
) -> None:
    """Each instance must be able to take over from the other, whichever is active."""
    found = list(judge_keys(Path("journal.key"), used=used, own=own))

    assert [each.level for each in found] == ([] if level is None else [level])
