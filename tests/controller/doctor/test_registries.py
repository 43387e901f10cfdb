"""The private registry is really pushed to, pulled from and cleaned up; sources are greeted."""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from controller.doctor.diagnosis import Check, run_check
from controller.doctor.findings import Finding, Level
from controller.doctor.registries import check_cache_registry, check_source, sources_of
from tests.conftest import PassTime
from tests.contracts.distribution import ALICE, free_port, run_distribution
from tests.controller.doctor.conftest import Settings, all_of, config_of, levels, the_one
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority
from tests.simulators.registry import (
    AnyLogin,
    BasicLogin,
    OtherBytes,
    Raw,
    Refuse,
    RegistrySimulator,
    Stall,
    TokenLogin,
    WithHeaders,
)

MARKER = "marker-password"
LOGINS = {ALICE.username: ALICE.password}
Secret = Callable[[str], str]


@pytest.fixture
def cache(servers: None, settings: Settings) -> Iterator[RegistrySimulator]:
    with registries.serve() as simulator:
        settings["cache_registry"] = {"address": simulator.address, "plain_http": True}
        yield simulator


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """Write a secret into a file and name that."""

    def written(text: str) -> str:
        path = tmp_path / f"secret-{text}"
        path.write_text(f"{text}\n")
        return str(path)

    return written


def manifests_of(registry: RegistrySimulator) -> list[str]:
    return [digest for each in registry.store.repositories.values() for digest in each.manifests]


# The private registry


async def check_cache(settings: Settings) -> list[Finding]:
    return await all_of(check_cache_registry(await config_of(settings)))


@pytest.mark.parametrize("template", ["{guid}:latest", "docker-cache:{guid}", "team/{guid}:x"])
async def test_a_registry_that_does_all_is_left_as_it_was(
    template: str, cache: RegistrySimulator, settings: Settings
) -> None:
    settings["cache_repository_template"] = template

    pushed, deleted = await check_cache(settings)

    assert (pushed.check, pushed.level, deleted.level) == ("cache-registry", Level.OK, Level.OK)
    assert "was pushed, and pulled as a cell does" in pushed.text
    assert cache.count("PUT", "manifests") == cache.count("DELETE", "manifests") == 1
    assert manifests_of(cache) == []


async def test_each_test_image_is_a_new_one(cache: RegistrySimulator, settings: Settings) -> None:
    """Where all copies share one repository, a deletion by digest takes every tag of that digest."""
    settings["cache_repository_template"] = "docker-cache:{guid}"
    cache.deletes = False

    for _ in range(2):
        await check_cache(settings)

    assert len(manifests_of(cache)) == len(set(manifests_of(cache))) == 2


@pytest.mark.usefixtures("servers")
async def test_the_real_registry_does_all_when_it_was_told_to_delete(
    settings: Settings, tmp_path: Path
) -> None:
    with run_distribution(tmp_path) as real:
        settings["cache_registry"] = {"address": real.address, "plain_http": True}
        assert levels(await check_cache(settings)) == [Level.OK, Level.OK]


@pytest.mark.usefixtures("servers")
async def test_the_real_registry_does_not_delete_by_itself(settings: Settings, tmp_path: Path) -> None:
    with run_distribution(tmp_path, deletes=False) as real:
        settings["cache_registry"] = {"address": real.address, "plain_http": True}
        found = await check_cache(settings)

    assert levels(found) == [Level.OK, Level.WARNING]
    assert "UNSUPPORTED" in found[1].text
    assert found[1].advice == (
        "evict needs deletion enabled in the registry (REGISTRY_STORAGE_DELETE_ENABLED=true)"
    )


@pytest.mark.usefixtures("servers")
async def test_the_real_registry_that_knows_nobody_denies(
    settings: Settings, tmp_path: Path, secret: Secret
) -> None:
    with run_distribution(tmp_path, login=ALICE) as real:
        settings["cache_registry"] = {"address": real.address, "plain_http": True}
        anonymous = the_one(await check_cache(settings))
        settings["cache_registry"] |= {"username": ALICE.username, "password_file": secret(MARKER)}
        wrong = the_one(await check_cache(settings))

    for found in (anonymous, wrong):
        assert found.level is Level.PROBLEM
        assert found.text.startswith("pushing a test image: registry: UNAUTHORIZED: ")
        assert found.advice == "check cache_registry.username and cache_registry.password_file"
        assert MARKER not in str(found)


