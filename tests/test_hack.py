"""The scripts for people and CI, as far as no other test runs them."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("arguments", [["--slow"], ["--fast", "--long"], ["tests"]])
def test_the_gate_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """A gate that took less for more would pass what nobody has looked at."""
    ended = subprocess.run([ROOT / "hack/check", *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == 3
    assert "hack/check --fast" in ended.stderr
