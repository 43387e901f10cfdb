"""Types of the schema's columns that every kind of database compares byte by byte, and cuts nowhere.

MySQL's and MariaDB's own collations take `:V1` for `:v1`, and their own character set may have Latin letters
only; PostgreSQL orders by the language that a database was made with.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import LargeBinary, String, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

MYSQL_TABLE: Mapping[str, Any] = MappingProxyType(
    {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
)
"""Options of each table."""


def exact(length: int) -> TypeEngine[str]:
    """A text of at most some characters, as keys, references and digests are."""
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def payload(length: int) -> TypeEngine[bytes]:
    """Bytes, at most some; MySQL's BLOB would end at 64 KiB."""
    return LargeBinary(length).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def long_text() -> TypeEngine[str]:
    """A text that is no key; MySQL's TEXT would end at 64 KiB."""
    return Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
