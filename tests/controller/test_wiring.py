"""What the config says of registries, and whether their client is built of it."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from controller.config import Config
from controller.health import ProbeObserver
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.request import Request
from controller.registry.http.settings import Retries, Timeouts
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation
from controller.wiring import (
    open_cells_view,
    open_health,
    open_probe,
    open_registries,
    pull_credentials,
    pull_login,
)
from reconcile.canary import TASK_IMAGE
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_image_reference
from tests.simulators.registry import serve


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    for name in ("file.pem", "own", "pull"):
        (tmp_path / name).write_text(f"{name}\n")
    file = f"{tmp_path}/file.pem"
    return {
        "bbs_address": "https://bbs.service.cf.internal:8889",
        "bbs_ca_cert_file": file,
        "bbs_client_cert_file": file,
        "bbs_client_key_file": file,
        "database_url": f"sqlite:///{tmp_path}/cache.db",
        "cache_registry": {
            "address": "cache.example:8080",
            "ca_cert_file": file,
            "username": "pusher",
            "password_file": f"{tmp_path}/own",
        },
        "registries": [{"address": "r.example", "plain_http": True, "traffic": {"max_connections": 3}}],
    }


def test_each_registry_is_reached_as_the_config_says(values: dict[str, Any], tmp_path: Path) -> None:
    registries = open_registries(Config.model_validate(values))
    cache, source = registries.settings_of("cache.example:8080"), registries.settings_of("r.example")
    registries.close()

    assert (cache.any_address, source.any_address) == (True, False)
    assert (cache.plain_http, source.plain_http) == (False, True)
    assert cache.ca_file == tmp_path / "file.pem"
    assert cache.current_login() == Credentials("pusher", Secret("own"))
    assert source.current_login() is None
    assert source.limits == TrafficLimits(connections=3)


def test_networks_and_hosts_of_a_registry_are_its_own(values: dict[str, Any]) -> None:
    values["registries"] = [
        {"address": "r.example:443", "allowed_networks": ["10.0.16.0/24"], "other_hosts": ["auth.example"]},
        {"address": "other.example"},
    ]
    registries = open_registries(Config.model_validate(values))
    own, other = registries.settings_of("r.example"), registries.settings_of("other.example")
    cache = registries.settings_of("cache.example:8080")
    registries.close()

    assert (own.rules().permits("10.0.16.1"), own.other_hosts) == (True, ("auth.example",))
    assert (other.rules().permits("10.0.16.1"), other.other_hosts) == (False, ())
    assert cache.rules().permits("10.0.16.1")


def test_cells_have_the_login_that_is_meant_for_them_or_none(values: dict[str, Any], tmp_path: Path) -> None:
    """The login that images are pushed with, and the operator's others, are none of theirs."""
    auth = tmp_path / "auth.json"
    auth.write_text('{"auths": {"cache.example:8080": {"username": "other", "password": "x"}}}')
    values["registry_auth_file"] = str(auth)
    image = parse_image_reference("cache.example:8080/a:b")
    anonymous = open_cells_view(Config.model_validate(values))
    values |= {"cache_pull_username": "puller", "cache_pull_password_file": f"{tmp_path}/pull"}
    config = Config.model_validate(values)
    cells = open_cells_view(config)

    assert anonymous.login(image) is None
    assert pull_credentials(config) == Credentials("puller", Secret("pull")) == cells.login(image)
    assert cells.settings_of("cache.example:8080").ca_file == tmp_path / "file.pem"
    anonymous.close()
    cells.close()


def test_a_login_file_that_cannot_be_read_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{")
    values["registry_auth_file"] = f"{tmp_path}/auth.json"

    with pytest.raises(Invalid) as refused:
        open_registries(Config.model_validate(values))

    assert refused.value.code == "bad-auth-file"


def test_a_password_that_changes_in_its_file_is_the_present_one(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.file_values.CHECK_EVERY", 0.0)
    file = Path(values["database_url"].removeprefix("sqlite:///")).with_name("pull")
    values |= {"cache_pull_username": "puller", "cache_pull_password_file": str(file)}
    login = pull_login(Config.model_validate(values))
    assert login is not None

    seen = []
    for content in (b"next", b"", b"\xff", b"after-that\n"):
        file.write_bytes(content)
        seen.append(login.current().password.value)

    assert seen == ["next", "next", "next", "after-that"]


@pytest.mark.usefixtures("servers")
def test_a_slow_image_that_holds_all_connections_says_nothing_about_the_private_registry(
    values: dict[str, Any],
) -> None:
    """The probe has connections of its own, and that others are waited for is no failure of the registry."""
    with serve() as registry:
        values["cache_registry"] = {
            "address": registry.address,
            "plain_http": True,
            "traffic": {"max_connections": 2},
        }
        config = Config.model_validate(values)
        health = open_health(config)
        waits = Timeouts(
            connect=10.0, idle=3.0, total=10.0
        )  # what waits for a connection, waits idle seconds
        copies = open_registries(config, timeouts=waits, retries=Retries(attempts=1), observer=health)
        probe = open_probe(config, ProbeObserver(health))

        def repository() -> Repository:
            return copies.repository(config.cache_repositories.image(TASK_IMAGE), None, Cancellation())

        with ExitStack() as slow:
            for _ in range(2):
                session = repository().session
                slow.enter_context(session.send_once(Request("GET", session.base), None))
            with pytest.raises(Unavailable) as caught:
                repository().head_manifest("latest")
            before = registry.count("HEAD", "/manifests/")
            asyncio.run(probe.pull(None))
            probed = registry.count("HEAD", "/manifests/") - before
        asyncio.run(probe.close())
        copies.close()

    assert caught.value.code == ErrorCode.BUSY
    assert (before, probed) == (0, 1)
    assert health.serves_pulls
    assert health.why_not_migrate() is None
    assert health.private.pull.failing is None
