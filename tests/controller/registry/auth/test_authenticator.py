# ruff: noqa: N802 - names carry the numbers of known bugs
"""Logging in to registries: Basic, tokens, their scopes and lives, and where credentials never go."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, DockerCacheError, Invalid
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import MARKER, OpenRepository
from tests.simulators import images
from tests.simulators.registry import BasicLogin, OtherBytes, Refuse, RegistrySimulator, TokenLogin
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([images.layer(100, 1)])
LAYER = parse_digest(SAMPLE.layers[0].digest)
USERS = {"alice": "marker-password"}


@pytest.fixture(autouse=True)
def stored(registry: RegistrySimulator) -> None:
    for blob in SAMPLE.blobs:
        registry.store.add_blob("team/app", blob.content)
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)


def test_basic_credentials_are_sent_once_asked_for_and_then_always(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = BasicLogin(USERS)
    repository = open_repository(credentials=MARKER)

    repository.fetch_manifest("1")
    repository.fetch_manifest("1")

    assert [each.status for each in registry.requests] == [401, 200, 200]
    assert "authorization" not in registry.requests[0].headers


def test_without_credentials_basic_is_denied(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = BasicLogin(USERS)

    with pytest.raises(Denied, match="missing, or no access"):
        open_repository().fetch_manifest("1")

    assert len(registry.requests) == 1


def test_wrong_credentials_are_denied_without_being_shown(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = BasicLogin({"alice": "right"})

    with pytest.raises(Denied) as denied:
        open_repository(credentials=MARKER).fetch_manifest("1")

    assert "marker-password" not in f"{denied.value!s}{denied.value!r}"
    assert len(registry.requests) == 2


def test_an_open_registry_sees_no_credentials(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    open_repository(credentials=MARKER).fetch_manifest("1")

    assert "authorization" not in registry.requests[0].headers


def test_anonymous_clients_get_a_token_without_credentials(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin()

    open_repository().fetch_manifest("1")

    token = next(each for each in registry.requests if each.path.startswith("/token"))
    assert "authorization" not in token.headers
    assert "service=simulator&scope=repository%3Ateam%2Fapp%3Apull&client_id=" in token.path


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin()
    registry.fail("GET", "/token", OtherBytes('{"token":"secret-ü"}'.encode()), times=None)

    with pytest.raises(DockerCacheError) as refused:
        open_repository().fetch_manifest("1")

    assert "secret" not in str(refused.value)
    assert registry.count("GET", "/manifests/") == 1


def test_one_token_serves_many_requests(registry: RegistrySimulator, open_repository: OpenRepository) -> None:
    registry.login = TokenLogin(USERS, lifetime=None)
    repository = open_repository(credentials=MARKER)

    for _ in range(3):
        repository.fetch_manifest("1")

    assert registry.count("GET", "/token") == 1
    assert registry.count("GET", "/manifests/") == 4


def test_another_repository_is_asked_for_its_own_token_at_once(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin(USERS)
    registry.store.add_manifest(
        "team/other", "1", StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    )
    open_repository(credentials=MARKER).fetch_manifest("1")
    registry.forget_requests()

    open_repository("team/other:1", credentials=MARKER).fetch_manifest("1")

    assert [each.path.partition("?")[0] for each in registry.requests] == [
        "/token",
        "/v2/team/other/manifests/1",
    ]


def test_threads_share_one_fetch_of_a_token(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin(USERS)
    repository = open_repository(credentials=MARKER)
    together = threading.Barrier(6)

    def fetch(_: int) -> None:
        together.wait(60.0)
        repository.fetch_manifest("1")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(fetch, range(6)))

    assert registry.count("GET", "/token") == 1


def test_tokens_are_not_shared_between_identities(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin({**USERS, "bob": "b"}, anonymous=False)
    open_repository(credentials=MARKER).fetch_manifest("1")

    open_repository(credentials=Credentials("bob", Secret("b"))).fetch_manifest("1")
    with pytest.raises(Denied):
        open_repository().fetch_manifest("1")

    assert registry.count("GET", "/token") >= 3


def test_a_token_that_was_forgotten_is_replaced_once(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin(USERS)
    repository = open_repository(credentials=MARKER)
    repository.fetch_manifest("1")
    registry.tokens.clear()
    registry.forget_requests()

    repository.fetch_manifest("1")

    assert [each.status for each in registry.requests] == [401, 200, 200]


def test_B6_a_token_with_too_little_scope_is_replaced_once(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """Some servers give a token without push for a repository that they do not know yet."""
    registry.login = TokenLogin(USERS, pull_only_tokens=1)

    open_repository("new/app:1", credentials=MARKER).uploads.start(LAYER)

    assert registry.count("GET", "/token") == 2
    assert registry.count("POST") == 3


@pytest.mark.parametrize(("age", "fetched"), [(0, 1), (100, 1), (295, 3), (None, 1), (100_000, 1)])
@pytest.mark.parametrize("ahead", [0.0, 86400.0, -86400.0], ids=["right", "fast", "slow"])
def test_a_token_out_of_a_cache_is_used_for_the_rest_of_its_life(
    registry: RegistrySimulator, open_repository: OpenRepository, age: int | None, fetched: int, ahead: float
) -> None:
    """By the clock of the server, whichever that is; of a token that would be over, one of both times is wrong."""
    registry.login, registry.ahead = TokenLogin(USERS, age=age), ahead
    repository = open_repository(credentials=MARKER)

    for _ in range(3):
        repository.fetch_manifest("1")

    assert registry.count("GET", "/token") == fetched


def test_no_permission_is_denied_after_few_requests(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin()

    with pytest.raises(Denied):
        open_repository("new/app:1").uploads.start(LAYER)

    assert registry.count("POST") == 3


def test_B13_a_challenge_comes_for_writing_alone(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail(
        "POST",
        "uploads",
        Refuse(401, headers={"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="simulator"'}),
    )

    open_repository().uploads.start(LAYER)

    assert registry.count("POST") == 2


def test_bad_credentials_at_the_token_server_are_not_tried_again(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.login = TokenLogin({"alice": "other"})

    with pytest.raises(Denied) as denied:
        open_repository(credentials=MARKER).fetch_manifest("1")

    assert denied.value.code == "bad-credentials"
    assert registry.count("GET", "/token") == 1
    assert "marker-password" not in str(denied.value)


def test_a_token_server_on_another_host_sees_no_credentials_over_plain_http(
    registry: RegistrySimulator, other: RegistrySimulator, open_repository: OpenRepository
) -> None:
    port = other.address.partition(":")[2]
    registry.login = TokenLogin(USERS, realm=f"http://127.0.0.2:{port}/token")

    with pytest.raises(Denied) as denied:
        open_repository(credentials=MARKER).fetch_manifest("1")

    assert denied.value.code == "realm-refused"
    assert not other.requests


def test_a_realm_may_be_relative(registry: RegistrySimulator, open_repository: OpenRepository) -> None:
    registry.login = TokenLogin(realm="/token")

    assert SAMPLE.manifest.content == open_repository().fetch_manifest("1").raw


@pytest.mark.parametrize(
    "challenge",
    ['Bearer service="s"', "Negotiate", "", 'Bearer realm="ftp://x/t"', 'Bearer realm="http://x:0/"'],
)
def test_an_odd_challenge_is_an_error_that_names_the_image(
    registry: RegistrySimulator, open_repository: OpenRepository, challenge: str
) -> None:
    registry.fail("GET", "manifests", Refuse(401, headers={"WWW-Authenticate": challenge}), times=None)

    with pytest.raises((Denied, Invalid)):
        open_repository().fetch_manifest("1")


def test_the_credentials_of_the_operator_are_the_second_choice(registry: RegistrySimulator) -> None:
    registry.login = BasicLogin({"operator": "o", "alice": "marker-password"})
    settings = RegistrySettings(
        plain_http=True, any_address=True, credentials=Credentials("operator", Secret("o"))
    )
    client = Registries({registry.address: settings})
    image = parse_image_reference(f"{registry.address}/team/app:1")

    client.repository(image, None, Cancellation()).fetch_manifest("1")
    client.repository(image, MARKER, Cancellation()).fetch_manifest("1")
    client.close()

    sent = {each.headers["authorization"] for each in registry.requests if each.status == 200}
    assert len(sent) == 2


def test_D6_a_mount_may_do_without_a_token_for_two_repositories(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """Some token servers refuse tokens that name two, and their registries need none."""
    registry.login = TokenLogin(USERS)
    registry.fail("GET", "/token.*scope=.*scope=", Refuse(401), times=None)
    registry.fail("POST", "mount=", Refuse(201), times=None)
    repository = open_repository("new/app:1", credentials=MARKER)
    assert repository.find_blob(LAYER) is None  # the registry has asked for a login once

    for _ in range(3):
        assert repository.uploads.mount(LAYER, "team/app") is None

    assert registry.count("GET", "/token.*scope=.*scope=") == 1
    assert registry.count("POST", "mount=") == 3


def test_a_registry_that_asks_for_another_scope_each_time_gets_few_tokens(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    """Each would be kept for as long as it is valid, which the registry says as well."""
    repository = open_repository()
    for n in range(20):
        challenge = f'Bearer realm="{registry.url}/token",service="s",scope="repository:other/{n}:pull"'
        registry.fail("GET", "/manifests/", Refuse(401, headers={"WWW-Authenticate": challenge}), times=3)
    token = json.dumps({"token": "T" * 16000, "expires_in": 86400}).encode()
    registry.fail("GET", "/token", OtherBytes(token), times=None)

    for _ in range(20):
        with pytest.raises(Denied):
            repository.fetch_manifest("1")

    asked = {each.path.partition("scope=")[2] for each in registry.requests if each.path.startswith("/token")}
    assert 2 <= len(asked) <= 5
