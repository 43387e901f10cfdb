# ruff: noqa: N802 - names carry the numbers of known bugs
"""Whose login a request carries, in which order they are asked for, and what is done when one is refused."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from threading import Barrier

import pytest

from controller.registry.http.request import Request
from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.oci.manifests import Descriptor
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, Invalid, NotFound, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import MARKER, PATIENT
from tests.simulators import images
from tests.simulators.registry import BasicLogin, Raw, Redirect, Refuse, RegistrySimulator, TokenLogin
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([])
USERS = {name: f"{name}-marker-password" for name in ("alice", "settings", "file", "helper")}

Fetch = Callable[..., None]


class Operator:
    """What an operator has set up; opens clients accordingly."""

    def __init__(self, registry: RegistrySimulator, directory: Path, stack: ExitStack) -> None:
        self.registry, self.directory, self.stack = registry, directory, stack
        self.file = directory / "auth.json"
        self.program = directory / "docker-credential-test"
        self.write({})

    def write(self, auths: dict[str, str], **more: object) -> None:
        entries = {
            key: {"auth": base64.b64encode(f"{name}:{USERS.get(name, 'wrong')}".encode()).decode()}
            for key, name in auths.items()
        }
        new = self.directory / "new.json"
        new.write_text(json.dumps({"auths": entries, **more}))
        new.replace(self.file)

    def helper(self, body: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{body}\n")
        self.program.chmod(0o755)

    def client(self, own: Credentials | None = None) -> Registries:
        client = Registries(
            {
                self.registry.address: RegistrySettings(
                    plain_http=True, credentials=own, allowed_networks=(ip_network("127.0.0.0/8"),)
                )
            },
            timeouts=PATIENT,
            retries=Retries(attempts=1, first_wait=0.0, longest_wait=0.0, login_wait=0.0),
            policy=ClientPolicy(auth_file=self.file),
        )
        self.stack.callback(client.close)
        return client

    def fetch(self, client: Registries, credentials: Credentials | None = None) -> None:
        image = parse_image_reference(f"{self.registry.address}/team/app:1")
        client.repository(image, credentials, Cancellation()).fetch_manifest("1")

    def users(self) -> list[str]:
        """Tell who sent a login, in order, each once."""
        sent = [each.headers.get("authorization", "") for each in self.registry.requests]
        pairs = [base64.b64decode(each[6:]).decode() for each in sent if each.startswith("Basic ")]
        return list(dict.fromkeys(pair.partition(":")[0] for pair in pairs))


@pytest.fixture
def operator(
    registry: RegistrySimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Operator]:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    registry.store.add_manifest(
        "team/app", "1", StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    )
    registry.login = BasicLogin(USERS)
    with ExitStack() as stack:
        yield Operator(registry, tmp_path, stack)


def test_B15_logins_are_asked_for_in_order(operator: Operator) -> None:
    """The task's own, then the registry's settings, then a helper, then an entry of the file."""
    operator.helper(f"""echo '{{"Username":"helper","Secret":"{USERS["helper"]}"}}'""")
    own = Credentials("settings", Secret(USERS["settings"]))
    task = Credentials("alice", Secret(USERS["alice"]))
    host = operator.registry.address

    operator.write({host: "file"}, credHelpers={host: "test"})
    operator.fetch(operator.client(own), task)
    operator.fetch(operator.client(own))
    operator.fetch(operator.client())
    operator.write({host: "file"})
    operator.fetch(operator.client())

    assert operator.users() == ["alice", "settings", "helper", "file"]


@pytest.mark.parametrize("naming", ["credHelpers", "credsStore"])
def test_a_helper_goes_before_an_old_entry_of_the_file(operator: Operator, naming: str) -> None:
    """As with docker, which writes an entry once and asks the helper ever after."""
    host = operator.registry.address
    operator.helper(f"""echo '{{"Username":"helper","Secret":"{USERS["helper"]}"}}'""")
    operator.write(
        {host: "worn-out", f"{host}/team": "worn-out"},
        **{naming: "test" if naming == "credsStore" else {f"https://{host}/v2/": "test"}},
    )

    operator.fetch(operator.client())

    assert operator.users() == ["helper"]


def test_a_helper_that_failed_is_run_again_after_the_entry_was_refused(operator: Operator) -> None:
    """It may have failed by chance, and the entry may be an old one."""
    mark, answer = operator.directory / "mark", f"""'{{"Username":"helper","Secret":"{USERS["helper"]}"}}'"""
    operator.helper(f"test -e {mark} && echo {answer} && exit 0; touch {mark}; exit 1")
    operator.write({operator.registry.address: "worn-out"}, credsStore="test")

    operator.fetch(operator.client())

    assert operator.users() == ["worn-out", "helper"]


def test_an_entry_of_the_file_is_used_where_the_helper_has_none(operator: Operator) -> None:
    operator.helper("echo 'credentials not found in native keychain'; exit 1")
    operator.write({operator.registry.address: "file"}, credsStore="test")

    operator.fetch(operator.client())

    assert operator.users() == ["file"]


def test_nobody_is_asked_while_the_registry_asks_for_nobody(operator: Operator) -> None:
    operator.registry.login = None
    operator.write({}, credsStore="test")
    operator.helper(f"touch {operator.directory}/was-run; exit 1")

    operator.fetch(operator.client())

    assert operator.users() == []
    assert not (operator.directory / "was-run").exists()


def test_B18_a_broken_helper_does_not_stand_in_the_way_of_anonymous_requests(operator: Operator) -> None:
    operator.registry.login = TokenLogin()
    operator.write({}, credsStore="test")
    operator.helper("exit 3")

    operator.fetch(operator.client())


def test_B16_a_login_that_was_changed_in_the_file_is_used_after_a_refusal(operator: Operator) -> None:
    host = operator.registry.address
    operator.write({host: "file"})
    client = operator.client()
    operator.fetch(client)
    image = parse_image_reference(f"{host}/team/app:1")
    repository = client.repository(image, None, Cancellation())
    repository.fetch_manifest("1")

    operator.registry.login = BasicLogin({"alice": USERS["alice"]})
    operator.write({host: "alice"})
    repository.fetch_manifest("1")

    assert operator.users() == ["file", "alice"]


def test_a_renewed_login_is_used_by_an_urgent_request_too(operator: Operator) -> None:
    """It is sent in the place of a session that has looked up the operator's login."""
    host = operator.registry.address
    operator.write({host: "file"})
    client = operator.client()
    operator.fetch(client)
    repository = client.repository(parse_image_reference(f"{host}/team/app:1"), None, Cancellation())
    repository.fetch_manifest("1")
    operator.registry.login = BasicLogin({"alice": USERS["alice"]})
    operator.write({host: "alice"})

    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = Request("GET", repository.session.url("manifests/1"), accept)
    with repository.session.send_urgently(request, frozenset(), "team/app:1") as response:
        assert response.status == 200


