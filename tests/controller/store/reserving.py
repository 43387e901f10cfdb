"""A process that reserves GUIDs for the same contents as others do, at the same time.

Run as `python -m tests.controller.store.reserving DATABASE_FILE`: it says when it is ready, starts
at a line on its input and prints the GUIDs. It goes around the lock, as only a test may.
"""

import sys
from functools import partial
from pathlib import Path

from controller.store import cached_images
from controller.store.database import database_at
from tests.controller.store.samples import digest

CONTENTS = 50

if __name__ == "__main__":
    database = database_at(Path(sys.argv[1]))
    print("ready", flush=True)  # noqa: T201 - the lines are for the test
    sys.stdin.readline()
    for number in range(CONTENTS):
        print(database.transact(partial(cached_images.reserve, platform_digest=digest(number))))  # noqa: T201
    database.close()
