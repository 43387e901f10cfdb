"""The ops file for cf-deployment, applied to a manifest with what it changes and names there."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from controller.config import load_config
from tests.deploy.bosh import RELEASE, apply_ops, put_on_vm, read_yaml, render, resolved, variables_in
from tests.deploy.properties import Pems
from tests.documents import PAGES, blocks

pytestmark = pytest.mark.usefixtures("servers")

OPERATIONS = RELEASE / "operations" / "docker-cache.yml"
ON_POSTGRES = RELEASE / "operations" / "docker-cache-postgres.yml"

MANIFEST: dict[str, Any] = {
    "releases": [{"name": "diego"}, {"name": "uaa"}],
    "instance_groups": [
        {
            "name": "database",
            "jobs": [{"name": "pxc-mysql", "properties": {"seeded_databases": [{"name": "diego"}]}}],
        },
        {"name": "uaa", "jobs": [{"name": "uaa", "properties": {"uaa": {"clients": {"tps": {}}}}}]},
        {"name": "scheduler", "instances": 2, "jobs": [{"name": "auctioneer"}]},
    ],
    "variables": [
        {"name": name}
        for name in (
            "diego_bbs_client",
            "loggregator_tls_agent",
            "metric_scraper_ca",
            "mysql_server_certificate",
            "router_ssl",
            "service_cf_internal_ca",
        )
    ],
}
"""The names of cf-deployment that the ops file needs."""

GIVEN = {
    "docker_cache_registry_address",
    "docker_cache_registry_password",
    "docker_cache_registry_username",
    "system_domain",
}
"""Variables that an operator gives; the last one is cf-deployment's own."""


@pytest.fixture(scope="module")
def operations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_yaml(OPERATIONS)
    return found


@pytest.fixture
def manifest(operations: list[dict[str, Any]]) -> Any:
    return apply_ops(deepcopy(MANIFEST), operations)


def job_of(manifest: Any, group: str, name: str) -> Any:
    (jobs,) = (each["jobs"] for each in manifest["instance_groups"] if each["name"] == group)
    (job,) = (each for each in jobs if each["name"] == name)
    return job


def values_of(manifest: Any, pems: Pems) -> dict[str, Any]:
    """Give each variable a value of its type, as CredHub does."""
    values: dict[str, Any] = {name: f"{name.replace('_', '-')}.example" for name in GIVEN}
    certificate = {"ca": pems.ca, "certificate": pems.cert, "private_key": pems.key}
    for variable in manifest["variables"]:
        is_password = variable.get("type") == "password"
        values[variable["name"]] = f"password of {variable['name']}" if is_password else certificate
    return values


def test_what_it_names_is_defined_once(manifest: Any) -> None:
    defined = [each["name"] for each in manifest["variables"]]

    assert len(set(defined)) == len(defined)
    assert variables_in(manifest) - set(defined) == GIVEN
    assert {
        each["options"]["ca"] for each in manifest["variables"] if "ca" in each.get("options", {})
    } <= set(defined)


def test_the_comment_names_the_variables_that_somebody_gives() -> None:
    comment = "\n".join(line for line in OPERATIONS.read_text().splitlines() if line.startswith("#"))

    assert set(re.findall(r"docker_cache_\w+", comment)) == GIVEN - {"system_domain"}


def test_the_job_it_adds_gives_a_config_that_the_daemon_takes(manifest: Any, pems: Pems, vcap: Path) -> None:
    job = job_of(manifest, "scheduler", "docker_cache")
    job_files = render(resolved(job["properties"], values_of(manifest, pems)))

    config = load_config(put_on_vm(job_files, vcap) / "config" / "docker_cache.json")

    assert job["release"] in {each["name"] for each in manifest["releases"]}
    assert config.start_paused
    assert config.database_url == "mysql://docker_cache@sql-db.service.cf.internal:3306/docker_cache"
    assert config.locket_address == "locket.service.cf.internal:8891"
    assert config.cloud_controller_api_url == "https://api.system-domain.example"
    assert config.admin_server_name == "docker-cache-admin"
    assert config.loggregator.loggregator_use_v2_api
    assert config.metrics_server_cert_file is not None
    assert config.warnings == ()


def use_postgres(manifest: Any) -> None:
    """Change the database as the ops file of that name of cf-deployment does."""
    (group,) = (each for each in manifest["instance_groups"] if each["name"] == "database")
    databases = {"databases": [{"name": "diego"}], "roles": [{"name": "diego"}], "port": 5524}
    group["jobs"] = [{"name": "postgres", "properties": {"databases": databases}}]


def test_on_postgres_the_job_and_the_server_have_the_same_database_and_role(
    manifest: Any, pems: Pems, vcap: Path
) -> None:
    use_postgres(manifest)
    apply_ops(manifest, read_yaml(ON_POSTGRES))
    job = job_of(manifest, "scheduler", "docker_cache")
    job_files = render(resolved(job["properties"], values_of(manifest, pems)))
    config = load_config(put_on_vm(job_files, vcap) / "config" / "docker_cache.json")
    server = job_of(manifest, "database", "postgres")["properties"]["databases"]
    database, role = server["databases"][-1], server["roles"][-1]

    assert config.database_url == (
        f"postgresql://{role['name']}@sql-db.service.cf.internal:{server['port']}/{database['name']}"
    )
    assert config.database_ca_cert_file is None
    assert role["password"] == job["properties"]["diego"]["docker_cache"]["sql"]["db_password"]
    assert variables_in(read_yaml(ON_POSTGRES)) <= {each["name"] for each in manifest["variables"]}


def test_both_sides_of_a_login_have_the_same_password(manifest: Any) -> None:
    job = job_of(manifest, "scheduler", "docker_cache")["properties"]["diego"]["docker_cache"]
    client = job_of(manifest, "uaa", "uaa")["properties"]["uaa"]["clients"]["docker-cache"]
    database = job_of(manifest, "database", "pxc-mysql")["properties"]["seeded_databases"][-1]

    assert client["secret"] == job["uaa"]["client_secret"]
    assert (database["name"], database["username"]) == ("docker_cache", "docker_cache")
    assert database["password"] == job["sql"]["db_password"]


def test_the_client_in_uaa_is_that_of_the_documentation(
    operations: list[dict[str, Any]], tmp_path: Path
) -> None:
    page = PAGES / "how-to" / "cloud-controller.md"
    (shown,) = (each for each in blocks(page) if each.language == "yaml")
    file = tmp_path / "ops.yml"
    file.write_text(shown.text)

    assert all(each in operations for each in read_yaml(file))


@pytest.mark.parametrize(
    "path", ["/instance_groups/name=cells/jobs/-", "/releases/name=cells", "/tags/owner"]
)
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(LookupError):
        apply_ops(deepcopy(MANIFEST), [{"type": "replace", "path": path, "value": {}}])
