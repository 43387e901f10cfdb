"""Exchanges AWS access keys for logins of Amazon ECR, as cells do before they pull.

An app on ECR is staged with the ID of an access key as its user name and the secret as its password. The
registry takes neither: it takes a password that the API of ECR gives for twelve hours. The API is asked by
botocore, which is an extra of this program; without it `NoExchange` is raised.

Source: the host's grammar and the exchange are those of diego-release, ecrhelper; Amazon ECR API reference,
GetAuthorizationToken; IAM user guide, "IAM identifiers" (access key IDs begin with AKIA or ASIA).
"""

import base64
import binascii
import contextlib
import importlib
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from reconcile.errors import Denied, DockerCacheError, ErrorCode, Unavailable
from reconcile.foreign_text import clean
from reconcile.lrps import Credentials, Secret

_HOST = re.compile(
    r"[0-9a-z][0-9a-z_-]{0,62}\.dkr\.ecr(-fips)?\.([a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2})\.amazonaws\.com(?:\.cn)?"
)
_ACCESS_KEY = re.compile(r"A[KS]IA[A-Z0-9]{12,124}")
_LONGEST_TOKEN = 16 * 1024
_LONGEST_LIFETIME = 11 * 3600.0  # seconds; the API gives twelve hours
_FAILURE_LIFETIME = 30.0  # seconds after a failure before the API is asked again for the same key
_MARGIN = 1800.0  # seconds before its expiry at which a login is no longer used
_MOST_REMEMBERED = 1000
_CONNECT_TIMEOUT, _READ_TIMEOUT, _ATTEMPTS = 3.0, 5.0, 2


class NoExchange(Exception):
    """This installation cannot ask the API, because the extra `ecr` is not installed."""


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """A private registry of ECR.

    Attributes:
        region: Such as "eu-central-1".
        is_fips: Whether only the FIPS endpoints of AWS are used for it.
    """

    host: str
    region: str
    is_fips: bool


@dataclass(frozen=True, slots=True)
class AuthorizationToken:
    """What the API gives: a user name and a password in base64, and when they expire."""

    value: str = field(repr=False)
    expires_at: datetime


_NOT_ASKED = Unavailable("registry", "ecr-api", "the API of ECR has not been asked yet")

ApiCall = Callable[[EcrRegistry, Credentials], AuthorizationToken]


def parse_ecr_host(domain: str) -> EcrRegistry | None:
    """Parse the host part of an image reference; None when it is no private registry of ECR."""
    matched = _HOST.fullmatch(domain.lower())
    return None if matched is None else EcrRegistry(domain.lower(), matched[2], matched[1] is not None)


def is_access_key(domain: str, credentials: Credentials) -> bool:
    """Whether a login for a host is an AWS access key that has to be exchanged."""
    return _ACCESS_KEY.fullmatch(credentials.username) is not None and parse_ecr_host(domain) is not None


