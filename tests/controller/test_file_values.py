"""What is made of files follows them, and stays as it was while they do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.file_values import CHECK_EVERY, FileValue
from reconcile.errors import Invalid


class Clock:
    """A clock that passes the time between two looks with each reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += CHECK_EVERY
        return self.now


class Pair:
    """Two files that fit when they hold the same text."""

    def __init__(self, directory: Path) -> None:
        self.first, self.second = directory / "first", directory / "second"
        self.made = 0
        self.write("old")

    def write(self, text: str) -> None:
        self.first.write_text(text)
        self.second.write_text(text)

    def read(self) -> str:
        self.made += 1
        text = self.first.read_text()
        if text != self.second.read_text():
            raise Invalid("config", "do-not-fit", "the files do not fit")
        return text

    def follow(self) -> FileValue[str]:
        return FileValue((self.first, self.second), self.read, clock=Clock())


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_nothing_is_made_anew_while_the_files_stay_as_they_are(pair: Pair) -> None:
    value = pair.follow()

    assert [value.current() for _ in range(3)] == ["old"] * 3
    assert pair.made == 1


def test_files_that_have_changed_are_read(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    value = pair.follow()
    pair.write("newer")

    assert value.current() == "newer"

    (line,) = logged(capsys)
    assert line["message"] == "docker-cache.files.read-changed-files"
    assert str(pair.first) in line["data"]["files"]


def test_files_that_do_not_fit_yet_keep_the_old_value_and_one_line_says_so(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    value = pair.follow()
    pair.first.write_text("newer")
    half = [value.current(), value.current()]
    pair.second.write_text("new")
    other_half = value.current()
    pair.second.write_text("newer")
    whole = value.current()

    assert (half, other_half, whole) == (["old", "old"], "old", "newer")
    lines = logged(capsys)
    assert [(line["level"], line["message"].rpartition(".")[2]) for line in lines] == [
        ("error", "failed-to-read-changed-files"),
        ("info", "read-changed-files"),
    ]
    assert "the files do not fit" in lines[0]["data"]["error"]


def test_a_file_that_is_gone_keeps_the_old_value(pair: Pair) -> None:
    value = pair.follow()
    pair.second.unlink()

    assert value.current() == "old"

    pair.write("old")
    assert value.current() == "old"


def test_a_link_that_leads_elsewhere_is_a_change(pair: Pair, tmp_path: Path) -> None:
    """As tools do that replace several files at once."""
    (tmp_path / "new").mkdir()
    other = Pair(tmp_path / "new")
    other.write("newer")
    link = tmp_path / "current"
    link.symlink_to(pair.first)
    value = FileValue((link,), link.read_text, clock=Clock())

    link.unlink()
    link.symlink_to(other.first)

    assert value.current() == "newer"


def test_files_are_looked_at_only_now_and_then(pair: Pair) -> None:
    now = 0.0
    value = FileValue((pair.first, pair.second), pair.read, clock=lambda: now)
    pair.write("newer")

    assert value.current() == "old"

    now = CHECK_EVERY
    assert value.current() == "newer"


def test_what_cannot_be_made_at_first_is_an_error(pair: Pair) -> None:
    pair.first.write_text("newer")

    with pytest.raises(Invalid):
        pair.follow()