@pytest.mark.parametrize("login", [BasicLogin(LOGINS), TokenLogin(LOGINS, anonymous=False)])
async def test_cells_without_a_login_are_a_problem_where_one_is_wanted(
    login: BasicLogin | TokenLogin, cache: RegistrySimulator, settings: Settings, secret: Secret
) -> None:
    cache.login = login
    settings["cache_registry"] |= {"username": ALICE.username, "password_file": secret(ALICE.password)}

    found = the_one(await check_cache(settings))

    assert found.level is Level.PROBLEM
    assert found.text.startswith("pulling the test image as a cell does: ")
    assert "set cache_pull_username and cache_pull_password_file" in found.advice
    assert manifests_of(cache) == []


@pytest.mark.parametrize(("password", "is_good"), [(ALICE.password, True), (MARKER, False)])
async def test_cells_pull_with_the_login_that_they_get(
    password: str, *, is_good: bool, cache: RegistrySimulator, settings: Settings, secret: Secret
) -> None:
    cache.login = BasicLogin(LOGINS)
    settings["cache_registry"] |= {"username": ALICE.username, "password_file": secret(ALICE.password)}
    settings |= {"cache_pull_username": ALICE.username, "cache_pull_password_file": secret(password)}

    found = await check_cache(settings)

    if is_good:
        assert levels(found) == [Level.OK, Level.OK]
    else:
        assert levels(found) == [Level.PROBLEM, Level.OK]
        assert found[0].advice == "check cache_pull_username and cache_pull_password_file"
        assert MARKER not in str(found)


async def test_an_anonymous_pull_is_enough_for_cells(
    cache: RegistrySimulator, settings: Settings, secret: Secret
) -> None:
    cache.login = TokenLogin(LOGINS)
    settings["cache_registry"] |= {"username": ALICE.username, "password_file": secret(ALICE.password)}

    assert levels(await check_cache(settings)) == [Level.OK, Level.OK]


class TestDroplets:
    """Where Cloud Controller is configured, what it desires from droplets has to be pulled as well."""

    @pytest.fixture(autouse=True)
    def _configure(self, settings: Settings, secret: Secret) -> None:
        settings |= {
            "cloud_controller_api_url": "https://api.example.com",
            "uaa_client_id": "docker-cache",
            "uaa_client_secret_file": secret("client"),
        }

    async def test_a_registry_that_asks_for_no_login_is_good(
        self, cache: RegistrySimulator, settings: Settings
    ) -> None:
        found = await check_cache(settings)

        assert levels(found) == [Level.OK] * 3
        assert "was pulled with a login that it does not know" in found[1].text

    @pytest.mark.parametrize(
        ("login", "refused"),
        [
            (BasicLogin(LOGINS), ["without a login", "with a login that it does not know"]),
            (TokenLogin(LOGINS), ["with a login that it does not know"]),
            (AnyLogin(), ["without a login"]),
        ],
    )
    async def test_a_registry_that_refuses_what_droplets_bring_is_a_warning(
        self,
        login: BasicLogin | TokenLogin | AnyLogin,
        refused: list[str],
        cache: RegistrySimulator,
        settings: Settings,
        secret: Secret,
    ) -> None:
        cache.login = login
        settings["cache_registry"] |= {"username": ALICE.username, "password_file": secret(ALICE.password)}
        settings |= {
            "cache_pull_username": ALICE.username,
            "cache_pull_password_file": secret(ALICE.password),
        }

        found = [each for each in await check_cache(settings) if each.level is not Level.OK]

        assert [each.level for each in found] == [Level.WARNING] * len(refused)
        for each, how in zip(found, refused, strict=True):
            assert each.text.startswith(f"pulling the test image {how}, ")
            assert "update_droplets" in each.advice
        assert manifests_of(cache) == []

    async def test_without_updates_of_droplets_nobody_pulls_like_this(
        self, cache: RegistrySimulator, settings: Settings
    ) -> None:
        settings["update_droplets"] = False

        assert levels(await check_cache(settings)) == [Level.OK, Level.OK]


