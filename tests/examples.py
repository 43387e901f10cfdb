"""How many random examples a law gets: fewer in the gate, which draws the same ones each time."""

import hypothesis


def examples(*, gate: int, long: int) -> int:
    """Choose a number by the size of the run; conftest.py has loaded its profile before tests are imported."""
    return long if hypothesis.settings.get_current_profile_name() == "long" else gate
