"""The BOSH job's templates, rendered by Ruby as the Director does, and what comes out against the program."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from controller.cli import commands
from controller.config import Config, FormerRegistryConfig, RegistryConfig, SourceRegistryConfig, load_config
from hack.bosh_job import PROPERTIES, SAME, WRITTEN, property_name, with_current_part
from tests.deploy.bosh import JOB, DeploymentFails, put_on_vm, read_yaml, render
from tests.deploy.properties import MYSQL, Pems, Tree, everything, least, merged

pytestmark = pytest.mark.usefixtures("servers")

WITH_DISK = {"persistent_disk": 1024}


def properties(own: Tree, **shared: object) -> Tree:
    return {"diego": {"docker_cache": own}, **shared}


def rendered(own: Tree, **shared: object) -> dict[str, str]:
    return dict(render(properties(own, **shared), spec=WITH_DISK))


def config_of(files: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files["config/docker_cache.json"])
    return found


def unpack(job: Path) -> None:
    """Write the files of lists of registries, as bpm and pre-start have it done."""
    subprocess.run([sys.executable, "-I", job / "bin" / "unpack-files"], check=True)


def check(files: dict[str, str], vcap: Path) -> Config:
    """Put what was rendered where the daemon looks for it, and let the daemon's own command check it."""
    job = put_on_vm(files, vcap)
    (vcap / "store" / "docker_cache").mkdir(parents=True, exist_ok=True)
    unpack(job)
    config = job / "config" / "docker_cache.json"
    ended = CliRunner().invoke(commands, ["config", "check", "--config", str(config)])
    assert ended.exit_code == 0, ended.output
    return load_config(config)


# The spec


@pytest.fixture(scope="module")
def described() -> Tree:
    spec: Tree = read_yaml(JOB / "spec")
    return spec


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_the_keys_are_those_of_the_config(path: Path) -> None:
    """hack/update-docs writes them."""
    assert with_current_part(path, path.read_text()) == path.read_text()


def test_each_config_key_has_properties_and_each_property_has_a_use(described: Tree) -> None:
    made_of = {property_name(each) for names in PROPERTIES.values() for each in names}
    same = {property_name(key) for key in SAME}
    of_job_alone = {
        property_name(each)
        for each in (
            "credential_helper_directories",
            "drain_timeout_in_seconds",
            "limits.memory",
            "limits.open_files",
            "metrics.server_name",
        )
    }

    assert set(PROPERTIES) <= set(Config.model_fields)
    assert set(described["properties"]) == made_of | same | of_job_alone


def test_each_property_is_described_and_is_required_where_it_says_so(described: Tree) -> None:
    for name, about in described["properties"].items():
        assert about["description"].endswith("."), name
        assert not ("default" in about and about["description"].startswith("REQUIRED")), name


def test_each_template_is_rendered_and_each_property_is_read(described: Tree) -> None:
    templates = {path.name for path in (JOB / "templates").iterdir()}
    code = "".join(path.read_text() for path in (JOB / "templates").iterdir())
    # Names whose last part is one of a list in the template.
    listed = re.findall(r'p\("#\{scope\}\.((?:\w+\.)*)#\{key\}"\)', code)

    assert set(described["templates"]) == templates
    for name in described["properties"]:
        own = name.removeprefix("diego.docker_cache.")
        head, _, last = own.rpartition(".")
        is_listed = (f"{head}." if head else "") in listed and re.search(rf"\b{last}\b", code)
        assert own in code or is_listed, name


def test_lists_of_registries_take_the_keys_of_the_config() -> None:
    code = (JOB / "templates" / "docker_cache.json.erb").read_text()
    for name, model in (
        ("registries", SourceRegistryConfig),
        ("former_cache_registries", FormerRegistryConfig),
        ("cache_registry", RegistryConfig),
    ):
        pattern = r"%w\[([^]]*)\]\.each do" if name == "cache_registry" else rf'"{name}" => %w\[([^]]*)\]'
        found = re.search(pattern, code)
        assert found is not None
        texts = {key.removesuffix("_file") for key in model.model_fields if key.endswith("_file")}
        assert {*found[1].split(), *texts} == {key.removesuffix("_file") for key in model.model_fields}


