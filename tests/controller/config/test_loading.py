"""Reading the config file: comments, and what a person is told of a file that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.config import ConfigError, load_config

Write = Callable[[object], Path]


def test_all_that_is_wrong_is_said_at_once(write: Write) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write({"log_level": "loud", "extra": 1}))

    for key in ("log_level", "extra", "bbs_address", "database_url", "cache_registry"):
        assert f"\n  {key}: " in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "// {}"])
def test_a_file_that_is_no_object_is_refused(write: Write, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(text))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read config file .*none\.json: No such file"):
        load_config(tmp_path / "none.json")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"log_level": "\xff"}')

    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load_config(path)


def test_comment_lines_are_not_looked_at(write: Write, values: dict[str, Any]) -> None:
    lines = json.dumps(values | {"workers": 3}, indent=1).replace("\n", '\n  // "workers": 5,\n\t//\n')

    assert load_config(write(f"// {{\n{lines}\n//")).workers == 3


def test_two_slashes_within_a_line_are_no_comment(write: Write, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not JSON"):
        load_config(write(json.dumps(values) + " // why"))


@pytest.mark.parametrize("separator", ["\u2028", "\u0085"])
def test_a_separator_that_json_allows_in_a_string_begins_no_line(
    write: Write, values: dict[str, Any], separator: str
) -> None:
    url = f"sqlite:////var/a{separator}//cache.db"

    assert (
        load_config(write(json.dumps(values | {"database_url": url}, ensure_ascii=False))).database_url == url
    )


def test_an_error_in_the_json_is_told_where_it_is_in_the_file(write: Write) -> None:
    text = '{\n  // one\n  // two\n  "workers" 3\n}'
    at = text.index("3")

    with pytest.raises(ConfigError, match=rf"line 4 column 13 \(char {at}\)"):
        load_config(write(text))


def test_what_is_wrong_with_several_keys_is_said_on_a_line_that_names_them(
    write: Write, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(values | {"cache_pull_username": "u"}))

    assert str(refused.value).splitlines()[1:] == [
        "  cache_pull_username and cache_pull_password_file must be given together"
    ]


def test_a_key_of_an_earlier_version_is_refused_with_what_to_write_instead(
    write: Write, values: dict[str, Any]
) -> None:
    values["allowed_source_networks"] = ["10.0.16.0/24"]
    values["blob_grace"] = "2m"

    with pytest.raises(ConfigError) as refused:
        load_config(write(values))

    assert "allowed_source_networks: no key any more" in str(refused.value)
    assert "allowed_networks of that registry's entry in registries" in str(refused.value)
    assert "blob_grace: no key any more" in str(refused.value)
    assert "min_rate_window" in str(refused.value)
