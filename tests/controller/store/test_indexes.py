"""What is looked up in long tables is found in an index, and what is listed in pages is read in order.

SQLite's own plans are asked for: a table that is searched for every row of another one, or sorted for every
page, is what makes a long list slow.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event, insert

from controller.store import bindings, cached_images, droplets, jobs, lrps, pinned_copies, retention, tables
from controller.store.database import Database, database_in_memory
from controller.store.schema_upgrade import migrate
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import JobId, JobState
from reconcile.references import CacheGuid, parse_image_reference
from reconcile.trust import Reader, TrustDomain
from tests.controller.store.samples import APP, SOURCE, digest

PINNED = parse_image_reference(f"registry.example/team/web@{digest(5)}")
READER = Reader(TrustDomain("registry registry.example"), host="registry.example")


@pytest.fixture
def database() -> Iterator[Database]:
    """Make a database with enough rows for the plans of a large one."""
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: migrate(connection, "memory"))
        database.transact(_fill)
        yield database


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
    connection.exec_driver_sql("ANALYZE")


@contextmanager
def planned(connection: Connection, plans: list[str]) -> Iterator[None]:
    """Note how SQLite would find the rows of each statement."""
    seen = list[tuple[str, tuple[object, ...]]]()

    def note(*arguments: Any) -> None:
        _, _, statement, parameters, _, is_many = arguments
        if not is_many:
            seen.append((statement, tuple(parameters)))

    event.listen(connection, "before_cursor_execute", note)
    yield
    event.remove(connection, "before_cursor_execute", note)
    for statement, parameters in seen:
        if not statement.startswith("INSERT"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[3]) for row in rows)


def plans_of(database: Database, work: Callable[[Connection], object]) -> list[str]:
    plans = list[str]()

    def run(connection: Connection) -> None:
        with planned(connection, plans):
            work(connection)

    database.transact(run)
    assert plans
    return plans


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
    plans = plans_of(database, work)

    scanned = [plan for plan in plans if plan.startswith("SCAN")]
    assert [plan for plan in scanned if plan != "SCAN anon_1"] == [], "but for what was found in indexes"


PAGES: dict[str, Callable[[Connection], object]] = {
    "copies": lambda connection: cached_images.list_page(connection, None, most=10),
    "copies after one": lambda connection: cached_images.list_page(
        connection, (7.0, CacheGuid("guid-0007")), most=10
    ),
    "jobs": lambda connection: jobs.list_page(connection, tuple(JobState), None, most=10),
    "jobs after one": lambda connection: jobs.list_page(
        connection, tuple(JobState), (7.0, JobId("guid-0007")), most=10
    ),
}


@pytest.mark.parametrize("work", PAGES.values(), ids=PAGES.keys())
def test_a_page_is_read_in_the_order_of_an_index(
    database: Database, work: Callable[[Connection], object]
) -> None:
    plans = plans_of(database, work)

    long = [plan for plan in plans if plan.startswith(("SCAN images", "SEARCH jobs", "SCAN jobs"))]
    assert all("_created_at_" in plan for plan in long)
    sorted_rows = [plan for plan in plans if "TEMP B-TREE" in plan]
    assert len(sorted_rows) <= sum("anon_1" in plan for plan in plans), "the rows of a page are sorted only"