# What is rendered is accepted


def test_the_least_gives_a_config_with_all_defaults(pems: Pems, vcap: Path) -> None:
    config = check(rendered(least(pems), locks={"locket": {"enabled": False}}), vcap)

    for key in SAME:
        assert getattr(config, key) == Config.model_fields[key].default, key
    assert config.database_url == f"sqlite:///{vcap}/store/docker_cache/cache.db"
    assert config.admin_address == "127.0.0.1:17090"
    assert config.metrics_address == "127.0.0.1:17091"
    assert config.healthcheck_address == "127.0.0.1:17092"
    assert config.debug_address == "127.0.0.1:17093"
    assert config.time_format == "rfc3339"
    assert config.locket_address is None
    assert config.cloud_controller_api_url is None
    assert config.uuid == "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e"


def test_everything_arrives_in_the_config(pems: Pems, vcap: Path) -> None:
    config = check(rendered(everything(pems), metrics=scraped_over_tls(pems)), vcap)

    unset = {key for key in Config.model_fields if getattr(config, key) is None}
    assert unset == {"docker_socket"}  # it does not go with engine "registry"
    assert config.database_url == "postgresql://cache%40region@sql.example:5524/cache"
    assert config.locket_address == "locket.service.cf.internal:8891"
    assert config.locket_client_key_file == config.bbs_client_key_file
    one, two, three = config.registries
    assert (one.address, two.address, three.address) == ("one.example", "two.example", "three.example")
    assert [str(each) for each in one.allowed_networks] == ["10.0.16.0/24"]
    assert one.ca_cert_file is not None
    assert one.ca_cert_file.read_text() == pems.ca
    assert two.password_file is not None
    assert two.password_file.read_text() == "second-secret"
    assert three.password_file is None
    (former,) = config.former_cache_registries
    assert former.repository_template == "docker-cache:{guid}"
    assert former.client_key_file is not None
    assert former.client_key_file.read_text() == pems.key
    assert config.migrate_running_rules[0].org == "finance"
    assert config.registry_auth_file is not None
    assert "four.example" in json.loads(config.registry_auth_file.read_text())["auths"]


