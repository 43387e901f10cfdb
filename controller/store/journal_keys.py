"""Compares the journal keys of instances that share a database, by fingerprints of those that were used last.

An instance that becomes active must open what the one before it has sealed: an app may be in the middle of
its migration. A database in a file is used by one process at a time, which says itself what it cannot open.
"""

import hmac
import json

from sqlalchemy import Connection, inspect, select

from controller.store.tables import settings
from controller.store.upsert import insert_or_update
from reconcile.errors import Invalid

JOURNAL_KEYS = "journal_keys"
"""Name of the setting with the fingerprints; the first is that of the key that seals."""

_PURPOSE = b"fingerprint of a journal key"
_LENGTH = 16  # hex digits


def fingerprints(journal_key: bytes | None) -> tuple[str, ...]:
    """Make the fingerprint of each key in a key file, in their order; it reveals nothing of the key."""
    keys = () if journal_key is None else journal_key.split()
    return tuple(hmac.digest(key, _PURPOSE, "sha256").hex()[:_LENGTH] for key in keys)


def check(connection: Connection, journal_key: bytes | None) -> None:
    """Refuse keys that cannot open what the last active instance has sealed; change nothing.

    Raises:
        Invalid: `journal-keys-differ`.
    """
    used, own = find(connection), fingerprints(journal_key)
    if used and used[0] not in own:
        raise Invalid(
            "store",
            "journal-keys-differ",
            f"the instance that was active last seals with the journal key {used[0]}, and this one has "
            f"{', '.join(own) or 'none'}: write all keys of that instance into journal_key_file here too",
        )


def find(connection: Connection) -> tuple[str, ...]:
    """Read the fingerprints of the keys of the instance that was active last; none where there was none."""
    if not inspect(connection).has_table(settings.name):  # nothing was ever migrated here
        return ()
    value = connection.scalar(select(settings.c.value).where(settings.c.name == JOURNAL_KEYS))
    return () if value is None else tuple(json.loads(value))


def save(connection: Connection, journal_key: bytes | None) -> None:
    """Save the fingerprints of the keys of the instance that is active now."""
    value = json.dumps(fingerprints(journal_key))
    insert_or_update(connection, settings, [{"name": JOURNAL_KEYS, "value": value}])
