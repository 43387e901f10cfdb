"""Says which backup was put in the place of a database."""

from dataclasses import dataclass
from pathlib import Path

from reconcile.lrps import ProcessGuid


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that is in place of the database.

    Attributes:
        replaced: The file of the database that it replaced; None where there was none.
        resumed: LRPs with a migration under way, which goes on.
        dropped: LRPs whose migration was under way in the backup, and is none any more.
        problem: Why the replaced database could not be read; empty when it could.
    """

    replaced: Path | None
    resumed: tuple[ProcessGuid, ...] = ()
    dropped: tuple[ProcessGuid, ...] = ()
    problem: str = ""
