"""Errors as statuses of gRPC, and back on the caller's side."""

from dataclasses import dataclass
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from grpc.aio import Metadata
from hypothesis import given
from hypothesis import strategies as st

from controller.admin.grpc_status import BadRequest, details_of, error_from_status, status_of
from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)

STATUSES: dict[type[DockerCacheError], grpc.StatusCode] = {
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.ABORTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    RateLimited: grpc.StatusCode.UNAVAILABLE,
    Denied: grpc.StatusCode.FAILED_PRECONDITION,
    Invalid: grpc.StatusCode.FAILED_PRECONDITION,
    DockerCacheError: grpc.StatusCode.INTERNAL,
}

words = st.from_regex(r"[a-zA-Z_-]{1,12}", fullmatch=True)


@dataclass
class Answer:
    """A failed call as gRPC tells it."""

    status: grpc.StatusCode
    details: str | None

    def read(self) -> DockerCacheError:
        failed = grpc.aio.AioRpcError(self.status, Metadata(), Metadata(), details=self.details)
        return error_from_status(failed, attempt="Status at 127.0.0.1:1")


@pytest.mark.parametrize(("kind", "status"), STATUSES.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_what_a_caller_is_to_do_about_an_error_is_its_status(
    kind: type[DockerCacheError], status: grpc.StatusCode
) -> None:
    assert status_of(kind("store", "code", "detail")) is status


def test_a_call_that_nobody_could_answer_is_told_from_one_that_fails_by_the_state_of_the_world() -> None:
    assert status_of(BadRequest("code", "detail")) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", [NotFound, Conflict, Unavailable, Invalid])
@given(system=words, code=words, detail=st.text())
def test_an_error_comes_back_as_it_was(
    kind: type[DockerCacheError], system: str, code: str, detail: str
) -> None:
    error = kind(system, code, detail)

    read = Answer(status_of(error), str(error)).read()

    assert (type(read), str(read)) == (kind, str(error))
    assert (read.system, read.code, read.detail) == (system, code, error.detail)
    assert error.detail == detail or not detail.isprintable()


@pytest.mark.parametrize("error", [BadRequest("c", "d"), Denied("admin", "c", "d")])
def test_what_nobody_retries_comes_back_as_invalid(error: DockerCacheError) -> None:
    read = Answer(status_of(error), str(error)).read()

    assert (type(read), str(read)) == (Invalid, str(error))


def test_a_rate_limit_comes_back_as_what_is_to_be_tried_later() -> None:
    error = RateLimited("registry", "TOOMANYREQUESTS", "d", retry_after=900.0)

    assert isinstance(Answer(status_of(error), str(error)).read(), Unavailable)


def test_a_bug_in_the_daemon_comes_back_as_neither() -> None:
    read = Answer(grpc.StatusCode.INTERNAL, "admin: internal-error: see the daemon's log").read()

    assert type(read) is DockerCacheError
    assert read.code == "internal-error"


REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
    "Failed to connect to remote host: connect: Connection refused (111)"
)
NO_HANDSHAKE = (
    "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed: "
    "SSL_ERROR_SSL: error:1000007d: CERTIFICATE_VERIFY_FAILED"
)

CLOSED_IN_HANDSHAKE = (
    "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: "
    "Handshake read failed (Socket closed)"
)


@pytest.mark.parametrize(
    ("details", "advice"),
    [
        (REFUSED, "is the daemon running?"),
        (CLOSED_IN_HANDSHAKE, "closed during the TLS handshake: is this a proxy"),
        (CLOSED_IN_HANDSHAKE.replace("Socket closed", "Connection reset by peer"), "is this a proxy"),
        (NO_HANDSHAKE, "admin_* certificate files"),
        ("something odd", "something odd"),
    ],
)
def test_a_daemon_that_is_not_reached_says_what_to_look_at(details: str, advice: str) -> None:
    read = Answer(grpc.StatusCode.UNAVAILABLE, details).read()

    assert isinstance(read, Unavailable)
    assert (read.system, read.code) == ("admin", "no-answer")
    assert advice in read.detail
    assert "Status at 127.0.0.1:1" in read.detail


@pytest.mark.parametrize("details", ["Deadline Exceeded", None, ""])
def test_what_grpc_itself_says_names_what_was_attempted(details: str | None) -> None:
    read = Answer(grpc.StatusCode.DEADLINE_EXCEEDED, details).read()

    assert (read.system, read.code) == ("admin", "deadline-exceeded")
    assert read.detail.startswith("Status at 127.0.0.1:1: ")


@given(status=st.sampled_from(sorted(grpc.StatusCode, key=str)), details=st.none() | st.text())
def test_whatever_a_call_ends_with_becomes_an_error_of_ours(
    status: grpc.StatusCode, details: str | None
) -> None:
    assert isinstance(Answer(status, details).read(), DockerCacheError)


@given(character=st.characters(exclude_categories=["Cs"]))
def test_details_fit_into_the_header_that_they_travel_in(character: str) -> None:
    details = details_of(Invalid("registry", character * 200, f"why: {character * 5000}"))

    assert details.startswith("registry: ")
    assert len(quote(details)) < 8000