def test_B18_a_renewed_login_is_used_by_all_threads_whose_requests_were_refused(operator: Operator) -> None:
    """The first thread asks for it; the others find that it was adopted since they sent their requests."""
    host = operator.registry.address
    operator.write({host: "file"})
    image = parse_image_reference(f"{host}/team/app:1")
    repository = operator.client().repository(image, None, Cancellation())
    operator.fetch(operator.client())
    repository.fetch_manifest("1")
    operator.write({host: "alice"})
    all_sent = Barrier(3)

    def has_newer_login(_: int) -> bool:
        repository.session.identity("")
        all_sent.wait(60.0)
        return repository.session._adopt_newer_login()

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(has_newer_login, range(3))) == [True, True, True]


def login_of(user: str, *, tokens: bool) -> BasicLogin | TokenLogin:
    """Let one user in, and nobody else."""
    users = {user: USERS[user]}
    return TokenLogin(users, anonymous=False) if tokens else BasicLogin(users)


@pytest.mark.parametrize("tokens", [False, True], ids=["basic", "tokens"])
def test_an_old_login_that_is_answered_with_403_is_looked_up_again(operator: Operator, tokens: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    host, registry = operator.registry.address, operator.registry
    operator.write({host: "file"})
    registry.login, registry.forbids = login_of("file", tokens=tokens), True
    repository = operator.client().repository(
        parse_image_reference(f"{host}/team/app:1"), None, Cancellation()
    )
    repository.fetch_manifest("1")
    layer = images.layer(1000)
    blob = Descriptor("x", parse_digest(layer.digest), 1000)
    session = repository.uploads.start(blob.digest)

    registry.login = login_of("alice", tokens=tokens)
    registry.tokens.clear()
    operator.write({host: "alice"})
    with pytest.raises(Unavailable, match="token-expired"):  # it is sent again from its start
        repository.uploads.upload(session, blob, [memoryview(layer.content)])
    repository.uploads.upload(repository.uploads.start(blob.digest), blob, [memoryview(layer.content)])
    repository.fetch_manifest("1")

    assert operator.users() == ["file", "alice"]
    assert registry.store.find_blob("team/app", layer.digest) == layer.content


def test_a_login_that_is_forbidden_and_has_not_changed_is_denied_at_once(operator: Operator) -> None:
    operator.registry.forbids = True
    operator.write({operator.registry.address: "worn-out"})

    with pytest.raises(Denied):
        operator.fetch(operator.client())

    assert [each.status for each in operator.registry.requests] == [401, 403]


def test_a_task_that_is_forbidden_gets_no_login_of_the_operator(operator: Operator) -> None:
    operator.registry.forbids = True
    operator.write({operator.registry.address: "file"})

    with pytest.raises(Denied):
        operator.fetch(operator.client(), MARKER)

    assert operator.users() == ["alice"]


# Registries that hide what they have from anonymous clients


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    "login", [BasicLogin(USERS), TokenLogin(USERS, anonymous=False)], ids=["basic", "tokens"]
)
def test_a_registry_that_hides_is_asked_for_its_challenge(
    operator: Operator, status: int, login: BasicLogin | TokenLogin
) -> None:
    registry = operator.registry
    registry.status_for_anonymous, registry.login = status, login
    client, alice = operator.client(), Credentials("alice", Secret(USERS["alice"]))

    operator.fetch(client, alice)
    operator.fetch(client, alice)

    assert registry.count("GET", "^/v2/$") == 1
    assert registry.count("GET", "/manifests/") == 3


