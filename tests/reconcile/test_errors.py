"""Errors are sorted by what to do about them, and say what happened in one line."""

import pytest

from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable

KINDS = (Unavailable, RateLimited, NotFound, Conflict, Denied, Invalid)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_tells_system_code_and_detail(kind: type[DockerCacheError]) -> None:
    error = kind("registry", "MANIFEST_UNKNOWN", "cache.example/library/nginx:1.27")

    assert str(error) == "registry: MANIFEST_UNKNOWN: cache.example/library/nginx:1.27"
    assert isinstance(error, DockerCacheError)


def test_a_rate_limit_is_a_kind_of_unavailability_with_a_time() -> None:
    error = RateLimited("registry", "TOOMANYREQUESTS", "docker.io", retry_after=21600.0)

    assert isinstance(error, Unavailable)
    assert error.retry_after == 21600.0
    assert Unavailable("bbs", "Timeout", "tasks").retry_after is None


@pytest.mark.parametrize("kind", [NotFound, Conflict, Denied, Invalid])
def test_only_unavailability_invites_a_retry(kind: type[DockerCacheError]) -> None:
    assert not issubclass(kind, Unavailable)


def test_two_errors_are_never_equal() -> None:
    """Exceptions are told apart by identity, as those of the standard library are."""
    one, two = (NotFound("bbs", "ResourceNotFound", "p") for _ in range(2))

    assert one != two
    assert len({one, two}) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_an_error_is_made_of_it_is_one_printable_line_of_about_a_thousand_characters(
    kind: type[DockerCacheError],
) -> None:
    """A manifest may name an architecture of four million characters."""
    error = kind("registry", "c\x1b" * 1000, "no linux/" + "x\n\u202e" * 1_300_000)

    assert error.detail.startswith(r"no linux/x \u202ex \u202e")
    assert len(error.detail) == 1024
    assert len(error.code) <= 128
    assert str(error).isprintable()
    assert sum(map(len, error.args)) < 1200, "the long text is not held"


def test_a_text_that_no_encoding_knows_can_be_written_down() -> None:
    assert Invalid("registry", "c", "\ud800").detail.encode() == rb"\ud800"
