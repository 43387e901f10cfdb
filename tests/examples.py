"""Which random examples a law gets: fewer in the gate, which draws the same ones each time."""

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants


def examples(*, gate: int, long: int) -> int:
    """Choose a number by the size of the run; conftest.py has loaded its profile before tests are imported."""
    return long if hypothesis.settings.get_current_profile_name() == "long" else gate


def draw_no_constants_of_modules(patch: pytest.MonkeyPatch) -> None:
    """Let what is drawn hang on the law alone, and not on what its process has imported before.

    Hypothesis draws numbers and texts that stand in the modules of a project as well, of those that are
    imported by then, and has no setting for that. Should it call this otherwise one day, the run ends here.
    """
    patch.setattr(providers, "_get_local_constants", Constants)
