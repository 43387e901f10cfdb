"""The gate draws the same examples in each run, whatever a process of it has imported before."""

import sys
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.examples import draw_no_constants_of_modules

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


def test_what_a_process_has_imported_changes_no_example_of_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hypothesis.settings.get_current_profile_name() == "long":  # which draws other examples each time
        draw_no_constants_of_modules(monkeypatch)
    before = drawn()
    path = tmp_path / "another.py"
    path.write_text(f"NUMBERS = {NUMBERS}\n")
    module = ModuleType("another")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "another", module)

    after = drawn()

    assert after == before
    assert not any(number in NUMBERS for number in after)
