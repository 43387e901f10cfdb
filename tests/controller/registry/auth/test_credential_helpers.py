# ruff: noqa: N802 - names carry the numbers of known bugs
"""Credential helpers are real programs here: what they are given, what is made of their answers, and when."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.registry.auth import credential_helpers
from controller.registry.auth.credential_helpers import CredentialHelpers
from reconcile.lrps import Credentials, Secret

pytestmark = pytest.mark.usefixtures("servers")

NOW = 1_700_000_000.0

Install = Callable[[str], Path]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put `docker-credential-test`, a shell script, on PATH; it logs its input and arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def installed(body: str) -> Path:
        program, log = tmp_path / "docker-credential-test", tmp_path / "log"
        program.write_text(f'#!/bin/sh\nread -r server || true\necho "$* $server" >> {log}\n{body}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return log

    return installed


def test_a_helper_is_run_with_get_and_the_server_on_its_input(install: Install) -> None:
    log = install("""echo '{"ServerURL":"r.example","Username":"u","Secret":"marker-password"}'""")

    found = CredentialHelpers().find("test", "r.example")

    assert found == Credentials("u", Secret("marker-password"))
    assert log.read_text() == "get r.example\n"


@pytest.mark.parametrize(
    "body",
    [
        'echo "credentials not found in native keychain"; exit 1',
        "exit 1",
        "echo nonsense",
        "echo '[]'",
        'echo \'{"Username":"u"}\'',
        'echo \'{"Username":"u","Secret":""}\'',
        "kill -9 $$",
    ],
)
def test_B18_a_helper_that_gives_no_login_means_anonymous(install: Install, body: str) -> None:
    install(body)

    assert CredentialHelpers().find("test", "r.example") is None


@pytest.mark.parametrize("name", ["absent", "../test", "", "a b", "x" * 100])
def test_a_helper_that_is_not_there_means_anonymous(install: Install, name: str) -> None:
    install("exit 0")

    assert CredentialHelpers().find(name, "r.example") is None


def test_a_helper_that_hangs_is_ended(install: Install) -> None:
    install("exec sleep 60")

    assert CredentialHelpers(time_limit=0.1).find("test", "r.example") is None


def test_B18_an_answer_is_kept_until_it_expires(install: Install, clock: Clock) -> None:
    """The login of a cloud registry lives twelve hours, and the daemon longer."""
    log = install("""echo '{"Username":"u","Secret":"s","ExpiresAt":"2023-11-14T23:13:20Z"}'""")
    helpers = CredentialHelpers(clock=clock)
    for _ in range(3):
        assert helpers.find("test", "r.example") is not None
    assert len(log.read_text().splitlines()) == 1

    clock.now += 3600.0
    install("exit 1")

    assert helpers.find("test", "r.example") is None
    assert len(log.read_text().splitlines()) == 2


def test_a_failure_is_not_repeated_at_once(install: Install, clock: Clock) -> None:
    log = install("exit 1")
    helpers = CredentialHelpers(clock=clock)

    for _ in range(3):
        helpers.find("test", "r.example")
    clock.now += 31.0
    helpers.find("test", "r.example")

    assert len(log.read_text().splitlines()) == 2


def test_a_refused_login_is_asked_for_again(install: Install, clock: Clock) -> None:
    install("""echo '{"Username":"u","Secret":"old"}'""")
    helpers = CredentialHelpers(clock=clock)
    old = helpers.find("test", "r.example")
    install("""echo '{"Username":"u","Secret":"new"}'""")

    assert helpers.find("test", "r.example") == old
    assert helpers.find("test", "r.example", refused=old) == Credentials("u", Secret("new"))


def test_each_server_has_its_own_answer(install: Install) -> None:
    install("""printf '{"Username":"%s","Secret":"s"}' "$server" """)
    helpers = CredentialHelpers()

    for server in ("a.example", "https://index.docker.io/v1/"):
        assert helpers.find("test", server) == Credentials(server, Secret("s"))


def test_the_answers_for_the_servers_that_were_used_last_are_kept(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody who stages an app names another host."""
    monkeypatch.setattr(credential_helpers, "MOST_SERVERS", 2)
    log = install("""echo '{"Username":"u","Secret":"s"}'""")
    helpers = CredentialHelpers()

    for server in ("a", "b", "a", "c", "a", "b"):
        assert helpers.find("test", server) is not None

    assert log.read_text().split() == ["get", "a", "get", "b", "get", "c", "get", "b"]
