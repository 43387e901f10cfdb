"""What is looked up in long tables is found in an index, and what is listed in pages is read in order.

Each database's own plans are asked for: a table that is searched for every row of another one, or sorted for
every page, is what makes a long list slow.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event, insert, text

from controller.store import bindings, cached_images, droplets, jobs, lrps, pinned_copies, retention, tables
from controller.store.database import Database, database_in_memory
from controller.store.schema_upgrade import migrate
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import JobId, JobState
from reconcile.references import CacheGuid, parse_image_reference
from reconcile.trust import NO_LOGIN, Reader, TrustDomain
from tests.controller.store.conftest import ON_SERVERS, ServerDatabases
from tests.controller.store.plans import Step, steps_of
from tests.controller.store.samples import APP, SOURCE, digest

PINNED = parse_image_reference(f"registry.example/team/web@{digest(5)}")
READER = Reader(TrustDomain("registry registry.example"), host="registry.example")


FILLED = (
    tables.reservations,
    tables.images,
    tables.blobs,
    tables.index_contents,
    tables.content_proofs,
    tables.jobs,
    tables.bindings,
)


@pytest.fixture(params=["sqlite", *ON_SERVERS])
def database(request: pytest.FixtureRequest, server_databases: ServerDatabases) -> Iterator[Database]:
    """Give a database with enough rows for the plans of a large one, and nothing left of what was deleted."""
    if request.param == "sqlite":
        with closing(database_in_memory()) as made:
            fill(made)
            yield made
    else:
        opened = server_databases.empty(request.param)
        opened.migrate(partial(migrate, name="it"))
        if request.param == "postgresql":
            # Rows that were deleted keep their pages, and a plan counts pages.
            names = ", ".join(table.name for table in FILLED)
            opened.transact_unfenced(
                lambda connection: connection.execute(text(f"TRUNCATE {names} CASCADE")).close()
            )
        fill(opened)
        yield opened


def fill(database: Database) -> None:
    database.migrate(partial(migrate, name="it"))
    database.transact(_fill)
    names = ", ".join(table.name for table in FILLED)
    counting = {"mysql": f"ANALYZE TABLE {names}"}
    database.transact_unfenced(
        lambda connection: connection.execute(text(counting.get(connection.dialect.name, "ANALYZE"))).close()
    )


def _fill(connection: Connection) -> None:
    numbers = range(300)
    guids = [f"guid-{number:04}" for number in numbers]
    rows: dict[Table, list[dict[str, object]]] = {
        tables.reservations: [
            {"cache_guid": guid, "platform_digest": str(digest(number))} for number, guid in enumerate(guids)
        ],
        tables.images: [
            {
                "cache_guid": guid,
                "source": f"registry.example/team/web-{number}:7",
                "root_digest": str(digest(number)),
                "digest": str(digest(number)),
                "size": 1,
                "created_at": number,
                "verified_at": number,
                "registry": "cache",
            }
            for number, guid in enumerate(guids)
        ],
        tables.blobs: [
            {"digest": str(digest(number)), "cache_guid": guid} for number, guid in enumerate(guids)
        ],
        tables.index_contents: [
            {
                "root_digest": str(digest(number + 1000)),
                "platforms": "linux/amd64",
                "platform_digest": str(digest(number)),
            }
            for number in numbers
        ],
        tables.content_proofs: [
            {
                "platform_digest": str(digest(number)),
                "domain": READER.domain,
                "login": NO_LOGIN,
                "source": "",
                "proven_at": number,
            }
            for number in numbers
        ],
        tables.jobs: [
            {
                "job_id": guid,
                "source": f"registry.example/team/web-{number}:7",
                "state": "cached",
                "reason": "staging-task",
                "created_at": number,
                "updated_at": number,
                "needs_credentials": False,
                "attempts": 1,
                "failure": "",
                "cache_guid": guid,
            }
            for number, guid in enumerate(guids)
        ],
        tables.bindings: [
            {
                "requester": f"task:{guid}",
                "app_guid": f"app-{number % 100}",
                "source": f"registry.example/team/web-{number}:7",
                "staged_at": number,
                "job_id": guid,
                "opted_in": False,
            }
            for number, guid in enumerate(guids)
        ],
    }
    for table, values in rows.items():
        connection.execute(insert(table), values)


@contextmanager
def noted(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    """Note each statement of a block, with its parameters."""
    seen = list[tuple[str, Any]]()

    def note(*arguments: Any) -> None:
        _, _, statement, parameters, _, is_many = arguments
        if not is_many and not statement.startswith("INSERT"):
            seen.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    yield seen
    event.remove(connection, "before_cursor_execute", note)


def plan(database: Database, work: Callable[[Connection], object]) -> list[Step]:
    """Tell how a database finds the rows of each statement of some work."""

    def run(connection: Connection) -> list[Step]:
        with noted(connection) as statements:
            work(connection)
        return [step for statement in statements for step in steps_of(connection, *statement)]

    steps = database.transact(run)
    assert steps
    return steps


LOOKED_UP: dict[str, Callable[[Connection], object]] = {
    "open jobs of a source": lambda connection: jobs.list_open(connection, SOURCE),
    "the newest binding of an app": lambda connection: bindings.find_newest(connection, APP, SOURCE),
    "the newest copy of an app": lambda connection: bindings.find_newest_with_copy(connection, APP, SOURCE),
    "the bindings of apps": lambda connection: bindings.list_of_apps(connection, [APP, AppGuid("app-2")]),
    "the surplus of an app": lambda connection: retention.forget_surplus(connection, APP),
    "what a digest pins": lambda connection: pinned_copies.find(
        connection, APP, PINNED, READER, "linux/amd64"
    ),
    "a copy that is dropped": lambda connection: cached_images.drop(connection, CacheGuid("guid-0007")),
    "the holders of blobs": lambda connection: cached_images.find_holders(
        connection, [digest(7)], "cache", READER
    ),
    "droplets of an app": lambda connection: droplets.list_of_app(connection, APP),
    "droplets of a copy": lambda connection: droplets.list_of_copy(connection, CacheGuid("guid-0007")),
    "the records of an app's LRPs": lambda connection: lrps.list_of_app(connection, APP),
    "LRPs that are gone": lambda connection: lrps.forget(connection, [ProcessGuid("p-1")]),
}


@pytest.mark.parametrize("work", LOOKED_UP.values(), ids=LOOKED_UP.keys())
def test_what_is_looked_up_is_found_in_an_index(
    database: Database, work: Callable[[Connection], object]
) -> None:
    assert [step for step in plan(database, work) if step.table and not step.is_search] == []


PAGES: dict[str, Callable[[Connection], object]] = {
    "copies": lambda connection: cached_images.list_page(connection, None, most=10),
    "copies after one": lambda connection: cached_images.list_page(
        connection, (7.0, CacheGuid("guid-0007")), most=10
    ),
    "jobs": lambda connection: jobs.list_page(connection, tuple(JobState), None, most=10),
    "jobs after one": lambda connection: jobs.list_page(
        connection, tuple(JobState), (290.0, JobId("guid-0290")), most=10
    ),
}
"""Each has many more rows before it than a page: a few would as well be read and sorted."""


@pytest.mark.parametrize("work", PAGES.values(), ids=PAGES.keys())
def test_a_page_is_read_in_the_order_of_an_index(
    database: Database, work: Callable[[Connection], object]
) -> None:
    """Only its own rows, which were found in that order, are sorted once more."""
    steps = plan(database, work)

    read = [step for step in steps if step.table in {"images", "jobs"} and not step.is_by_key]
    assert read
    assert all("_created_at_" in step.index for step in read)
    assert [step for step in steps if step.is_sorted and not step.is_of_page] == []
