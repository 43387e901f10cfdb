"""Runs the program as a later version with a further revision of the schema would.

Run as `python -m tests.daemon.newer_run SCHEMA_DIRECTORY LIMITS ...`: the directory holds the migrations.
"""

import json
import sys
from pathlib import Path

from controller.store import schema

if __name__ == "__main__":
    schema.VERSIONS = Path(sys.argv[1])  # before anything reads it from there

    from controller.cli import main
    from reconcile.steps import PhaseLimits

    main(sys.argv[3:], given=PhaseLimits(**json.loads(sys.argv[2])))
