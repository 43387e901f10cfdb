"""Covers which failure becomes which of ours, by the table of types; connections are in test_calls.py."""

import contextlib
import ssl

import httpx
import pytest

from controller.bbs.bbs_errors import error_from_exception, error_from_message, error_from_response
from protos.bbs.error_pb2 import Error
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from tests.simulators.certificates import Certificates

KINDS: dict[type[DockerCacheError], set[str]] = {
    NotFound: {"ResourceNotFound"},
    Conflict: {
        *{"ResourceExists", "ResourceConflict", "InvalidStateTransition", "RunningOnDifferentCell"},
        *{
            f"ActualLRPCannotBe{done}"
            for done in ("Claimed", "Started", "Crashed", "Failed", "Removed", "Unclaimed")
        },
    },
    Invalid: {
        *{"InvalidRecord", "InvalidRequest", "InvalidResponse", "InvalidProtobufMessage", "InvalidJSON"},
        "FailedToOpenEnvelope",
    },
    Unavailable: {
        *{"UnknownError", "RouterError", "GUIDGeneration", "Deserialize", "Deadlock", "Unrecoverable"},
        *{"LockCollision", "Timeout"},
    },
}


def test_every_type_has_its_kind() -> None:
    kinds: dict[type[DockerCacheError], set[str]] = {}
    for name in Error.Type.keys():  # noqa: SIM118  # an enum's wrapper is no mapping
        error = error_from_message(Error(type=name), call="x")
        assert error.code == name
        kinds.setdefault(type(error), set()).add(name)

    assert kinds == KINDS


def test_a_type_that_is_newer_than_we_are_passes() -> None:
    error = error_from_message(Error.FromString(b"\x08\x63\x12\x03a\xffb"), call="x")

    assert isinstance(error, Unavailable)
    assert str(error) == "bbs: Error99: x: a\ufffdb"


def test_foreign_text_is_one_short_line() -> None:
    error = error_from_message(Error(message="a\nb\t" + "c" * 1000), call="x")

    assert error.detail.startswith("x: a b ccc")
    assert len(error.detail) == len("x: ") + 256


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon", ""])
def test_a_time_that_is_no_number_of_seconds_is_none(value: str) -> None:
    error = error_from_response(httpx.Response(429, headers={"Retry-After": value}), call="x")

    assert isinstance(error, RateLimited)
    assert error.retry_after is None


def test_a_request_that_cannot_be_sent_is_invalid() -> None:
    assert isinstance(error_from_exception(httpx.LocalProtocolError("bad"), call="x"), Invalid)
    assert isinstance(error_from_exception(httpx.ReadError(""), call="x"), Unavailable)


@pytest.mark.parametrize("who", ["foreign", "expired", "nobody"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_refusal_of_our_certificate_needs_somebody_to_change_it(
    who: str, version: ssl.TLSVersion, certificates: Certificates, server_tls: ssl.SSLContext
) -> None:
    client = ssl.create_default_context(cafile=str(certificates.ca))
    client.maximum_version = version
    pairs = {"foreign": certificates.foreign_client, "expired": certificates.expired_client}
    if who in pairs:
        client.load_cert_chain(pairs[who].certificate, pairs[who].key)

    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(client, server_tls)

    broken = httpx.ReadError("")
    broken.__cause__ = caught.value
    error = error_from_exception(broken, call="x")
    assert isinstance(error, Denied)
    assert "alert" in error.detail


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Let two ends talk in memory until the client hears the last word."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            ours.do_handshake()
        with contextlib.suppress(ssl.SSLError):
            theirs.do_handshake()
    ours.read(1)
