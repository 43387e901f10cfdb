"""Reads the operator's login file, which has Docker's format, and finds the entry for an image in it.

Source: docker/cli config.json (auths, credHelpers, credsStore; a registrytoken takes precedence over an
identitytoken, and that over a password); containers-auth.json(5) for keys with a path: the longest key
that matches counts.
"""

import base64
import binascii
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconcile.errors import ErrorCode, Invalid
from reconcile.hosts import DOCKER_HUB, canonical_host
from reconcile.lrps import Credentials, Secret

IDENTITY_TOKEN = "<token>"  # noqa: S105 - a user name
"""User name of credentials whose password is an identity token."""

REGISTRY_TOKEN = "<registrytoken>"  # noqa: S105 - a user name
"""User name of credentials whose password is a token that the registry takes as it is."""

MAX_FILE = 4 * 1024 * 1024
_HUB_SERVER = "https://index.docker.io/v1/"
_SENDABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Logins:
    """The contents of the login file at one moment.

    Attributes:
        entries: Normalized key (a host, or a host with a path) to credentials.
        helpers: Normalized host to the name of a credential helper.
        store: Name of the credential helper for all other hosts; empty when there is none.
    """

    entries: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def find(self, domain: str, path: str) -> Credentials | None:
        """Return the entry with the longest key that matches an image; None when no key matches."""
        return next((self.entries[key] for key in _candidates(domain, path) if key in self.entries), None)

    def find_helper(self, domain: str) -> str:
        """Return the name of the credential helper for a host; empty when there is none."""
        return self.helpers.get(normalize_key(domain), self.store)


def normalize_key(text: str) -> str:
    """Strip scheme, API version and slashes from a key, and write its host in its one form."""
    text = text.strip()
    if "://" in text:
        text = text.partition("://")[2]
    host, _, path = text.strip("/").partition("/")
    host = canonical_host(host)
    path = path.strip("/")
    return host if path in {"", "v1", "v2"} else f"{host}/{path}"


def server_name(domain: str) -> str:
    """Return the name by which credential helpers know a registry."""
    return _HUB_SERVER if normalize_key(domain) == DOCKER_HUB else domain


def _candidates(domain: str, path: str) -> Iterator[str]:
    host, parts = normalize_key(domain), path.split("/")
    for count in range(len(parts), 0, -1):
        yield f"{host}/{'/'.join(parts[:count])}"
    yield host


def parse_logins(raw: bytes) -> Logins:
    """Parse the bytes of a login file; entries without credentials are omitted.

    Raises:
        Invalid: `bad-auth-file`; the error does not quote the file, which holds secrets.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise Invalid("config", ErrorCode.BAD_AUTH_FILE, "the login file is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid("config", ErrorCode.BAD_AUTH_FILE, "the login file is not a JSON object")
    auths, helpers, store = (document.get(name) for name in ("auths", "credHelpers", "credsStore"))
    entries: dict[str, Credentials] = {}
    for key, value in auths.items() if isinstance(auths, dict) else ():
        credentials = _credentials(value)
        if credentials is not None and (key == normalize_key(key) or normalize_key(key) not in entries):
            entries[normalize_key(key)] = credentials
    helper_names = helpers.items() if isinstance(helpers, dict) else ()
    return Logins(
        entries,
        {normalize_key(host): name for host, name in helper_names if isinstance(name, str)},
        store if isinstance(store, str) else "",
    )


def _credentials(entry: object) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    names = ("auth", "username", "password", "identitytoken", "registrytoken")
    auth, username, password, identity, token = (
        value if isinstance(value, str) else "" for value in map(entry.get, names)
    )
    if _SENDABLE.fullmatch(token):
        return Credentials(REGISTRY_TOKEN, Secret(token))
    if identity:
        return Credentials(IDENTITY_TOKEN, Secret(identity))
    if auth:
        username, password = _decoded(auth)
    return Credentials(username, Secret(password)) if username else None


def _decoded(auth: str) -> tuple[str, str]:
    text = "".join(auth.split()).rstrip("=")
    try:
        pair = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    username, colon, password = pair.partition(":")
    return (username, password.rstrip("\x00")) if colon else ("", "")


class AuthFile:
    """The login file; it is read again whenever it has changed.

    While it cannot be read, for example because it is being written, its last valid contents are used.

    Raises:
        Invalid: `bad-auth-file` when it cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stat_when_read: tuple[int, int, int] | None = None
        self._logins = self._read()

    def logins(self) -> Logins:
        """Return the current contents of the file."""
        with self._lock:
            try:
                if self._stat() != self._stat_when_read:
                    self._logins = self._read()
            except Invalid:
                pass
            return self._logins

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Logins:
        stat = self._stat()
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(raw) > MAX_FILE:
            raise Invalid("config", ErrorCode.BAD_AUTH_FILE, f"{self._path} is larger than 4 MiB")
        logins = parse_logins(raw)
        self._stat_when_read = stat
        return logins

    def _unreadable(self, error: OSError) -> Invalid:
        return Invalid("config", ErrorCode.BAD_AUTH_FILE, f"cannot read {self._path}: {error.strerror}")
