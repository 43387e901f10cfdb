"""Single requests over real connections: TLS, the last look at the lease, and bounds."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.capi.client import open_capi
from controller.capi.settings import CapiSettings
from controller.capi.uaa import UaaClient
from controller.file_values import FileValue
from controller.transport import trusting_tls
from reconcile.droplets import DropletGuid
from reconcile.errors import Denied, LeaseLost, Unavailable
from reconcile.lrps import Secret
from reconcile.request_budget import BudgetSettings
from tests.controller.bbs.peers import Answer, Peer, Then, head, serve
from tests.controller.capi.api import CLIENT_ID, SCOPES, SECRET, Tenure, droplet, jwt
from tests.simulators.certificates import Certificates, make_certificates

pytestmark = pytest.mark.usefixtures("servers")

DROPLET = DropletGuid("d-1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server_tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.key)
    return context


@pytest.fixture
def tls(certificates: Certificates) -> FileValue[ssl.SSLContext]:
    return trusting_tls(certificates.ca)


def as_json(document: object, *, status: str = "200 OK", then: Then = Then.KEEP) -> Answer:
    body = json.dumps(document).encode()
    return Answer(
        head("Content-Type: application/json", f"Content-Length: {len(body)}", status=status) + body, then
    )


class Script:
    """Answers in their order; those to a look for UAA and for a token come first, and need the address."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers
        self.peer: Peer | None = None

    def __iter__(self) -> Iterator[Answer]:
        assert self.peer is not None
        address = self.peer.address
        links = {"cloud_controller_v3": {"href": f"{address}/v3"}, "uaa": {"href": address}}
        yield as_json({"links": links})
        yield as_json({"access_token": jwt(SCOPES), "expires_in": 600})
        yield from self._answers


def settings_for(peer: Peer) -> CapiSettings:
    secret = FileValue((), lambda: Secret(SECRET))
    return CapiSettings(peer.address, UaaClient(CLIENT_ID, secret), BudgetSettings(2000, 0.5), timeout=5.0)


async def test_all_goes_over_one_connection_with_tls(
    server_tls: ssl.SSLContext, tls: FileValue[ssl.SSLContext]
) -> None:
    there = as_json(droplet(guid="d-1"))
    script = Script(there, there)
    async with (
        serve(server_tls, script) as script.peer,
        open_capi(settings_for(script.peer), tls=tls) as capi,
    ):
        await capi.find_droplet(DROPLET)
        await capi.update_image(DROPLET, "team/web")

    assert [each.line for each in script.peer.requests] == [
        "GET / HTTP/1.1",
        "POST /oauth/token HTTP/1.1",
        "GET /v3/droplets/d-1 HTTP/1.1",
        "PATCH /v3/droplets/d-1 HTTP/1.1",
    ]
    assert {each.connection for each in script.peer.requests} == {1}
    assert script.peer.requests[0].headers.get("authorization") is None


async def test_a_server_that_is_not_trusted_gets_nothing(
    server_tls: ssl.SSLContext, other_authority: FileValue[ssl.SSLContext]
) -> None:
    script = Script()
    async with (
        serve(server_tls, script) as script.peer,
        open_capi(settings_for(script.peer), tls=other_authority) as capi,
    ):
        with pytest.raises(Denied, match="certificate"):
            await capi.find_droplet(DROPLET)

    assert script.peer.requests == []


@pytest.fixture
def other_authority(tmp_path: Path) -> FileValue[ssl.SSLContext]:
    return trusting_tls(make_certificates(tmp_path).ca)


async def test_the_lease_is_asked_at_the_last_moment(
    server_tls: ssl.SSLContext, tls: FileValue[ssl.SSLContext]
) -> None:
    """It may end while a connection is being made."""
    looks, tenure = 0, Tenure()

    def is_over() -> bool:
        nonlocal looks
        looks += 1
        return looks > 2  # the first two come before there is a connection

    tenure.is_over = is_over
    script = Script()
    async with (
        serve(server_tls, script) as script.peer,
        open_capi(settings_for(script.peer), tls=tls, check_active=tenure.check) as capi,
    ):
        with pytest.raises(LeaseLost):
            await capi.find_droplet(DROPLET)

    assert script.peer.connections == 1
    assert script.peer.requests == []


async def test_a_change_whose_answer_is_cut_off_may_have_happened(
    server_tls: ssl.SSLContext, tls: FileValue[ssl.SSLContext]
) -> None:
    whole = as_json(droplet(guid="d-1")).data
    for cut_off in (
        Answer(whole[:-5], Then.CLOSE),
        Answer(then=Then.RESET),
        Answer(b"HTTP/1.1 ", Then.CLOSE),
    ):
        script = Script(cut_off)
        async with (
            serve(server_tls, script) as script.peer,
            open_capi(settings_for(script.peer), tls=tls) as capi,
        ):
            with pytest.raises(Unavailable) as caught:
                await capi.update_image(DROPLET, "team/web")

        assert caught.value.may_have_happened
        assert [each.line.split()[0] for each in script.peer.requests] == ["GET", "POST", "PATCH"]
