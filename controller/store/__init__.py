"""Records in SQL: what must outlive the process, and the lock that keeps it to one process.

`open_store` is for the daemon, `open_store_readonly` for a command beside it. What a
record means and which changes are legal stands in `reconcile.records`.
"""

from controller.store.journal import MemoryJournal, SqlJournal, cipher_from_key
from controller.store.opening import Store, open_store, open_store_readonly
from controller.store.sql import SqlRecords

__all__ = [
    "MemoryJournal",
    "SqlJournal",
    "SqlRecords",
    "Store",
    "cipher_from_key",
    "open_store",
    "open_store_readonly",
]