def test_anonymous_clients_get_a_token_where_the_base_alone_names_the_token_server(
    operator: Operator,
) -> None:
    operator.registry.status_for_anonymous, operator.registry.login = 401, TokenLogin()

    operator.fetch(operator.client())

    assert operator.registry.count("GET", "^/v2/$") == 1


def test_a_login_of_the_operator_opens_what_is_hidden_as_well(operator: Operator) -> None:
    operator.registry.status_for_anonymous = 404
    operator.write({operator.registry.address: "file"})
    client = operator.client()
    image = parse_image_reference(f"{operator.registry.address}/team/app:1")
    repository = client.repository(image, None, Cancellation())

    assert repository.head_manifest("1").digest == parse_digest(SAMPLE.manifest.digest)
    assert operator.users() == ["file"]


def test_a_registry_that_hides_takes_uploads_with_a_login(operator: Operator) -> None:
    """As the private registry may be one."""
    registry = operator.registry
    registry.status_for_anonymous = 404
    own = Credentials("settings", Secret(USERS["settings"]))
    image = parse_image_reference(f"{registry.address}/new/app:1")
    repository = operator.client(own).repository(image, None, Cancellation())
    layer = images.layer(1000)
    blob = Descriptor("x", parse_digest(layer.digest), 1000)

    assert repository.find_blob(blob.digest) is None
    repository.uploads.upload(repository.uploads.start(blob.digest), blob, [memoryview(layer.content)])

    assert registry.store.find_blob("new/app", layer.digest) == layer.content
    assert registry.count("GET", "^/v2/$") == 1


def test_what_is_hidden_from_everybody_is_asked_for_twice(operator: Operator) -> None:
    operator.registry.status_for_anonymous = 404
    login = Credentials("alice", Secret(USERS["alice"]))
    image = parse_image_reference(f"{operator.registry.address}/team/other:1")

    with pytest.raises(NotFound):
        operator.client().repository(image, login, Cancellation()).fetch_manifest("1")

    assert [each.status for each in operator.registry.requests] == [404, 401, 404]


def test_nothing_is_asked_at_the_base_without_a_login_at_hand(operator: Operator) -> None:
    operator.registry.status_for_anonymous = 404

    with pytest.raises(NotFound):
        operator.fetch(operator.client())

    assert [each.path for each in operator.registry.requests] == ["/v2/team/app/manifests/1"]


