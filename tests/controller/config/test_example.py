"""The example of a config file: it is complete, it is true, and it works."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.admin.client_config import load_admin_client_config
from controller.config import (
    Config,
    FairSharesConfig,
    FormerRegistryConfig,
    RegistryConfig,
    RunningRuleConfig,
    SourceRegistryConfig,
    TrafficConfig,
    descriptions_of,
    example,
    load_config,
)
from controller.config.sections import Section

Write = Callable[[object], Path]

SECTIONS: tuple[type[Section], ...] = (
    Config,
    RegistryConfig,
    FormerRegistryConfig,
    RunningRuleConfig,
    SourceRegistryConfig,
    TrafficConfig,
    FairSharesConfig,
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The example, about files that are there."""
    text = example().replace("/var/vcap", f"{tmp_path}/var/vcap")
    for name in re.findall(r'_(?:file|path)": "([^"]+)"', text):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x\n")
    return text


def uncommented(text: str) -> str:
    """Take the marks from whatever is commented out, and leave comments for people."""
    return re.sub(r'^ *(?:// *)+(?="[a-z_]+": |[\[\]{}])', "", text, flags=re.MULTILINE)


def without_comments(text: str) -> Any:
    return json.loads(re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE))


def is_required(key: str) -> bool:
    return Config.model_fields[key].is_required()


def unset(values: object, name: str = "") -> Iterator[str]:
    """Name whatever has no value, or holds none."""
    match values:
        case dict():
            for key, value in values.items():
                yield from unset(value, key)
        case tuple() if values and isinstance(values[0], dict):
            yield from unset(values[0], name)
        case None:
            yield name


def test_the_example_is_the_default_of_every_key(write: Write, text: str) -> None:
    loaded = load_config(write(text))
    required = {key: value for key, value in without_comments(text).items() if is_required(key)}

    assert loaded == load_config(write(required))


def test_everything_in_it_can_be_set_at_once(write: Write, text: str) -> None:
    """All but a docker socket, which goes with the other engine."""
    whole = re.sub(r'^.*"docker_socket".*$', "", uncommented(text), flags=re.MULTILINE)
    path = write(whole)
    config = load_config(path)

    assert list(unset(config.model_dump())) == ["docker_socket"]
    assert load_admin_client_config(path).admin_address == config.admin_address
    assert len(config.registries) == len(config.migrate_running_rules) == 1


def test_the_docker_socket_in_it_can_be_set(write: Write, text: str) -> None:
    text = text.replace('"engine": "registry"', '"engine": "docker"')
    text = text.replace('// "docker_socket"', '"docker_socket"')

    assert load_config(write(text)).docker_socket == "unix:///var/run/docker.sock"


@pytest.mark.parametrize("key", [key for key, field in Config.model_fields.items() if field.default is None])
def test_each_key_can_be_set_without_a_look_at_commas(text: str, key: str) -> None:
    lines = re.sub(rf'^  // (?="{key}")', "  ", text, flags=re.MULTILINE)

    assert key in without_comments(lines)


def test_every_section_is_shown_with_all_of_its_keys(text: str) -> None:
    whole = without_comments(uncommented(text))
    cache, source, rule = whole["cache_registry"], whole["registries"][0], whole["migrate_running_rules"][0]

    assert whole.keys() == Config.model_fields.keys()
    assert cache.keys() == RegistryConfig.model_fields.keys()
    assert source.keys() == SourceRegistryConfig.model_fields.keys()
    assert rule.keys() == RunningRuleConfig.model_fields.keys()
    for traffic in (whole["registry_traffic"], cache["traffic"], source["traffic"]):
        assert traffic.keys() == TrafficConfig.model_fields.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_explained(section: type[Section]) -> None:
    said = " ".join(re.sub(r"^ *(?:// *)*", "", example(), flags=re.MULTILINE).split())

    descriptions = descriptions_of(section)

    assert descriptions.keys() == section.model_fields.keys()
    for description in descriptions.values():
        assert " ".join(description.split()) in said


def test_no_line_is_longer_than_a_terminal() -> None:
    assert [line for line in example().splitlines() if len(line) > 100 or line != line.rstrip()] == []
