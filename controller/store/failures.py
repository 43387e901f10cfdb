"""Keeps which migrations have failed in a row, so that a later process does not have to find out again."""

import json
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, delete, insert, select

from controller.store.database import Database
from controller.store.tables import circuit_breakers
from reconcile.circuit_breaker import FailureRecord, Scope
from reconcile.failure_spread import Cause
from reconcile.foreign_text import reason_text


class SqlFailures:
    """Implements KeptFailures in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_failures(self) -> tuple[FailureRecord, ...]:
        """List the failures in a row that are kept, the latest failure last."""
        wanted = select(circuit_breakers).order_by(circuit_breakers.c.number)

        def read(connection: Connection) -> tuple[FailureRecord, ...]:
            return tuple(map(_record, connection.execute(wanted).mappings()))

        return await self._database.read(read)

    async def save_failures(self, changed: Sequence[FailureRecord], ended: Collection[Scope]) -> None:
        """Save the failures that have changed, as the last ones, and delete those that ended."""

        def save(connection: Connection) -> None:
            for organization, image in [*(each.scope for each in changed), *ended]:
                connection.execute(
                    delete(circuit_breakers).where(
                        circuit_breakers.c.organization == organization, circuit_breakers.c.image == image
                    )
                )
            if changed:
                connection.execute(insert(circuit_breakers), [_row(each) for each in changed])

        await self._database.write(save)


def _row(record: FailureRecord) -> dict[str, object]:
    content = {
        "causes": [[cause.one, cause.other] for cause in sorted(record.causes)],
        "cells": sorted(record.cells),
        "met_no_pulls": record.cells_not_proven,
    }
    return {
        "organization": record.scope[0],
        "image": record.scope[1],
        "causes": json.dumps(content).encode(),
        "opened_at": record.opened_at,
        "last_failure": reason_text(record.last_failure),
    }


def _record(row: RowMapping) -> FailureRecord:
    content = json.loads(row["causes"])
    return FailureRecord(
        (row["organization"], row["image"]),
        causes=frozenset(Cause(one, other) for one, other in content["causes"]),
        cells=frozenset(content["cells"]),
        opened_at=row["opened_at"],
        last_failure=row["last_failure"],
        cells_not_proven=content["met_no_pulls"],
    )
