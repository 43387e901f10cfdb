"""Seals what is encrypted in the database anew with the first journal key, so that older keys can go."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from sqlalchemy import Column, Connection, Table, select, update

from controller.store.cipher import cipher_from_key, sealed_by, signing_keys
from controller.store.database import Database
from controller.store.tables import IS_SEALED, metadata

SEALED: Mapping[Table, tuple[Column[bytes], ...]] = MappingProxyType(
    {
        table: columns
        for table in metadata.sorted_tables
        if (columns := tuple(each for each in table.columns if each.info.get(IS_SEALED)))
    }
)
"""Table to its columns whose values are sealed."""

_BATCH = 500
"""Rows of one transaction, which keeps a row of the journal from being written."""


@dataclass(frozen=True, slots=True)
class SealedAnew:
    """What has become of the sealed values.

    Attributes:
        values: How many there are.
        renewed: How many were sealed anew.
        unreadable: How many none of the keys opens; they are left as they are.
    """

    values: int = 0
    renewed: int = 0
    unreadable: int = 0

    def __add__(self, other: "SealedAnew") -> "SealedAnew":
        return SealedAnew(
            self.values + other.values, self.renewed + other.renewed, self.unreadable + other.unreadable
        )


class Sealing:
    """The sealed values of a database.

    Args:
        database: Of the store.
        journal_key: Fernet keys, separated by white space; None where nothing is sealed.
    """

    def __init__(self, database: Database, journal_key: bytes | None) -> None:
        self._database = database
        self._keys = () if journal_key is None else signing_keys(journal_key)
        self._cipher = None if journal_key is None else cipher_from_key(journal_key)

    @property
    def has_older_keys(self) -> bool:
        """Whether there are keys that may have sealed what the first one is to seal."""
        return len(self._keys) > 1

    async def seal_anew(self) -> SealedAnew:
        """Seal with the first key what an older one has sealed."""
        found = SealedAnew()
        for table, columns in SEALED.items() if self._cipher is not None else ():
            after: str | None = ""
            while after is not None:
                batch = _Batch(table, columns, after)
                after, sealed = await self._database.write(partial(self._seal, batch))
                found += sealed
        return found

    def _seal(self, batch: "_Batch", connection: Connection) -> tuple[str | None, SealedAnew]:
        (key,) = batch.table.primary_key.columns
        wanted = select(key, *batch.columns).where(key > batch.after).order_by(key).limit(_BATCH)
        rows, found = connection.execute(wanted).all(), SealedAnew()
        for row in rows:
            changed: dict[str, bytes] = {}
            for column, token in zip(batch.columns, row[1:], strict=True):
                if token is None:
                    continue
                place = sealed_by(token, self._keys)
                if place and self._cipher is not None:
                    changed[column.name] = self._cipher.rotate(token)
                found += SealedAnew(1, int(bool(place)), int(place is None))
            if changed:
                connection.execute(update(batch.table).where(key == row[0]).values(changed))
        return (rows[-1][0] if len(rows) == _BATCH else None), found


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of a table, those with the next keys."""

    table: Table
    columns: tuple[Column[bytes], ...]
    after: str
