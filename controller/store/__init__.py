"""Records in SQL: what must outlive the process, and the lock that keeps it to one process.

`open_store` is for the daemon, `check_database` for a look at its config, `open_store_readonly` for a
command beside it. `reconcile.records` says what a record means and which changes are legal.
"""

from controller.store.journal import MemoryJournal, SqlJournal, cipher_from_key
from controller.store.opening import Store, check_database, open_store, open_store_readonly
from controller.store.sql import SqlRecords

__all__ = [
    "MemoryJournal",
    "SqlJournal",
    "SqlRecords",
    "Store",
    "check_database",
    "cipher_from_key",
    "open_store",
    "open_store_readonly",
]
