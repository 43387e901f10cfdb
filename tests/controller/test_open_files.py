"""How many files the process may open."""

import subprocess
import sys
from pathlib import Path

import pytest

from controller.admin.server import MAX_CONNECTIONS
from controller.config import Config
from controller.open_files import needed_files
from controller.registry.http.idle_connections import MOST_IDLE
from tests.documents import PAGES

PROGRAM = """
import resource, sys
from controller.config import Config
from controller.logs import configure_logs
from controller.open_files import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
configure_logs("info", sys.stdout)
raise_limit(Config.model_construct(max_copies=4, max_blobs_per_copy=8))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def config(max_copies: int, max_blobs_per_copy: int) -> Config:
    return Config.model_construct(max_copies=max_copies, max_blobs_per_copy=max_blobs_per_copy)


def test_more_copies_at_a_time_need_more_files() -> None:
    few, many = needed_files(config(1, 1)), needed_files(config(64, 32))

    assert few > MOST_IDLE + MAX_CONNECTIONS
    # A connection to the source and one to the private registry, of the copies in the common slots and of as
    # many in the reserve.
    assert many - few > 2 * 64 * 32 * 2


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("is_enough", [True, False])
def test_the_limit_is_raised_as_far_as_is_needed_and_allowed(*, is_enough: bool) -> None:
    needed = needed_files(config(4, 8))
    hard = needed + 100 if is_enough else needed - 100

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hard)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
    )

    *logged, limit = done.stdout.splitlines()
    assert int(limit) == min(needed, hard)
    assert [line for line in logged if "open-files-limit-too-low" in line] == ([] if is_enough else logged)
    assert bool(logged) is not is_enough


def test_the_page_on_capacity_has_the_number_of_the_default_settings() -> None:
    page = (PAGES / "how-to" / "capacity.md").read_text()
    default = needed_files(config(4, 8))

    assert f"{default:,} may be open with the default settings" in page
    assert f"Each of `max_copies` adds {needed_files(config(5, 8)) - default}." in page
