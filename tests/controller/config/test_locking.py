"""The keys of the lock that makes one instance the active one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.config import ConfigError, load_config

Write = Callable[[object], Path]


@pytest.fixture
def locked(tmp_path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """A config of an instance that takes its lock in Locket."""
    return values | {
        "uuid": "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e",
        "locket_address": "locket.service.cf.internal:8891",
        "locket_ca_cert_file": f"{tmp_path}/ca.crt",
        "locket_client_cert_file": f"{tmp_path}/client.crt",
        "locket_client_key_file": f"{tmp_path}/client.key",
    }


def test_the_times_are_those_of_the_family(write: Write, locked: dict[str, Any]) -> None:
    config = load_config(write(locked))

    assert (config.lock_ttl, config.lock_retry_interval) == (15.0, 5.0)
    assert (config.locket_client_keepalive_time, config.locket_client_keepalive_timeout) == (10, 22)


def test_instances_with_files_of_their_own_are_warned_about(
    write: Write, locked: dict[str, Any], values: dict[str, Any]
) -> None:
    def warned(of: dict[str, Any]) -> bool:
        return any("need one database on a server" in each for each in load_config(write(of)).warnings)

    assert warned(locked)
    assert not warned(values)


def test_an_instance_acts_for_four_fifths_of_the_lock(write: Write, locked: dict[str, Any]) -> None:
    assert load_config(write(locked)).lease_times.length == 12.0


def test_without_locket_nothing_of_it_is_needed(write: Write, values: dict[str, Any]) -> None:
    assert load_config(write(values)).locket_address is None


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no ID": ({"uuid": None}, "locket_address: needs uuid"),
    "no certificates": (
        {"locket_ca_cert_file": None, "locket_client_cert_file": None},
        "locket_address: needs locket_ca_cert_file, locket_client_cert_file",
    ),
    "certificates without an address": (
        {"locket_address": None, "locket_client_key_file": None},
        "locket_ca_cert_file, locket_client_cert_file: only Locket uses these keys, and locket_address is missing",
    ),
    "a URL": ({"locket_address": "https://locket:8891"}, "locket_address: "),
    "an ID with a space": ({"uuid": "vm 1"}, "uuid: "),
    "an ID that is too long": ({"uuid": "v" * 101}, "uuid: "),
    "a keep-alive that ends before it begins": (
        {"locket_client_keepalive_time": 30},
        "locket_client_keepalive_time must not be longer than locket_client_keepalive_timeout",
    ),
    "a part of a second": ({"lock_ttl": "15500ms"}, "lock_ttl: Locket counts in whole seconds"),
    "a lock that cannot be kept": (
        {"lock_ttl": "10s"},
        "lock_retry_interval: a lock of 10s cannot be kept by renewals every 5s: two of them must take less than 8s",
    ),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES.keys())
def test_a_wrong_value_is_refused_with_its_key(
    write: Write, locked: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(locked | change))

    assert expected in refused.value.detail
