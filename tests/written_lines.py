"""Reads the log lines that a test has written; a fixture sends them to standard output, at the level debug."""

import json
from typing import Any

import pytest


def written_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Take the lines that were written since the last call."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
