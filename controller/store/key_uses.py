"""Counts what each journal key has sealed in a database, without SQLAlchemy, which takes long to import."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from controller.store.cipher import sealed_by, signing_keys
from controller.store.connections import open_snapshot
from controller.store.schema import check_current

SEALED_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"migrations": ("original", "way_back"), "original_sources": ("credentials",)}
)
"""Table to its columns whose values are sealed."""


@dataclass(frozen=True, slots=True)
class KeyUses:
    """How many sealed values each journal key opens.

    Attributes:
        by_place: The number of values that each key has sealed, in the order of the keys.
        unreadable: Values that none of the keys opens.
    """

    by_place: tuple[int, ...]
    unreadable: int = 0


def count_key_uses(path: Path, journal_key: bytes) -> KeyUses:
    """Count what the keys have sealed in a database that a daemon may use meanwhile; blocks.

    Raises:
        Invalid: It has not this version's schema.
        Unavailable: It cannot be opened, or is locked.
    """
    with open_snapshot(path) as connection:
        check_current(connection, str(path))
        return uses_of(connection.execute, journal_key)


def uses_of(execute: Callable[[str], Iterable[tuple[bytes | None]]], journal_key: bytes) -> KeyUses:
    """Count what the keys have sealed in a database of this version's schema, which a function queries."""
    keys = signing_keys(journal_key)
    found = Counter(sealed_by(token, keys) for token in _tokens(execute))
    return KeyUses(tuple(found[place] for place in range(len(keys))), found[None])


def _tokens(execute: Callable[[str], Iterable[tuple[bytes | None]]]) -> Iterator[bytes]:
    for table, columns in SEALED_COLUMNS.items():
        for column in columns:
            rows = execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608
            yield from (token for (token,) in rows if token is not None)
