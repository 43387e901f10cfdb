"""Logins of Amazon ECR: which keys are exchanged, with what, and what is said where that is impossible."""

import importlib
import json
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.registry.auth.ecr import (
    AuthorizationToken,
    EcrLogins,
    EcrRegistry,
    NoExchange,
    call_api,
    is_access_key,
    parse_ecr_host,
)
from controller.registry.auth.keychain import Keychain
from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import ImageReference, parse_image_reference
from tests.controller.registry.conftest import PATIENT
from tests.simulators import ecr_api, images
from tests.simulators.ecr_api import EcrApi
from tests.simulators.registry import BasicLogin, RegistrySimulator
from tests.simulators.registry.store import StoredManifest

pytestmark = pytest.mark.usefixtures("servers")

HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
KEY = Credentials("AKIAEXAMPLE012345678", Secret("marker/secret+key"))
OTHER_KEY = Credentials("AKIAEXAMPLE987654321", Secret("marker/other+key"))
IMAGE = parse_image_reference(f"{HOST}/team/app:1")
SAMPLE = images.image([])


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EcrApi]:
    """The API, which botocore asks because its environment says so; the machine's own AWS settings do not count."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with ecr_api.serve() as running:
        running.keys[KEY.username] = KEY.password.value
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", running.url)
        yield running


@pytest.fixture
def registry_on_ecr(registry: RegistrySimulator, monkeypatch: pytest.MonkeyPatch) -> RegistrySimulator:
    """The registry simulator, by a name of ECR."""
    resolve: Callable[..., Any] = socket.getaddrinfo
    port = int(registry.address.rpartition(":")[2])

    def resolved(host: str, *arguments: Any, **options: Any) -> Any:
        if host != HOST:
            return resolve(host, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("socket.getaddrinfo", resolved)
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)
    return registry


def open_client(ecr: EcrLogins | None = None, auth_file: Path | None = None) -> Registries:
    return Registries(
        {HOST: RegistrySettings(plain_http=True, any_address=True)},
        timeouts=PATIENT,
        retries=Retries(attempts=1, first_wait=0.0, longest_wait=0.0, login_wait=0.0),
        policy=ClientPolicy(auth_file=auth_file, ecr=ecr),
    )


def fetch(client: Registries, image: ImageReference, credentials: Credentials | None) -> bytes:
    try:
        return client.repository(image, credentials, Cancellation()).fetch_manifest("1").raw
    finally:
        client.close()


def no_exchange(*_: object) -> Any:
    raise NoExchange


# Which logins are keys


@pytest.mark.parametrize(
    ("domain", "region", "is_fips"),
    [
        (HOST, "eu-central-1", False),
        (HOST.upper(), "eu-central-1", False),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", True),
        ("my_alias-1.dkr.ecr.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1", False),
    ],
)
def test_the_region_is_read_from_a_host_of_ecr(domain: str, region: str, is_fips: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    found = parse_ecr_host(domain)

    assert found is not None
    assert (found.host, found.region, found.is_fips) == (domain.lower(), region, is_fips)


@pytest.mark.parametrize(
    "domain",
    [
        f"{HOST}.evil.example",
        f"evil.example/{HOST}",
        f"x.{HOST}",
        "public.ecr.aws",
        "123456789012.dkr.ecr.eu-central-1.evil.example",
        "123456789012.dkr.ecr.evil.example#eu-central-1.amazonaws.com",
        "123456789012.dkr.ecr..amazonaws.com",
        "registry.example",
    ],
)
def test_no_key_is_exchanged_for_another_host(domain: str) -> None:
    assert parse_ecr_host(domain) is None
    assert not is_access_key(domain, KEY)


@pytest.mark.parametrize(
    "username", ["AWS", "alice", "AKIA", "akiaexample012345678", "AKIA example 0123", "<token>"]
)
def test_a_login_that_is_no_key_is_used_as_it_is(username: str) -> None:
    login = Credentials(username, Secret("p"))

    assert Keychain(lambda _: RegistrySettings(), ecr=EcrLogins(no_exchange)).find(IMAGE, own=login) == login


# With the API


def test_a_key_is_exchanged_when_the_registry_asks_for_a_login(
    api: EcrApi, registry_on_ecr: RegistrySimulator
) -> None:
    registry_on_ecr.login = BasicLogin({"AWS": api.password})

    assert fetch(open_client(), IMAGE, KEY) == SAMPLE.manifest.content

    assert api.regions == ["eu-central-1"]


def test_a_key_of_the_operator_is_exchanged_as_well(
    api: EcrApi, registry_on_ecr: RegistrySimulator, tmp_path: Path
) -> None:
    registry_on_ecr.login = BasicLogin({"AWS": api.password})
    file = tmp_path / "auth.json"
    entry = {"username": KEY.username, "password": KEY.password.value}
    file.write_text(json.dumps({"auths": {HOST: entry}}))

    assert fetch(open_client(auth_file=file), IMAGE, None) == SAMPLE.manifest.content


def test_a_key_is_exchanged_for_the_docker_engine_as_well(api: EcrApi) -> None:
    client = open_client()

    assert client.login(IMAGE, KEY) == Credentials("AWS", Secret(api.password))
    client.close()


def test_nothing_is_exchanged_for_a_registry_that_asks_for_no_login(
    api: EcrApi, registry_on_ecr: RegistrySimulator
) -> None:
    assert fetch(open_client(), IMAGE, KEY) == SAMPLE.manifest.content

    assert (api.regions, registry_on_ecr.login) == ([], None)


def test_one_exchange_serves_many_copies_but_one_key_only(api: EcrApi) -> None:
    api.keys[OTHER_KEY.username] = OTHER_KEY.password.value
    logins = EcrLogins()

    for key in (KEY, KEY, OTHER_KEY, KEY):
        logins.exchange(HOST, key)

    assert len(api.regions) == 2


class ApiInMemory:
    """Gives a login, without a request."""

    def __init__(self, lifetime: float = 12 * 3600.0, value: str = "QVdTOng=") -> None:
        self.lifetime, self.value = lifetime, value
        self.now, self.calls = 1_700_000_000.0, 0

    def __call__(self, _: EcrRegistry, key: Credentials) -> AuthorizationToken:
        assert key.password.value
        self.calls += 1
        return AuthorizationToken(self.value, datetime.fromtimestamp(self.now + self.lifetime, UTC))

    def logins(self) -> EcrLogins:
        return EcrLogins(self, lambda: self.now)


def test_a_failure_is_that_of_all_who_wait_for_the_same_key() -> None:
    """A key that is asked for again and again would hold one copy after the other for as long as AWS is silent."""
    memory = ApiInMemory(value="")
    logins = memory.logins()
    for _ in range(3):
        with pytest.raises(Unavailable):
            logins.exchange(HOST, KEY)
    assert memory.calls == 1

    memory.value, memory.now = "QVdTOng=", memory.now + 31.0

    assert logins.exchange(HOST, KEY) == Credentials("AWS", Secret("x"))


@pytest.mark.parametrize("lifetime", [-3600.0, 0.0, 1700.0])
def test_a_login_near_its_end_is_exchanged_again(lifetime: float) -> None:
    memory = ApiInMemory(lifetime)
    logins = memory.logins()

    for _ in range(2):
        logins.exchange(HOST, KEY)

    assert memory.calls == 2


def test_a_login_is_exchanged_again_before_it_ends() -> None:
    memory = ApiInMemory()
    logins = memory.logins()
    logins.exchange(HOST, KEY)

    memory.now += 10.9 * 3600
    logins.exchange(HOST, KEY)
    assert memory.calls == 1
    memory.now += 0.2 * 3600
    logins.exchange(HOST, KEY)

    assert memory.calls == 2


@pytest.mark.parametrize("forbids", [False, True], ids=["401", "403"])
def test_a_login_that_the_registry_refuses_is_exchanged_again(
    api: EcrApi,
    registry_on_ecr: RegistrySimulator,
    forbids: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """ECR answers 403 to a login that has expired."""
    logins = EcrLogins()
    logins.exchange(HOST, KEY)
    api.password = "marker-new-password"
    registry_on_ecr.login, registry_on_ecr.forbids = BasicLogin({"AWS": api.password}), forbids

    assert fetch(open_client(logins), IMAGE, KEY) == SAMPLE.manifest.content


def test_a_key_that_aws_does_not_know_is_denied_with_its_words(api: EcrApi) -> None:
    with pytest.raises(Denied, match="UnrecognizedClientException: The security token") as denied:
        EcrLogins().exchange(HOST, OTHER_KEY)

    assert denied.value.code == "bad-credentials"


def test_a_wrong_secret_is_denied_without_being_shown(api: EcrApi) -> None:
    wrong = Credentials(KEY.username, Secret("marker-wrong"))

    with pytest.raises(Denied, match="InvalidSignatureException") as denied:
        EcrLogins().exchange(HOST, wrong)

    assert "marker" not in f"{denied.value}{denied.value!r}"
    assert not api.regions


@pytest.mark.parametrize("fault", [(400, "ThrottlingException"), (503, "ServiceUnavailable")])
def test_an_api_that_has_no_time_is_asked_again_later(api: EcrApi, fault: tuple[int, str]) -> None:
    api.fault = fault

    with pytest.raises(Unavailable, match=fault[1]):
        EcrLogins().exchange(HOST, KEY)


def test_an_api_that_cannot_be_reached_is_asked_again_later(
    api: EcrApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:1")

    with pytest.raises(Unavailable, match="gives no login"):
        EcrLogins().exchange(HOST, KEY)

    assert not api.regions


@pytest.mark.parametrize("endpoint", ["no url", "http://[::1", "ftp://127.0.0.1/"])
def test_an_endpoint_that_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, api: EcrApi, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", endpoint)

    with pytest.raises(Unavailable, match="gives no login"):
        EcrLogins().exchange(HOST, KEY)

    assert not api.regions


@pytest.mark.parametrize("body", [b"{}", b'{"authorizationData":[{}]}', b"no json"])
def test_a_response_without_a_login_says_so(api: EcrApi, body: bytes) -> None:
    api.body = body

    with pytest.raises(Unavailable, match=r"gives no login"):
        EcrLogins().exchange(HOST, KEY)


@pytest.mark.parametrize("value", ["", "!!!", "QVdTOg==", "OnA=", "QVdT", "//8=", "QUFB" * 5000])
def test_a_token_that_is_no_user_and_password_says_so(value: str) -> None:
    with pytest.raises(Unavailable, match=r"gave no login"):
        ApiInMemory(value=value).logins().exchange(HOST, KEY)


# Without the extra


def test_without_the_extra_no_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    registry = parse_ecr_host(HOST)
    assert registry is not None

    with pytest.raises(NoExchange):
        call_api(registry, KEY)

    with pytest.raises(ImportError):
        importlib.import_module("botocore.session")


def test_without_the_extra_the_copy_says_what_is_missing(registry_on_ecr: RegistrySimulator) -> None:
    registry_on_ecr.login = BasicLogin({"AWS": "x"})

    with pytest.raises(Denied, match="install this program's extra `ecr`") as denied:
        fetch(open_client(EcrLogins(no_exchange)), IMAGE, KEY)

    assert denied.value.code == "no-ecr-exchange"
    assert not any("authorization" in each.headers for each in registry_on_ecr.requests)


def test_without_the_extra_the_operators_helper_is_asked(
    registry_on_ecr: RegistrySimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, file = tmp_path / "docker-credential-ecr-login", tmp_path / "auth.json"
    program.write_text("""#!/bin/sh\necho '{"Username":"AWS","Secret":"of-the-helper"}'\n""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file.write_text(json.dumps({"credHelpers": {HOST: "ecr-login"}}))
    registry_on_ecr.login = BasicLogin({"AWS": "of-the-helper"})

    assert fetch(open_client(EcrLogins(no_exchange), file), IMAGE, KEY) == SAMPLE.manifest.content


def test_without_the_extra_another_key_is_no_help(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {HOST: {"username": OTHER_KEY.username, "password": "x"}}}))
    keychain = Keychain(lambda _: RegistrySettings(), file, ecr=EcrLogins(no_exchange))

    with pytest.raises(Denied, match="extra `ecr`"):
        keychain.find(IMAGE, own=KEY)


def test_the_keys_that_are_remembered_are_bounded() -> None:
    memory = ApiInMemory()
    logins = memory.logins()
    for n in range(2500):
        logins.exchange(HOST, Credentials(f"AKIA{n:016}", Secret("s")))

    assert len(logins._exchanged) <= 1000
    assert memory.calls == 2500
