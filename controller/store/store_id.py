"""Keeps the id of a store: made once, kept in its backups, and the name of its marker on the BBS."""

from uuid import uuid4

from sqlalchemy import Connection, insert, select

from controller.store.tables import settings
from reconcile.store_markers import StoreId

STORE_ID = "store_id"
"""Name of the setting."""


def ensure_store_id(connection: Connection) -> StoreId:
    """Read the store's id, or make one for a store that has none yet."""
    found = connection.scalar(select(settings.c.value).where(settings.c.name == STORE_ID))
    if found is not None:
        return StoreId(found)
    made = str(uuid4())
    connection.execute(insert(settings).values(name=STORE_ID, value=made))
    return StoreId(made)