def test_an_open_registry_is_asked_at_its_base_once(operator: Operator) -> None:
    operator.registry.login = None
    client, login = operator.client(), Credentials("alice", Secret(USERS["alice"]))
    image = parse_image_reference(f"{operator.registry.address}/team/other:1")

    for _ in range(3):
        with pytest.raises(NotFound):
            client.repository(image, login, Cancellation()).fetch_manifest("1")

    assert operator.registry.count("GET", "^/v2/$") == 1
    assert operator.users() == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n"],
)
def test_the_base_may_fail_without_changing_what_is_said(operator: Operator, answer: bytes) -> None:
    operator.registry.status_for_anonymous = 404
    operator.registry.fail("GET", "^/v2/$", Raw(answer), times=None)

    client = operator.client()
    for _ in range(3):
        with pytest.raises(NotFound):
            operator.fetch(client, Credentials("alice", Secret(USERS["alice"])))

    assert operator.users() == []
    assert operator.registry.count("GET", "^/v2/$") == 1


def test_a_challenge_on_another_host_is_none_of_the_registry(
    operator: Operator, other: RegistrySimulator
) -> None:
    operator.registry.status_for_anonymous = 404
    other.login = BasicLogin(USERS)
    operator.registry.fail("GET", "^/v2/$", Redirect(f"{other.url}/v2/"), times=None)

    with pytest.raises((NotFound, Invalid)):
        operator.fetch(operator.client(), Credentials("alice", Secret(USERS["alice"])))

    assert not any("authorization" in each.headers for each in (*operator.registry.requests, *other.requests))


# Tokens that a registry takes as they are


def with_registry_token(operator: Operator, token: str) -> None:
    entry = {"registrytoken": token, "identitytoken": "unused", "auth": "dTpw"}
    operator.write({})
    operator.file.write_text(json.dumps({"auths": {operator.registry.address: entry}}))


def test_a_registry_token_of_the_file_is_sent_as_it_is(operator: Operator) -> None:
    operator.registry.login = TokenLogin(anonymous=False, registry_token="marker-registry-token")
    with_registry_token(operator, "marker-registry-token")
    client = operator.client()

    operator.fetch(client)
    operator.fetch(client)

    assert operator.registry.count("GET", "/token") + operator.registry.count("POST", "/token") == 0
    assert [each.status for each in operator.registry.requests] == [401, 200, 200]


def test_a_registry_token_that_is_over_is_looked_up_again(operator: Operator) -> None:
    operator.registry.login = TokenLogin(anonymous=False, registry_token="first")
    with_registry_token(operator, "first")
    client = operator.client()
    image = parse_image_reference(f"{operator.registry.address}/team/app:1")
    repository = client.repository(image, None, Cancellation())
    repository.fetch_manifest("1")

    operator.registry.login = TokenLogin(anonymous=False, registry_token="second")
    with_registry_token(operator, "second")

    repository.fetch_manifest("1")


def test_a_wrong_registry_token_is_denied_without_being_shown(operator: Operator) -> None:
    operator.registry.login = TokenLogin(anonymous=False, registry_token="other")
    with_registry_token(operator, "marker-registry-token")

    with pytest.raises(Denied) as denied:
        operator.fetch(operator.client())

    assert "marker" not in f"{denied.value}{denied.value!r}"
    assert [each.status for each in operator.registry.requests] == [401, 401]


def test_a_registry_token_is_no_password(operator: Operator) -> None:
    with_registry_token(operator, "marker-registry-token")

    with pytest.raises(Denied):
        operator.fetch(operator.client())

    assert not any("authorization" in each.headers for each in operator.registry.requests)