async def test_a_login_of_the_auth_file_is_what_to_look_at_where_it_was_used(
    cache: RegistrySimulator, settings: Settings, tmp_path: Path
) -> None:
    cache.login = BasicLogin(LOGINS)
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {cache.address: {"username": "alice", "password": MARKER}}})
    )
    settings["registry_auth_file"] = str(tmp_path / "auth.json")

    found = the_one(await check_cache(settings))

    assert found.advice.startswith("check registry_auth_file, or set cache_registry.username")
    assert MARKER not in str(found)


async def test_an_auth_file_that_cannot_be_read_is_named(
    cache: RegistrySimulator, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "auth.json").write_text("{")
    settings["registry_auth_file"] = str(tmp_path / "auth.json")

    found = the_one(await check_cache(settings))

    assert (found.level, "registry_auth_file" in found.advice) == (Level.PROBLEM, True)


async def test_a_login_that_may_not_delete_is_a_warning(cache: RegistrySimulator, settings: Settings) -> None:
    cache.fail("DELETE", "manifests", Refuse(403, b'{"errors":[{"code":"DENIED"}]}'))

    found = the_one(await check_cache(settings))

    assert (found.level, "evict needs a login that may delete" in found.advice) == (Level.WARNING, True)


async def test_a_registry_that_breaks_while_it_deletes_is_a_warning(
    cache: RegistrySimulator, settings: Settings
) -> None:
    cache.fail("DELETE", "manifests", Refuse(500))

    found = the_one(await check_cache(settings))

    assert (found.level, "could not be deleted" in found.text) == (Level.WARNING, True)
    assert found.advice


