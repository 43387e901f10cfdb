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

from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.oci.manifests import Descriptor
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation
from reconcile.errors import Denied, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import MARKER, PATIENT
from tests.simulators import images
from tests.simulators.registry import BasicLogin, Refuse, RegistrySimulator, TokenLogin
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
    """The task's own, then the registry's settings, then the file, then a helper."""
    operator.helper(f"""echo '{{"Username":"helper","Secret":"{USERS["helper"]}"}}'""")
    own = Credentials("settings", Secret(USERS["settings"]))
    task = Credentials("alice", Secret(USERS["alice"]))
    host = operator.registry.address

    operator.write({host: "file"}, credHelpers={host: "test"})
    operator.fetch(operator.client(own), task)
    operator.fetch(operator.client(own))
    operator.fetch(operator.client())
    operator.write({}, credHelpers={host: "test"})
    operator.fetch(operator.client())

    assert operator.users() == ["alice", "settings", "file", "helper"]


def test_nobody_is_asked_while_the_registry_asks_for_nobody(operator: Operator) -> None:
    operator.registry.login = None
    operator.write({}, credsStore="test")
    operator.helper(f"touch {operator.directory}/was-run; exit 1")

    operator.fetch(operator.client())

    assert operator.users() == []
    assert not (operator.directory / "was-run").exists()


def test_B18_a_broken_helper_does_not_stand_in_the_way_of_strangers(operator: Operator) -> None:
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
    session = repository.start_upload(blob.digest)

    operator.registry.login = TokenLogin({"alice": USERS["alice"]}, anonymous=False)
    operator.registry.tokens.clear()
    operator.write({host: "alice"})
    with pytest.raises(Unavailable, match="token-expired"):
        repository.upload_blob(session, blob, [memoryview(layer.content)])
    repository.upload_blob(repository.start_upload(blob.digest), blob, [memoryview(layer.content)])

    assert operator.registry.store.find_blob("team/app", layer.digest) == layer.content


def test_wrong_credentials_of_a_task_stay_an_error(operator: Operator) -> None:
    """Whoever sends some asks for what they open; neither strangers' nor the operator's take their place."""
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
