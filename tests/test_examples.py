"""The gate draws the same examples in each run, whatever a process of it has imported before."""

import sys
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from hypothesis import strategies as st

NUMBERS = [7_000_000_001 + 3 * n for n in range(300)]


def drawn() -> list[int]:
    """Draw the examples of a law."""
    seen: list[int] = []

    @hypothesis.settings(derandomize=True, database=None, max_examples=300)
    @hypothesis.given(st.integers())
    def law(number: int) -> None:
        seen.append(number)

    law()
    return seen


def test_only_a_long_run_draws_what_stands_in_the_modules_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    path = tmp_path / "another.py"
    path.write_text(f"NUMBERS = {NUMBERS}\n")
    module = ModuleType("another")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "another", module)

    after = drawn()

    is_long = hypothesis.settings.get_current_profile_name() == "long"
    assert (after != before) == is_long
    assert any(number in NUMBERS for number in after) == is_long