async def test_a_registry_that_makes_no_repositories_leads_to_the_template(
    cache: RegistrySimulator, settings: Settings
) -> None:
    cache.fail("POST", "uploads", Refuse(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'), times=None)

    found = the_one(await check_cache(settings))

    assert (found.level, "cache_repository_template" in found.advice) == (Level.PROBLEM, True)


async def test_other_bytes_than_their_digest_says_are_a_problem(
    cache: RegistrySimulator, settings: Settings
) -> None:
    cache.fail("GET", "manifests", OtherBytes(b"{}"))

    found = the_one(await check_cache(settings))

    assert (found.level, "one changes content" in found.advice) == (Level.PROBLEM, True)
    assert manifests_of(cache) == []


async def test_another_image_under_the_tag_is_a_problem(cache: RegistrySimulator, settings: Settings) -> None:
    """As from a cache in between that goes by the name alone."""
    blob = {"digest": f"sha256:{'0' * 64}", "size": 1}
    other = json.dumps({"schemaVersion": 2, "config": blob, "layers": []}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {images.OCI_MANIFEST}\r\nContent-Length: {len(other)}\r\n\r\n"
    cache.fail("GET", "manifests", Raw(head.encode() + other))

    found = the_one(await check_cache(settings))

    assert (found.level, "one serves other content" in found.advice) == (Level.PROBLEM, True)
    assert manifests_of(cache) == []


async def test_what_may_have_been_stored_is_deleted_when_the_push_failed(
    cache: RegistrySimulator, settings: Settings
) -> None:
    cache.fail("PUT", "manifests", WithHeaders({"Docker-Content-Digest": f"sha256:{'0' * 64}"}))

    found = the_one(await check_cache(settings))

    assert (found.level, "digest-mismatch" in found.text) == (Level.PROBLEM, True)
    assert cache.count("DELETE", "manifests") == 1
    assert manifests_of(cache) == []


async def test_what_was_stored_is_deleted_when_the_time_is_up(
    cache: RegistrySimulator, settings: Settings, pass_time: PassTime
) -> None:
    cache.fail("GET", "manifests", Stall())
    config = await config_of(settings)

    check = Check("cache-registry", cache.address, partial(check_cache_registry, config), limit=60.0)
    checking = asyncio.create_task(run_check(check))
    await asyncio.to_thread(cache.wait_for_stall)
    await pass_time(60.0)
    (found,) = await checking

    assert (found.level, "no answer within 60 s" in found.text) == (Level.PROBLEM, True)
    assert cache.count("DELETE", "manifests") == 1
    assert manifests_of(cache) == []


async def test_a_registry_that_is_down_leads_to_its_address(settings: Settings) -> None:
    found = the_one(await check_cache(settings))

    assert found.level is Level.PROBLEM
    assert "cache_registry.address is right" in found.advice


async def test_a_registry_without_tls_is_told_from_one_with_another_authority(
    cache: RegistrySimulator, settings: Settings, tmp_path: Path
) -> None:
    authority, foreign = Authority(tmp_path), Authority(tmp_path, "foreign")
    pair = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    files = {"ca_cert_file": str(foreign.certificate)}

    settings["cache_registry"] = {"address": cache.address, **files}
    plain = the_one(await check_cache(settings))
    with registries.serve(tls=context) as encrypted:
        settings["cache_registry"] = {"address": encrypted.address, **files}
        untrusted = the_one(await check_cache(settings))
        settings["cache_registry"] = {
            "address": encrypted.address,
            "ca_cert_file": str(authority.certificate),
        }
        good = await check_cache(settings)

    assert plain.advice == "check cache_registry.address: the server at this address does not speak TLS"
    assert untrusted.advice == (
        "add the CA certificate that signed the server's certificate to cache_registry.ca_cert_file"
    )
    assert levels(good) == [Level.OK, Level.OK]


async def test_a_ca_file_that_is_none_is_named(
    cache: RegistrySimulator, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "odd.crt").write_text("no certificate")
    settings["cache_registry"] = {"address": cache.address, "ca_cert_file": str(tmp_path / "odd.crt")}

    found = the_one(await check_cache(settings))

    assert (found.level, "cache_registry.ca_cert_file" in found.advice) == (Level.PROBLEM, True)


# Sources


@pytest.fixture
def source(servers: None, settings: Settings) -> Iterator[RegistrySimulator]:
    with registries.serve() as simulator:
        settings["registries"] = [
            {"address": simulator.address, "plain_http": True, "allowed_networks": ["127.0.0.0/8"]}
        ]
        yield simulator


async def greet(settings: Settings) -> dict[str, Finding]:
    """Check all sources, and give what was found by address."""
    config = await config_of(settings)
    found = {}
    for registry, level in sources_of(config):
        (found[registry.address],) = await all_of(check_source(config, registry, level))
    return found


@pytest.mark.parametrize(
    ("login", "told"),
    [
        (None, "answers"),
        (BasicLogin(LOGINS), "answers, and requires a login"),
        (TokenLogin(LOGINS), "answers"),
    ],
)
async def test_a_source_that_answers_is_well_with_or_without_a_login(
    login: BasicLogin | TokenLogin | None, told: str, source: RegistrySimulator, settings: Settings
) -> None:
    source.login = login

    found = (await greet(settings))[source.address]

    assert (found.check, found.level, found.text) == ("sources", Level.OK, f"{source.address} {told}")


async def test_a_token_server_that_knows_no_anonymous_client_is_reachable(
    source: RegistrySimulator, settings: Settings
) -> None:
    source.login = TokenLogin(LOGINS)
    source.fail("GET", "/token", Refuse(401))

    found = (await greet(settings))[source.address]

    assert (found.level, found.text) == (Level.OK, f"{source.address} answers, and requires a login")


@pytest.mark.parametrize("login", [BasicLogin(LOGINS), TokenLogin(LOGINS)])
@pytest.mark.parametrize(("password", "level"), [(ALICE.password, Level.OK), (MARKER, Level.PROBLEM)])
async def test_the_operators_login_for_a_source_is_tried(
    login: BasicLogin | TokenLogin,
    password: str,
    level: Level,
    source: RegistrySimulator,
    settings: Settings,
    secret: Secret,
) -> None:
    source.login = login
    settings["registries"][0] |= {"username": ALICE.username, "password_file": secret(password)}

    found = (await greet(settings))[source.address]

    assert found.level is level
    assert MARKER not in str(found)
    if level is Level.PROBLEM:
        prefix = f"registries[{source.address}]"
        assert found.advice == f"check {prefix}.username and {prefix}.password_file"


async def test_docker_hub_out_of_reach_may_be_meant_so(source: RegistrySimulator, settings: Settings) -> None:
    found = (await greet(settings))["docker.io"]

    assert (found.level, "unknown-host" in found.text) == (Level.WARNING, True)
    assert found.advice.endswith("or ignore this, if no image is copied from docker.io")


async def test_a_configured_source_out_of_reach_is_a_problem(
    source: RegistrySimulator, settings: Settings
) -> None:
    down = f"127.0.0.1:{free_port()}"
    local = {"plain_http": True, "allowed_networks": ["127.0.0.0/8"]}
    settings["registries"].append({"address": down, **local})
    settings["registries"].append({"address": "docker.io"})

    found = await greet(settings)

    assert list(found) == [source.address, down, "docker.io"]
    assert [each.level for each in found.values()] == [Level.OK, Level.PROBLEM, Level.PROBLEM]


async def test_a_source_at_a_private_address_leads_to_the_allowed_networks(
    source: RegistrySimulator, settings: Settings
) -> None:
    del settings["registries"][0]["allowed_networks"]

    found = (await greet(settings))[source.address]

    assert (found.level, f"registries[{source.address}].allowed_networks" in found.advice) == (
        Level.PROBLEM,
        True,
    )
    assert source.requests == []


async def test_a_source_that_leads_to_another_registry_of_the_config_is_named_with_what_to_set(
    source: RegistrySimulator, settings: Settings
) -> None:
    with registries.serve() as other:
        settings["registries"].append(
            {"address": other.address, "plain_http": True, "allowed_networks": ["127.0.0.0/8"]}
        )
        challenge = {"WWW-Authenticate": f'Bearer realm="{other.url}/token"'}
        source.fail("GET", "/v2/", Refuse(401, headers=challenge), times=None)

        found = (await greet(settings))[source.address]

        assert found.level is Level.PROBLEM
        assert f"name the host in registries[{source.address}].other_hosts" in found.advice
        assert [each.path for each in other.requests] == ["/v2/"]  # its own check


@pytest.mark.parametrize("address", ["myregistry", "a b", "https://r.example"])
async def test_an_address_that_no_image_names_is_a_problem(address: str, settings: Settings) -> None:
    settings["registries"] = [{"address": address}]

    found = (await greet(settings))[address]

    assert found.level is Level.PROBLEM
    assert f"write registries[{address}].address as image references do" in found.advice


@pytest.mark.parametrize(
    "address", ["index.docker.io", "Registry-1.Docker.io", "registry.hub.docker.com", "docker.io:443"]
)
async def test_docker_hub_under_another_of_its_names_is_docker_hub(address: str, settings: Settings) -> None:
    settings["registries"] = [{"address": address}]

    config = await config_of(settings)

    assert [registry.address for registry, _ in sources_of(config)] == [address]


async def test_what_is_no_registry_is_a_problem(source: RegistrySimulator, settings: Settings) -> None:
    source.fail("GET", "/v2/", Refuse(404, b"<html>"))

    found = (await greet(settings))[source.address]

    assert found.level is Level.PROBLEM
    assert f"registries[{source.address}].address" in found.advice


async def test_a_realm_that_must_not_be_asked_is_no_matter_of_the_login(
    source: RegistrySimulator, settings: Settings, secret: Secret
) -> None:
    challenge = 'Bearer realm="http://other.example/token"'
    source.fail("GET", "/v2/", Refuse(401, headers={"WWW-Authenticate": challenge}), times=None)
    settings["registries"][0] |= {"username": ALICE.username, "password_file": secret(MARKER)}

    found = (await greet(settings))[source.address]

    assert (found.level, "token server" in found.advice) == (Level.PROBLEM, True)


async def test_an_exhausted_limit_is_said(source: RegistrySimulator, settings: Settings) -> None:
    source.fail("GET", "/v2/", Refuse(429), times=None)

    found = (await greet(settings))[source.address]

    assert (found.level, "wait until its rate limit allows" in found.advice) == (Level.PROBLEM, True)