@pytest.mark.parametrize("tokens", [False, True], ids=["basic", "tokens"])
def test_B18_a_login_of_a_helper_is_renewed_after_a_refusal(operator: Operator, tokens: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    if tokens:
        operator.registry.login = TokenLogin(USERS, anonymous=False)
    operator.write({}, credHelpers={operator.registry.address: "test"})
    operator.helper("""echo '{"Username":"helper","Secret":"worn-out"}'""")
    client = operator.client()
    with pytest.raises(Denied):
        operator.fetch(client)

    operator.helper(f"""echo '{{"Username":"helper","Secret":"{USERS["helper"]}"}}'""")

    operator.fetch(client)


def test_B16_a_login_that_was_changed_opens_uploads_as_well(operator: Operator) -> None:
    """They cannot be repeated, so their login is found out before."""
    host = operator.registry.address
    operator.registry.login = TokenLogin(USERS, anonymous=False)
    operator.write({host: "file"})
    image = parse_image_reference(f"{host}/team/app:1")
    repository = operator.client().repository(image, None, Cancellation())
    layer = images.layer(1000)
    blob = Descriptor("x", parse_digest(layer.digest), 1000)
    session = repository.uploads.start(blob.digest)

    operator.registry.login = TokenLogin({"alice": USERS["alice"]}, anonymous=False)
    operator.registry.tokens.clear()
    operator.write({host: "alice"})
    with pytest.raises(Unavailable, match="token-expired"):
        repository.uploads.upload(session, blob, [memoryview(layer.content)])
    repository.uploads.upload(repository.uploads.start(blob.digest), blob, [memoryview(layer.content)])

    assert operator.registry.store.find_blob("team/app", layer.digest) == layer.content


def test_wrong_credentials_of_a_task_stay_an_error(operator: Operator) -> None:
    """Whoever sends some asks for what they open: no anonymous request and no operator's login replaces them."""
    operator.write({operator.registry.address: "file"})

    with pytest.raises(Denied) as denied:
        operator.fetch(operator.client(), MARKER)

    assert operator.users() == ["alice"]
    assert "marker-password" not in f"{denied.value}{denied.value!r}"


# Token servers


def test_B10_an_identity_token_is_exchanged_by_post(operator: Operator) -> None:
    operator.registry.login = TokenLogin(anonymous=False, identity_token="marker-identity")
    operator.file.write_text(
        json.dumps({"auths": {operator.registry.address: {"identitytoken": "marker-identity"}}})
    )

    operator.fetch(operator.client())

    posts = [each for each in operator.registry.requests if each.method == "POST"]
    assert [each.path for each in posts] == ["/token"]
    assert operator.registry.count("GET", "/token") == 0
    assert "marker-identity" not in "".join(each.path for each in operator.registry.requests)


def test_B10_a_token_server_without_oauth_is_asked_by_get(operator: Operator) -> None:
    operator.registry.login = TokenLogin({"<token>": "marker-identity"}, anonymous=False)
    operator.file.write_text(
        json.dumps({"auths": {operator.registry.address: {"identitytoken": "marker-identity"}}})
    )

    operator.fetch(operator.client())

    assert (operator.registry.count("POST", "/token"), operator.registry.count("GET", "/token")) == (1, 1)


def test_B10_a_wrong_identity_token_is_denied_without_being_shown(operator: Operator) -> None:
    operator.registry.login = TokenLogin(anonymous=False, identity_token="other")
    identity = Credentials("<token>", Secret("marker-identity"))

    with pytest.raises(Denied) as denied:
        operator.fetch(operator.client(), identity)

    assert denied.value.code == "bad-credentials"
    assert "marker-identity" not in f"{denied.value}{denied.value!r}"
    assert operator.registry.count("POST", "/token") == 1


def test_B12_a_login_that_worked_is_tried_once_more_after_a_refusal(operator: Operator) -> None:
    operator.registry.login = TokenLogin(USERS, anonymous=False)
    client, login = operator.client(), Credentials("alice", Secret(USERS["alice"]))
    operator.fetch(client, login)
    operator.registry.tokens.clear()
    operator.registry.fail("GET", "/token", Refuse(401, b"incorrect username or password"))
    operator.registry.forget_requests()

    operator.fetch(client, login)

    assert [each.status for each in operator.registry.requests] == [401, 401, 200, 200]


def test_B12_a_login_that_never_worked_is_not_tried_again(operator: Operator) -> None:
    operator.registry.login = TokenLogin(USERS, anonymous=False)
    operator.registry.fail("GET", "/token", Refuse(401))

    with pytest.raises(Denied):
        operator.fetch(operator.client(), Credentials("alice", Secret(USERS["alice"])))

    assert operator.registry.count("GET", "/token") == 1


def test_a_login_that_stopped_working_is_tried_twice_in_all(operator: Operator) -> None:
    operator.registry.login = TokenLogin(USERS, anonymous=False)
    client, login = operator.client(), Credentials("alice", Secret(USERS["alice"]))
    operator.fetch(client, login)
    operator.registry.login = TokenLogin({"alice": "other"}, anonymous=False)
    operator.registry.tokens.clear()
    operator.registry.forget_requests()

    for _ in range(2):
        with pytest.raises(Denied):
            operator.fetch(client, login)

    assert operator.registry.count("GET", "/token") == 3
