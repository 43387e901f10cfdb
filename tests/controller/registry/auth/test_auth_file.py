# ruff: noqa: N802 - names carry the numbers of known bugs
"""The operator's login file: which entry an image finds, and what is made of odd files."""

import base64
import json
from pathlib import Path

import pytest

from controller.registry.auth.auth_file import IDENTITY_TOKEN, REGISTRY_TOKEN, AuthFile, parse_logins
from reconcile.errors import Invalid

MARKER = "marker:pass:word"


def auth(username: str, password: str = MARKER) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def logins(auths: dict[str, object], **more: object) -> bytes:
    return json.dumps({"auths": auths, **more}).encode()


def user(raw: bytes, domain: str, path: str = "team/app") -> str | None:
    found = parse_logins(raw).find(domain, path)
    return None if found is None else found.username


@pytest.mark.parametrize(
    ("key", "domain", "path"),
    [
        ("ghcr.io", "ghcr.io", "a/b"),
        ("https://ghcr.io", "ghcr.io", "a/b"),
        ("https://ghcr.io/v2/", "ghcr.io", "a/b"),
        ("https://quay.io", "quay.io", "a/b"),
        ("GHCR.io/", "ghcr.io", "a/b"),
        ("r.example:5000", "r.example:5000", "a"),
        ("https://r.example:5000/v1/", "r.example:5000", "a"),
        ("r.example/team", "r.example", "team/app"),
        ("r.example/team/app", "r.example", "team/app"),
        ("https://index.docker.io/v1/", "docker.io", "library/busybox"),
        ("docker.io", "docker.io", "library/busybox"),
        ("registry-1.docker.io", "docker.io", "library/busybox"),
        ("docker.io/library", "docker.io", "library/busybox"),
        ("r.example:443", "r.example", "a"),
        ("https://r.example:0443/v2/", "r.example", "a"),
        ("r.example", "r.example:443", "a"),
        ("R.example.", "r.example", "a"),
        ("r.example:443/team", "r.example", "team/app"),
        ("r.example:05000", "r.example:5000", "a"),
        ("registry.hub.docker.com:443", "docker.io", "library/busybox"),
        ("https://index.docker.io:443/v1/", "registry-1.docker.io", "library/busybox"),
    ],
)
def test_B9_a_key_matches_whatever_noise_it_carries(key: str, domain: str, path: str) -> None:
    assert user(logins({key: auth("u")}), domain, path) == "u"


@pytest.mark.parametrize(
    ("key", "domain", "path"),
    [
        ("r.example", "r.example:5000", "a"),
        ("r.example:5000", "r.example", "a"),
        ("r.example/team/app", "r.example", "team/apple"),
        ("r.example/team", "r.example", "teams/app"),
        ("example", "r.example", "a"),
    ],
)
def test_a_key_of_something_else_does_not_match(key: str, domain: str, path: str) -> None:
    assert user(logins({key: auth("u")}), domain, path) is None


def test_the_longest_path_wins() -> None:
    raw = logins(
        {"r.example": auth("host"), "r.example/team": auth("team"), "r.example/team/app": auth("app")}
    )

    assert user(raw, "r.example", "team/app") == "app"
    assert user(raw, "r.example", "team/other/deep") == "team"
    assert user(raw, "r.example", "other") == "host"


def test_a_plain_key_goes_before_a_noisy_one() -> None:
    raw = logins({"https://r.example/v1/": auth("noisy"), "r.example": auth("plain")})

    assert user(raw, "r.example") == "plain"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("entry", "username", "password"),
    [
        (auth("alice"), "alice", MARKER),
        ({"auth": encoded("a:b").rstrip("=")}, "a", "b"),
        (
            {"auth": encoded("alice:" + "x" * 80)[:76] + "\n" + encoded("alice:" + "x" * 80)[76:]},
            "alice",
            "x" * 80,
        ),
        ({"auth": encoded("a:b") + "\n"}, "a", "b"),
        ({"auth": encoded("a:b\x00")}, "a", "b"),
        ({"auth": encoded("ä:ö")}, "ä", "ö"),
        ({"username": "u", "password": "p"}, "u", "p"),
        ({"identitytoken": "T"}, IDENTITY_TOKEN, "T"),
        ({"auth": encoded("0000:"), "identitytoken": "T"}, IDENTITY_TOKEN, "T"),
        ({"registrytoken": "R"}, REGISTRY_TOKEN, "R"),
        ({"auth": encoded("a:b"), "identitytoken": "T", "registrytoken": "R"}, REGISTRY_TOKEN, "R"),
        ({"auth": encoded("a:b"), "registrytoken": "not sendable\r\n"}, "a", "b"),
    ],
)
def test_an_entry_is_read_in_each_of_its_forms(entry: object, username: str, password: str) -> None:
    found = parse_logins(logins({"r.example": entry})).find("r.example", "a")

    assert found is not None
    assert (username, password) == (found.username, found.password.value)


@pytest.mark.parametrize(
    "entry", [{}, {"auth": ""}, {"auth": "!"}, {"auth": encoded("no colon")}, {"auth": 5}, None, []]
)
def test_an_entry_that_holds_nothing_leaves_it_to_the_helper(entry: object) -> None:
    found = parse_logins(
        logins({"r.example": entry}, credsStore="desktop", credHelpers={"https://r.example/": "own"})
    )

    assert found.find("r.example", "a") is None
    assert found.find_helper("r.example") == "own"
    assert found.find_helper("other.example") == "desktop"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"[" * 5000, b"\xff"])
def test_a_file_that_cannot_be_read_is_refused_without_its_text(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(raw)

    with pytest.raises(Invalid) as refused:
        AuthFile(file)

    assert refused.value.code == "bad-auth-file"


@pytest.mark.parametrize("auths", [None, [], {"r.example": auth("u")}])
def test_no_representation_shows_a_password(tmp_path: Path, auths: object) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": auths}))

    shown = f"{AuthFile(file).logins()!r}{AuthFile(file)!r}"

    assert MARKER not in shown
    assert auth("u")["auth"] not in shown


def test_B16_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(logins({"r.example": auth("old")}))
    opened = AuthFile(file)

    new = tmp_path / "new"
    new.write_bytes(logins({"r.example": auth("new")}))
    new.replace(file)

    found = opened.logins().find("r.example", "a")
    assert found is not None
    assert found.username == "new"


def test_what_it_held_counts_while_it_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(logins({"r.example": auth("old")}))
    opened = AuthFile(file)

    file.write_bytes(b'{"auths": {')
    half_written = opened.logins().find("r.example", "a")
    file.unlink()
    gone = opened.logins().find("r.example", "a")

    assert half_written is not None
    assert half_written == gone