VARIANTS: dict[str, tuple[Tree, Tree]] = {
    "mysql": (MYSQL, {}),
    "no admin API": ({"admin": {"address": ""}}, {}),
    "admin API without TLS": ({"admin": {"without_tls": True}}, {}),
    "no metrics": ({}, {"metrics": {"port": 0}}),
    "no debug server": ({"debug_addr": ""}, {}),
    "Unix time": ({}, {"logging": {"format": {"timestamp": "unix-epoch"}}}),
    "no lock in Locket": ({}, {"locks": {"locket": {"enabled": False}}}),
    "engine docker": ({"engine": "docker", "docker_socket": "unix:///var/run/docker.sock"}, {}),
    "plain HTTP": ({"cache_registry": {"plain_http": True}}, {}),
    "empty texts": (
        {
            "cache_registry": {"ca_cert": "", "client_cert": "", "client_key": "", "password": ""},
            "uaa": {"client_secret": ""},
            "cloud_controller_api_url": "https://api.sys.example.com",
            "cache_pull_password": "",
            "registries": [{"address": "one.example", "ca_cert": "", "password": ""}],
        },
        {},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_accepted(name: str, pems: Pems, vcap: Path) -> None:
    own, shared = VARIANTS[name]

    config = check(rendered(merged(least(pems), own), **shared), vcap)

    assert config.has_database_server is (name == "mysql")
    assert (config.admin_address is None) is (name == "no admin API")
    assert (config.metrics_address is None) is (name == "no metrics")
    assert (config.debug_address is None) is (name == "no debug server")
    assert (config.time_format == "unix-epoch") is (name == "Unix time")
    assert (config.locket_address is None) is (name == "no lock in Locket")


def agent_of(pems: Pems) -> Tree:
    return {"use_v2_api": True, "ca_cert": pems.ca, "cert": pems.cert, "key": pems.key}


def test_the_agent_of_the_logs_of_apps_gets_what_the_family_gives_it(pems: Pems, vcap: Path) -> None:
    config = check(rendered(least(pems), loggregator=agent_of(pems) | {"v2_api_port": 3459}), vcap)

    agent = config.loggregator
    assert (agent.loggregator_use_v2_api, agent.address) == (True, "127.0.0.1:3459")
    assert agent.loggregator_key_path is not None
    assert agent.loggregator_key_path.read_text().strip() == pems.key.strip()
    assert agent.loggregator_instance_id == agent.loggregator_job_index == config.uuid
    assert not check(rendered(least(pems)), vcap).loggregator.loggregator_use_v2_api


def test_the_agent_of_the_logs_of_apps_needs_its_certificates(pems: Pems) -> None:
    for key in ("ca_cert", "cert", "key"):
        for missing in (None, ""):
            with pytest.raises(DeploymentFails, match=rf"loggregator\.{key}"):
                rendered(least(pems), loggregator=agent_of(pems) | {key: missing})


def test_keys_of_the_same_name_are_passed_on_as_they_are(pems: Pems) -> None:
    """One that the template forgot would have its default whatever the manifest says."""
    values = {key: f"some {key}" for key in SAME}

    config = config_of(rendered({**least(pems), **values}))

    assert {key: config[key] for key in SAME} == values


def test_the_system_domain_of_a_link_gives_the_api(pems: Pems) -> None:
    own = {**least(pems), **MYSQL, "uaa": {"client_secret": "uaa-secret"}, "cloud_controller_api_url": ""}
    link = {"cloud_controller": {"system_domain": "sys.example.com"}}

    config = config_of(dict(render(properties(own), links=link)))

    assert config["cloud_controller_api_url"] == "https://api.sys.example.com"
    assert config["uaa_client_id"] == "docker-cache"


# What is refused, before an instance is changed


REFUSED: dict[str, tuple[Tree, str]] = {
    "BBS without CA": ({"bbs": {"ca_cert": None}}, "diego.docker_cache.bbs.ca_cert"),
    "no journal keys": ({"journal": {"encryption_keys": []}}, "must list at least one key"),
    "a short passphrase": (
        {"journal": {"encryption_keys": [{"label": "a", "passphrase": "short"}]}},
        "passphrase of a has fewer than 20 characters",
    ),
    "no Fernet key": ({"journal": {"encryption_keys": [{"label": "a", "key": "b" * 44}]}}, "no Fernet key"),
    "neither": ({"journal": {"encryption_keys": [{"label": "a"}]}}, "either passphrase or key"),
    "the same label twice": (
        {"journal": {"encryption_keys": [{"label": "a", "key": "b" * 43 + "="}] * 2}},
        "two keys have the same label",
    ),
    "an active key that is not there": (
        {"journal": {"active_key_label": "key-2"}},
        "no key has the label key-2",
    ),
    "no registry": ({"cache_registry": {"address": None}}, "diego.docker_cache.cache_registry.address"),
    "another database": ({"sql": {"db_driver": "oracle"}}, 'must be mysql or postgres, got "oracle"'),
    "no password of the database": ({"sql": {"db_driver": "mysql"}}, "diego.docker_cache.sql.db_password"),
    "an unknown key of a registry": (
        {"registries": [{"address": "one.example", "pasword": "x"}]},
        "diego.docker_cache.registries: one.example: unknown: pasword",
    ),
    "no certificates of the admin API": (
        {"admin": {"server_key": None}},
        "diego.docker_cache.admin.server_key",
    ),
    "a UAA client and no API": ({"uaa": {"client_secret": "x"}}, "cloud_controller_api_url is missing"),
    "a drain without an end": (
        {"drain_timeout_in_seconds": "forever"},
        "drain_timeout_in_seconds must be a whole",
    ),
    "a drain of less than nothing": (
        {"drain_timeout_in_seconds": -1},
        "drain_timeout_in_seconds must be a whole",
    ),
    "registries that are no list": (
        {"registries": {"address": "one.example"}},
        "diego.docker_cache.registries must be a list of registries, each with an address",
    ),
    "a registry that is a name": (
        {"former_cache_registries": ["one.example"]},
        "diego.docker_cache.former_cache_registries must be a list of registries, each with an address",
    ),
    "a registry without an address": (
        {"registries": [{"username": "reader"}]},
        "diego.docker_cache.registries must be a list of registries, each with an address",
    ),
    "a key that is a text": (
        {"journal": {"encryption_keys": ["correct horse"]}},
        "each key needs a label, and",
    ),
    "helpers that are no list": (
        {"credential_helper_directories": "/var/vcap/packages/ecr-login/bin"},
        "diego.docker_cache.credential_helper_directories must be a list",
    ),
    "memory without a unit": ({"limits": {"memory": 512}}, "limits.memory must be a size such as 1G"),
    "no files": ({"limits": {"open_files": 0}}, "limits.open_files must be a number above 0"),
}


def test_metrics_may_be_served_to_a_scraper_elsewhere(pems: Pems, vcap: Path) -> None:
    config = check(rendered(least(pems), metrics=scraped_over_tls(pems) | {"host": "0.0.0.0"}), vcap)

    assert config.metrics_address == "0.0.0.0:17091"


@pytest.mark.parametrize("host", ["", "10.0.0.1:9", "[::1]", "10.0.0.1 ", "my_host"])
def test_a_host_of_metrics_that_is_none_ends_the_deployment(host: object, pems: Pems) -> None:
    with pytest.raises(DeploymentFails, match=r"metrics\.host"):
        rendered(least(pems), metrics={"host": host})


@pytest.mark.parametrize("port", [-1, 65536, "seventeen"])
def test_a_port_of_metrics_that_is_none_ends_the_deployment(port: object, pems: Pems) -> None:
    """What is not a number would otherwise mean that there are no metrics."""
    with pytest.raises(DeploymentFails, match=r"metrics\.port must be a port, or 0"):
        rendered(least(pems), metrics={"port": port})


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_ends_the_deployment_and_is_named(name: str, pems: Pems) -> None:
    own, why = REFUSED[name]

    with pytest.raises(DeploymentFails, match=re.escape(why)):
        rendered(merged(least(pems), own))


def test_another_time_format_than_the_familys_is_refused(pems: Pems) -> None:
    with pytest.raises(DeploymentFails, match=r"logging\.format\.timestamp must be rfc3339 or unix-epoch"):
        rendered(least(pems), logging={"format": {"timestamp": "iso"}})


def test_a_file_as_database_needs_a_persistent_disk(pems: Pems) -> None:
    with pytest.raises(DeploymentFails, match="needs a persistent disk"):
        render(properties(least(pems)))


# The journal's keys


def test_a_passphrase_gives_the_same_key_on_each_instance_and_the_active_one_comes_first(pems: Pems) -> None:
    first, again = (rendered(everything(pems))["config/secrets/journal.key"] for _ in range(2))

    assert first == again
    new, old = first.split()
    assert old == "A" * 43 + "="
    assert Fernet(new).decrypt(Fernet(new).encrypt(b"a definition")) == b"a definition"


# Files of lists of registries


def test_files_of_registries_that_are_gone_are_removed_and_none_is_open_to_others(
    pems: Pems, vcap: Path
) -> None:
    unpack(put_on_vm(rendered(everything(pems)), vcap))
    files = vcap / "data" / "docker_cache" / "files"
    assert "registries.0.password" in {each.name for each in files.iterdir()}
    assert {each.stat().st_mode & 0o077 for each in (files, *files.iterdir())} == {0}

    fewer = everything(pems) | {
        "registries": [{"address": "one.example", "username": "a", "password": "new"}]
    }
    unpack(put_on_vm(rendered(fewer), vcap))

    assert (files / "registries.0.password").read_text() == "new"
    left = sorted(each.name for each in files.iterdir() if each.name.startswith("registries."))
    assert left == ["registries.0.password"]


def test_secrets_are_in_no_file_that_others_read_or_that_processes_show(pems: Pems) -> None:
    files = rendered(everything(pems))

    for path, text in files.items():
        is_secret = path.startswith(("config/secrets/", "config/certs/")) or path == "config/files.json"
        assert is_secret or not re.search(
            r"secret\b(?!_file|s/)|PRIVATE KEY|dXNlcjpwYXNz", text.replace("/secrets/", "/")
        ), path


# What bpm, monit, the scraper and the Director read


def test_bpm_runs_what_the_packages_hold_and_gives_it_the_disks_it_needs(pems: Pems, vcap: Path) -> None:
    def process(own: Tree) -> Tree:
        path = vcap / "bpm.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered(merged(least(pems), own))["config/bpm.yml"])
        (found,) = read_yaml(path)["processes"]
        return dict(found)

    with_file = process({})
    assert with_file["executable"] == "/var/vcap/packages/python-3.12/bin/python3"
    assert with_file["args"][:3] == ["-m", "controller", "run"]
    assert with_file["env"]["PYTHONPATH"] == "/var/vcap/packages/docker_cache/lib"
    assert with_file["hooks"] == {"pre_start": "/var/vcap/jobs/docker_cache/bin/unpack-files"}
    assert with_file["limits"] == {"memory": "1G", "open_files": 10000}
    assert (with_file["ephemeral_disk"], with_file["persistent_disk"]) == (True, True)
    assert "unsafe" not in with_file
    limits = process({"limits": {"memory": "1.5G", "open_files": "65536"}})["limits"]
    assert limits == {"memory": "1.5G", "open_files": 65536}, "bpm reads no number in quotes"
    assert "persistent_disk" not in process(MYSQL)
    socket = process({"engine": "docker", "docker_socket": "unix:///var/vcap/sys/run/docker/docker.sock"})
    assert socket["unsafe"]["unrestricted_volumes"] == [
        {"path": "/var/vcap/sys/run/docker", "writable": True}
    ]
    helpers = process({"credential_helper_directories": ["/var/vcap/packages/ecr-login/bin"]})
    assert helpers["env"]["PATH"].endswith(":/var/vcap/packages/ecr-login/bin")


def test_the_scraper_reads_the_port_and_nothing_where_there_is_none(pems: Pems, vcap: Path) -> None:
    path = vcap / "prom.yml"
    path.parent.mkdir()
    path.write_text(rendered(least(pems))["config/prom_scraper_config.yml"])

    assert read_yaml(path) == {
        "port": 17091,
        "source_id": "docker_cache",
        "instance_id": "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e",
        "scheme": "http",
        "labels": {"origin": "docker_cache"},
    }
    assert rendered(least(pems), metrics={"port": 0})["config/prom_scraper_config.yml"] == ""


def scraped_over_tls(pems: Pems) -> Tree:
    return {"port": 17091, "ca_cert": pems.ca, "cert": pems.cert, "key": pems.key}


def test_the_scraper_is_told_of_tls_and_of_the_name_to_verify(pems: Pems, vcap: Path) -> None:
    """Without a name a scraper with a client certificate panics, for the whole VM."""
    job_files = rendered(least(pems), metrics=scraped_over_tls(pems))
    config = check(job_files, vcap)
    path = vcap / "prom.yml"
    path.write_text(job_files["config/prom_scraper_config.yml"])

    scraper = read_yaml(path)
    assert (scraper["scheme"], scraper["server_name"]) == ("https", "docker_cache_metrics")
    assert config.metrics_ca_cert_file is not None
    assert config.metrics_server_key_file is not None
    assert config.metrics_server_key_file.read_text().strip() == pems.key.strip()


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ({"ca_cert": ""}, r"metrics\.ca_cert: missing beside metrics\.cert, metrics\.key"),
        ({"cert": ""}, r"metrics\.cert: missing beside"),
        ({"server_name": ""}, r"metrics\.server_name"),
    ],
)
def test_half_of_tls_for_the_scraper_is_refused(lacks: Tree, says: str, pems: Pems) -> None:
    with pytest.raises(DeploymentFails, match=says):
        rendered(least(pems), metrics=scraped_over_tls(pems) | lacks)


@pytest.mark.parametrize("name", ["pre-start", "post-start", "drain", "diego-docker-cache"])
def test_a_script_is_one_for_bash(name: str, pems: Pems) -> None:
    for own in (least(pems), everything(pems)):
        text = rendered(own)[f"bin/{name}"]
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        assert text.startswith("#!/usr/bin/env bash\n")


def test_monit_watches_the_process_that_bpm_starts(pems: Pems) -> None:
    assert "/var/vcap/sys/run/bpm/docker_cache/docker_cache.pid" in rendered(least(pems))["monit"]
