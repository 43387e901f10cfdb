"""A simulated UAA: clients with their authorities, and tokens that are real JWTs.

Source: uaa docs "Client Credentials Grant" and "Token Keys"; RFC 7519 and RFC 7518 (RS256).
"""

import base64
import functools
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.simulators.bbs.connections import Answer, Call

JSON = ("Content-Type", "application/json;charset=UTF-8")
LIFETIME = 43200

WRITE = "cloud_controller.write"
UPDATE_BUILD_STATE = "cloud_controller.update_build_state"
READ = "cloud_controller.read"
ADMIN = "cloud_controller.admin"
ADMIN_READ_ONLY = "cloud_controller.admin_read_only"
GLOBAL_AUDITOR = "cloud_controller.global_auditor"

SMALLEST_USEFUL = (WRITE, UPDATE_BUILD_STATE, GLOBAL_AUDITOR)
"""The authorities that the daemon's client needs, and no more."""


@dataclass(frozen=True, slots=True)
class UaaClient:
    """A client that may ask for tokens.

    Attributes:
        authorities: What its tokens have as their scopes.
        lifetime: Seconds that its tokens are valid.
    """

    client_id: str
    secret: str = field(repr=False)
    authorities: tuple[str, ...] = SMALLEST_USEFUL
    lifetime: int = LIFETIME


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says."""

    client_id: str
    scopes: frozenset[str]


class InvalidToken(Exception):
    """A token is not ours, not valid any longer, or not for Cloud Controller."""


@functools.lru_cache
def _key(number: int) -> rsa.RSAPrivateKey:
    del number
    return rsa.generate_private_key(65537, 2048)


class Uaa:
    """A token server.

    Attributes:
        url: Where it is reached, without the path that issuers have.
        clients: Client ID to client.
        now: Tells the time in seconds.
        given: How many tokens it has given.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.url = ""
        self.clients: dict[str, UaaClient] = {}
        self.now = now
        self.given = 0
        self._key_number = 0

    @property
    def issuer(self) -> str:
        """Who its tokens are from."""
        return f"{self.url}/oauth/token"

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with."""
        return f"key-{self._key_number}"

    def add_client(self, client: UaaClient) -> None:
        """Make a client known, or change it."""
        self.clients[client.client_id] = client

    def rotate_key(self) -> None:
        """Sign with another key from now on, so that all tokens given before are worth nothing."""
        self._key_number += 1

    def token_for(self, client: UaaClient, scopes: tuple[str, ...] | None = None) -> str:
        """Write a token."""
        now = int(self.now())
        granted = client.authorities if scopes is None else scopes
        claims = {
            "jti": uuid.uuid4().hex,
            "sub": client.client_id,
            "authorities": list(granted),
            "scope": list(granted),
            "client_id": client.client_id,
            "cid": client.client_id,
            "azp": client.client_id,
            "grant_type": "client_credentials",
            "rev_sig": "a1b2c3d4",
            "iat": now,
            "exp": now + client.lifetime,
            "iss": self.issuer,
            "zid": "uaa",
            "aud": sorted({client.client_id, *(scope.rpartition(".")[0] for scope in granted)}),
        }
        header = {"alg": "RS256", "jku": f"{self.url}/token_keys", "kid": self.key_id, "typ": "JWT"}
        signed = f"{_packed(header)}.{_packed(claims)}"
        signature = _key(self._key_number).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def read(self, token: str) -> Token:
        """Check a token as Cloud Controller does.

        Raises:
            InvalidToken: Its signature, issuer, audience or time is wrong.
        """
        signed, _, signature = token.rpartition(".")
        try:
            key = _key(self._key_number).public_key()
            key.verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_bytes(signed.partition(".")[2]))
        except (InvalidSignature, ValueError) as problem:
            raise InvalidToken from problem
        if claims["iss"] != self.issuer or "cloud_controller" not in claims["aud"]:
            raise InvalidToken
        if claims["exp"] <= self.now():
            raise InvalidToken
        return Token(claims["client_id"], frozenset(claims["scope"]))

    def answer(self, call: Call) -> Answer:
        """Answer a request."""
        if (call.method, call.path) == ("POST", "/oauth/token"):
            return self._give(call)
        if (call.method, call.path) in {("GET", "/"), ("GET", "/info"), ("GET", "/healthz")}:
            return _json(200, {"app": {"version": "77.0.0"}, "zone_name": "uaa"})
        if (call.method, call.path) == ("GET", "/token_keys"):
            return _json(200, {"keys": [self._public_key()]})
        return _json(404, {"error": "not_found", "error_description": "The requested resource was not found"})

    def _give(self, call: Call) -> Answer:
        form = _form(call)
        client_id, secret = _login(call.headers, form)
        client = self.clients.get(client_id)
        if client is None or client.secret != secret:
            return _refusal(
                401, "invalid_client" if "client_id" in form else "unauthorized", "Bad credentials"
            )
        if form.get("grant_type") != "client_credentials":
            return _refusal(401, "invalid_grant", f"Unsupported grant type: {form.get('grant_type')}")
        wanted = tuple(form["scope"].split()) if "scope" in form else client.authorities
        if not set(wanted) <= set(client.authorities):
            text = f"[{wanted}] is invalid. This client is not allowed any of the requested scopes"
            return _refusal(400, "invalid_scope", text)
        self.given += 1
        body = {
            "access_token": self.token_for(client, wanted),
            "token_type": "bearer",
            "expires_in": client.lifetime - 1,
            "scope": " ".join(wanted),
            "jti": uuid.uuid4().hex,
        }
        return _json(200, body, ("Cache-Control", "no-store"), ("Pragma", "no-cache"))

    def _public_key(self) -> dict[str, str]:
        numbers = _key(self._key_number).public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        modulus = _base64(numbers.n.to_bytes(size, "big"))
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.key_id,
            "n": modulus,
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }


def login_of(call: Call) -> str:
    """Name the client that asks for a token."""
    return _login(call.headers, _form(call))[0]


def bearer_of(headers: Mapping[str, str]) -> str:
    """Find the token in a request's headers; empty where there is none."""
    found = re.fullmatch(r"bearer +(\S+)", headers.get("authorization", ""), re.IGNORECASE)
    return found[1] if found else ""


def _form(call: Call) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(call.body.decode("latin-1")).items()}


def _login(headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[str, str]:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return "", ""
        # UAA takes them as they come, unless it is told that they are encoded as RFC 6749 wants.
        if headers.get("x-cf-encoded-credentials") == "true":
            return unquote_plus(name), unquote_plus(secret)
        return name, secret
    return form.get("client_id", ""), form.get("client_secret", "")


def _packed(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _json(status: int, body: Mapping[str, object], *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(body).encode(), (JSON, *headers))


def _refusal(status: int, error: str, description: str) -> Answer:
    challenge = ("WWW-Authenticate", f'Basic realm="UAA/client", error="{error}"')
    return _json(status, {"error": error, "error_description": description}, challenge)
