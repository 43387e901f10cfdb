"""Why a copy was not made, for people who do not run the platform."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.plain_causes import is_about, why

CASES = {
    "MANIFEST_UNKNOWN: manifest unknown": "its registry does not have it: check its name and tag",
    "timeout: registry.example: no byte for 60 s": (
        "a registry did not answer, or the connection to it broke"
    ),
    "gave-up: after 12 attempts, last TOOMANYREQUESTS: slow down": (
        "its registry limits how often images may be pulled"
    ),
    "gave-up: not within the 86400 s that a job may take, last disk-full: cache.example": (
        "the platform's registry cannot take it at the moment, which its operators see"
    ),
    "source-unreachable: TOOMANYREQUESTS: slow down": ("its registry limits how often images may be pulled"),
    "source-unreachable: 503: the registry is being moved": (
        "a registry did not answer, or the connection to it broke"
    ),
    "gave-up: after 12 attempts, last source-unreachable: certificate: self-signed": (
        "the platform does not trust the certificate of its registry"
    ),
    "gave-up": "a registry did not answer, or the connection to it broke",
    "": "something went wrong that the platform's operators can look up",
    "internal-error: see the log": "something went wrong that the platform's operators can look up",
}


@pytest.mark.parametrize(("failure", "expected"), CASES.items())
def test_a_failure_is_told_by_its_code(failure: str, expected: str) -> None:
    assert why(failure) == expected


@given(st.text(), st.sampled_from(["", "UNAUTHORIZED: ", "gave-up: after 3 attempts, last DENIED: "]))
def test_nothing_of_a_detail_is_ever_shown(detail: str, code: str) -> None:
    told = why(f"{code}MARKER-{detail}-MARKER")

    assert "MARKER" not in told


PRIVATE = "cache.example:8080"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (f"UNAUTHORIZED: {PRIVATE}/guid:latest (start upload): authentication required", True),
        (f"timeout: {PRIVATE}: no byte for 60 s", True),
        (f"gave-up: after 12 attempts, last DENIED: {PRIVATE}/guid:latest: no", True),
        (f"unknown-host: {PRIVATE}", True),
        ("UNAUTHORIZED: registry.example/team/web:1 (read manifest): authentication required", False),
        ("UNAUTHORIZED: cache.example:80801/team/web:1 (read manifest)", False),
        (f"source-unreachable: TOOMANYREQUESTS: registry.example: see {PRIVATE}/help", False),
        ("gave-up", False),
        ("", False),
    ],
)
def test_a_failure_is_of_the_registry_that_was_asked(failure: str, expected: object) -> None:
    assert is_about(failure, PRIVATE) is expected


@pytest.mark.parametrize(
    "code", ["UNAUTHORIZED", "MANIFEST_UNKNOWN", "certificate", "TOOMANYREQUESTS", "other"]
)
def test_a_failure_of_the_platform_s_registry_is_not_the_developer_s(code: str) -> None:
    told = why(f"{code}: {PRIVATE}/guid:latest: something", is_private=True)

    assert told == "the platform's registry cannot take it at the moment, which its operators see"


def test_an_image_that_cells_cannot_run_is_no_fault_of_a_registry() -> None:
    told = why(f"cannot-run-on-cells: {PRIVATE}/guid:latest: no such user", is_private=True)

    assert "cells cannot run it" in told
