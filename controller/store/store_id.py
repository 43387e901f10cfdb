"""Keeps the id of a store: made once, kept in its backups, and the name of its marker on the BBS."""

from uuid import uuid4

from sqlalchemy import Connection, select

from controller.store.setting_names import STORE_ID
from controller.store.tables import settings
from controller.store.upsert import insert_missing
from reconcile.store_markers import StoreId


def ensure_store_id(connection: Connection) -> StoreId:
    """Read the store's id, or make one for a store that has none yet."""
    chosen = select(settings.c.value).where(settings.c.name == STORE_ID)
    if (found := connection.scalar(chosen)) is not None:
        return StoreId(found)
    insert_missing(connection, settings, [{"name": STORE_ID, "value": str(uuid4())}])
    return StoreId(connection.execute(chosen).scalar_one())
