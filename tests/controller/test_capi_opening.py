"""Builds the client of Cloud Controller from a config."""

import asyncio
import json
from pathlib import Path

import pytest

from controller.capi_opening import RequestWatch, open_cloud_controller
from controller.capi_wiring import capi_settings
from controller.config import Config
from controller.leadership.lease import lease_without_lock
from controller.metrics import Metrics
from controller.process import Process
from reconcile.cloud_controller_status import ApiCall, ApiOutcome, CloudControllerStatus
from reconcile.request_budget import BudgetSettings


@pytest.fixture
def config(tmp_path: Path) -> Config:
    files = {}
    for name in ("ca.crt", "client.crt", "client.key", "uaa"):
        (tmp_path / name).write_text("a secret\n")
        files[name] = str(tmp_path / name)
    return Config.model_validate(
        {
            "admin_without_tls": True,
            "admin_address": "127.0.0.1:17090",
            "bbs_address": "https://bbs.example:8889",
            "bbs_ca_cert_file": files["ca.crt"],
            "bbs_client_cert_file": files["client.crt"],
            "bbs_client_key_file": files["client.key"],
            "database_url": f"sqlite:///{tmp_path}/cache.db",
            "cache_registry": {"address": "cache.example:8080"},
            "cloud_controller_api_url": "https://api.sys.example.com",
            "uaa_client_id": "docker-cache",
            "uaa_client_secret_file": files["uaa"],
            "update_droplets": False,
            "cloud_controller_requests_per_hour": 600,
            "cloud_controller_background_share": 0.25,
            "communication_timeout": "7s",
        }
    )


def test_the_config_says_how_cloud_controller_is_asked(config: Config) -> None:
    settings = capi_settings(config, unacknowledged=2.0)

    assert settings is not None
    assert settings.api_url == "https://api.sys.example.com"
    assert settings.client.client_id == "docker-cache"
    assert settings.client.secret.current().value == "a secret"
    assert settings.budget == BudgetSettings(600, 0.25)
    assert (settings.updates, settings.timeout, settings.unacknowledged) == (False, 7.0, 2.0)
    assert "a secret" not in repr(settings)


async def test_nothing_is_asked_when_the_client_is_opened(config: Config) -> None:
    """Cloud Controller may be down when the daemon starts."""
    process = Process("run")
    async with open_cloud_controller(config, lease=lease_without_lock(), process=process) as opened:
        assert opened is not None
        status = opened.status()

        assert opened.calls.exchanges.timeout == 7.0

    assert (status.address, status.requests_left) == ("https://api.sys.example.com", 600)
    assert status.reachable_since is status.failing_since is None


async def test_without_an_api_there_is_no_client(config: Config) -> None:
    none = config.model_copy(update={"cloud_controller_api_url": None})

    async with open_cloud_controller(none, lease=lease_without_lock(), process=Process("run")) as opened:
        assert opened is None


async def test_a_secret_that_is_being_written_leaves_the_old_one(config: Config, tmp_path: Path) -> None:
    settings = await asyncio.to_thread(capi_settings, config)
    assert settings is not None
    for broken in (b"", b"\xff\xfe"):
        await asyncio.to_thread((tmp_path / "uaa").write_bytes, broken)
        settings.client.secret._checked_at -= 10.0  # it looks again after a while
        assert (await asyncio.to_thread(settings.client.secret.current)).value == "a secret"
    await asyncio.to_thread((tmp_path / "uaa").write_text, "a new one")
    settings.client.secret._checked_at -= 10.0
    assert (await asyncio.to_thread(settings.client.secret.current)).value == "a new one"


def test_requests_are_counted_and_what_is_known_is_shown() -> None:
    metrics = Metrics()
    counts = RequestWatch(metrics, lambda: 9.0)

    counts.asked(
        ApiCall.FIND_BUILD, ApiOutcome.OK, CloudControllerStatus("x", last_success=7.0, requests_left=9)
    )
    failing = CloudControllerStatus("x", failing_since=8.0, last_success=7.0, requests_left=8)
    counts.asked(ApiCall.FIND_BUILD, ApiOutcome.UNAVAILABLE, failing)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"docker_cache_cloud_controller_{name}", labels)

    assert value("requests_total", call="find-build", outcome="ok") == 1
    assert value("requests_total", call="find-build", outcome="unavailable") == 1
    assert value("requests_left") == 8
    assert value("last_success_timestamp_seconds") == 7.0
    assert value("failing_since_timestamp_seconds") == 8.0


def test_a_failure_that_lasts_and_a_scope_that_is_missing_are_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 100.0
    watch = RequestWatch(Metrics(), lambda: now)

    def logged(outcome: ApiOutcome, status: CloudControllerStatus) -> list[str]:
        watch.asked(ApiCall.FIND_BUILD, outcome, status)
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line)["message"].rpartition(".")[2] for line in lines]

    failing = CloudControllerStatus("x", failing_since=100.0, error="down")
    well = CloudControllerStatus("x", reachable_since=200.0)
    lacking = CloudControllerStatus("x", reachable_since=200.0, missing_scopes=("a.b",))
    assert logged(ApiOutcome.UNAVAILABLE, failing) == []
    assert logged(ApiOutcome.OK, well) == []
    now = 130.0
    assert logged(ApiOutcome.UNAVAILABLE, failing) == ["became-unavailable"]
    assert logged(ApiOutcome.UNAVAILABLE, failing) == []
    assert logged(ApiOutcome.OK, well) == ["became-available"]
    assert logged(ApiOutcome.OK, lacking) == ["scopes-missing"]
    assert logged(ApiOutcome.DENIED, lacking) == []
    assert logged(ApiOutcome.OK, well) == []
