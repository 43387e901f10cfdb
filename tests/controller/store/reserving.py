"""A process that reserves GUIDs for the same contents as others do, at the same time.

Run as `python -m tests.controller.store.reserving DATABASE_URL`: it says when it is ready, starts
at a line on its input and prints the GUIDs. It goes around the lock, as only a test may.
"""

import sys
from functools import partial

from controller.store import cached_images
from tests.controller.store.samples import digest
from tests.stores import connect_beside

CONTENTS = 50

if __name__ == "__main__":
    database = connect_beside(sys.argv[1])
    print("ready", flush=True)  # noqa: T201 - the lines are for the test
    sys.stdin.readline()
    for number in range(CONTENTS):
        print(database.transact(partial(cached_images.reserve, platform_digest=digest(number))))  # noqa: T201
    database.close()
