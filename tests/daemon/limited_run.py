"""Runs the program with limits of the migration protocol that are others: `python -m tests.daemon.limited_run JSON ...`.

So a daemon of a test keeps them when it begins anew by executing itself.
"""

import json
import sys

from controller.cli import main
from reconcile.steps import PhaseLimits

if __name__ == "__main__":
    main(sys.argv[2:], given=PhaseLimits(**json.loads(sys.argv[1])))