@dataclass(slots=True)
class _Exchanged:
    """What one access key was exchanged for, and the lock under which a single thread asks."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    result: Credentials | DockerCacheError = field(default=_NOT_ASKED, repr=False)
    use_until: float = -math.inf


class EcrLogins:
    """The logins that access keys were exchanged for, cached while valid; safe to use from many threads.

    Args:
        call: Asks the API.
        clock: UTC seconds since 1970.
    """

    def __init__(self, call: ApiCall | None = None, clock: Callable[[], float] = time.time) -> None:
        self._call, self._clock = call or call_api, clock
        self._lock = threading.Lock()
        self._exchanged: dict[tuple[EcrRegistry, Credentials], _Exchanged] = {}

    def exchange(
        self, domain: str, access_key: Credentials, *, refused: Credentials | None = None
    ) -> Credentials:
        """Exchange an access key for a login.

        Args:
            domain: Host of a registry for which `is_access_key` is true.
            access_key: Its ID as the user name, its secret as the password.
            refused: A login that the registry refused; if it is the cached one, the API is asked again.

        Raises:
            NoExchange: The extra is not installed.
            Denied: `bad-credentials` when AWS refuses the key.
            Unavailable: The API gives no usable response.
        """
        registry = parse_ecr_host(domain)
        if registry is None:
            raise ValueError(domain)
        exchanged = self._slot(registry, access_key)
        with exchanged.lock:
            if self._clock() >= exchanged.use_until or exchanged.result == refused:
                exchanged.result, exchanged.use_until = self._ask(registry, access_key)
            result = exchanged.result
        if isinstance(result, DockerCacheError):
            raise type(result)(result.system, result.code, result.detail) from result
        return result

    def _ask(
        self, registry: EcrRegistry, access_key: Credentials
    ) -> tuple[Credentials | DockerCacheError, float]:
        """Ask the API, and say until when its answer is used; also a failure, for those who wait for it."""
        try:
            token = self._call(registry, access_key)
            login = _login(registry, token)
        except DockerCacheError as error:
            return error, self._clock() + _FAILURE_LIFETIME
        left = token.expires_at.timestamp() - self._clock() - _MARGIN
        return login, self._clock() + min(max(left, 0.0), _LONGEST_LIFETIME)

    def _slot(self, registry: EcrRegistry, access_key: Credentials) -> _Exchanged:
        with self._lock:
            if len(self._exchanged) >= _MOST_REMEMBERED:
                now = self._clock()
                kept = {key: each for key, each in self._exchanged.items() if each.use_until > now}
                self._exchanged = kept if len(kept) < _MOST_REMEMBERED else {}
            return self._exchanged.setdefault((registry, access_key), _Exchanged())


def _login(registry: EcrRegistry, token: AuthorizationToken) -> Credentials:
    try:
        pair = base64.b64decode(token.value[: _LONGEST_TOKEN + 1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        pair = ""
    username, _, password = pair.partition(":")
    if len(token.value) > _LONGEST_TOKEN or not username or not password:
        raise Unavailable("registry", "bad-token-response", f"{registry.host}: the API of ECR gave no login")
    return Credentials(username, Secret(password))


def call_api(registry: EcrRegistry, access_key: Credentials) -> AuthorizationToken:
    """Ask the API of ECR in the registry's region, which blocks.

    Botocore's own settings count, such as AWS_ENDPOINT_URL_ECR and AWS_CA_BUNDLE; proxies of the environment
    and other logins that it might find do not.

    Raises:
        NoExchange: botocore is not installed.
        Denied: `bad-credentials` when AWS refuses the key.
        Unavailable: There is no usable response.
    """
    try:
        session, config, exceptions = (
            importlib.import_module(f"botocore.{name}") for name in ("session", "config", "exceptions")
        )
    except ImportError as error:
        raise NoExchange from error
    options = config.Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"total_max_attempts": _ATTEMPTS},
        proxies={},
        use_fips_endpoint=registry.is_fips,
    )
    secret = access_key.password.value
    try:
        client = session.get_session().create_client(
            "ecr",
            registry.region,
            aws_access_key_id=access_key.username,
            aws_secret_access_key=secret,
            config=options,
        )
        with contextlib.closing(client):
            found = client.get_authorization_token()["authorizationData"][0]
        return AuthorizationToken(str(found["authorizationToken"]), found["expiresAt"])
    except exceptions.ClientError as error:
        raise _refusal(registry, error.response, secret) from error
    except exceptions.BotoCoreError as error:
        raise _unavailable(registry, str(error), secret) from error
    except (KeyError, IndexError, TypeError) as error:
        raise _unavailable(registry, "its response holds no login", secret) from error
    except ValueError as error:
        raise _unavailable(
            registry, str(error), secret
        ) from error  # an endpoint of the environment is no URL


def _refusal(registry: EcrRegistry, response: dict[str, dict[str, object]], secret: str) -> DockerCacheError:
    code = str(response.get("Error", {}).get("Code"))
    said = str(response.get("Error", {}).get("Message"))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if (isinstance(status, int) and status >= 500) or "Throttl" in code:
        return _unavailable(registry, f"{code}: {said}", secret)
    detail = clean(f"{registry.host}: the API of ECR refuses the access key: {code}: {said}", (secret,))
    return Denied("registry", ErrorCode.BAD_CREDENTIALS, detail)


def _unavailable(registry: EcrRegistry, why: str, secret: str) -> Unavailable:
    detail = clean(f"{registry.host}: the API of ECR gives no login: {why}", (secret,))
    return Unavailable("registry", "ecr-api", detail)
