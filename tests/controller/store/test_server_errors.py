"""What errors of the servers' drivers mean; which of them a database really raises is in test_servers."""

import psycopg
import pymysql
import pytest

from controller.store.sql_errors import is_duplicate, store_error
from reconcile.errors import Conflict, DockerCacheError, Invalid, Unavailable

NAME = "postgresql://db.example:5432/store"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", Unavailable),
        ("25006", Unavailable),
        ("25P03", Unavailable),
        ("28P01", Unavailable),
        ("3D000", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("53100", Unavailable),
        ("53300", Unavailable),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("58030", Unavailable),
        ("23503", Conflict),
        ("23505", Conflict),
        ("22001", Invalid),
        ("42501", Invalid),
        ("42P01", Invalid),
    ],
)
def test_a_code_of_postgresql_says_whether_the_same_may_succeed(
    code: str, kind: type[DockerCacheError]
) -> None:
    found = store_error(psycopg.errors.lookup(code)("said\nso"), NAME)

    assert type(found) is kind
    assert found.code == code
    assert found.detail.startswith(NAME)
    assert "said so" in found.detail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection failed"), Unavailable),
        (psycopg.InterfaceError("the connection is closed"), Unavailable),
        (psycopg.errors.ConnectionTimeout("too late"), Unavailable),
        (psycopg.ProgrammingError("a bug"), Invalid),
    ],
)
def test_without_a_code_the_connection_is_lost_or_the_program_is_wrong(
    error: psycopg.Error, kind: type[DockerCacheError]
) -> None:
    assert type(store_error(error, NAME)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymysql.err.OperationalError(2003, "cannot connect"), Unavailable),
        (pymysql.err.OperationalError(2006, "gone away"), Unavailable),
        (pymysql.err.OperationalError(2013, "lost"), Unavailable),
        (pymysql.err.InterfaceError(0, ""), Unavailable),
        (pymysql.err.OperationalError(1040, "too many connections"), Unavailable),
        (pymysql.err.OperationalError(1045, "access denied"), Unavailable),
        (pymysql.err.OperationalError(1205, "lock wait"), Unavailable),
        (pymysql.err.OperationalError(1213, "deadlock"), Unavailable),
        (pymysql.err.OperationalError(1290, "read-only"), Unavailable),
        (pymysql.err.OperationalError(1114, "the table is full"), Unavailable),
        (pymysql.err.OperationalError(1030, 'Got error 28 "No space left on device"'), Unavailable),
        (pymysql.err.OperationalError(1030, "Got error 1 from storage engine"), Invalid),
        (pymysql.err.OperationalError(1927, "killed"), Unavailable),
        (pymysql.err.OperationalError(1969, "max_statement_time"), Unavailable),
        (pymysql.err.OperationalError(4031, "inactivity"), Unavailable),
        (pymysql.err.IntegrityError(1062, "duplicate"), Conflict),
        (pymysql.err.IntegrityError(1452, "no such row"), Conflict),
        (pymysql.err.DataError(1406, "too long"), Invalid),
        (pymysql.err.ProgrammingError(1146, "no such table"), Invalid),
    ],
)
def test_a_code_of_mysql_says_whether_the_same_may_succeed(
    error: pymysql.MySQLError, kind: type[DockerCacheError]
) -> None:
    found = store_error(error, "mysql://db.example:3306/store")

    assert type(found) is kind
    assert found.detail.startswith("mysql://db.example:3306/store")


def test_a_duplicate_is_told_from_other_refusals_of_a_row() -> None:
    assert is_duplicate(psycopg.errors.lookup("23505")())
    assert is_duplicate(pymysql.err.IntegrityError(1062, "duplicate"))
    assert not is_duplicate(psycopg.errors.lookup("23503")())
    assert not is_duplicate(pymysql.err.IntegrityError(1452, "no such row"))
    assert not is_duplicate(None)
