"""How a cell logs in to a registry: only after a challenge, with its word or with a token.

Source: containers/image docker/docker_client.go (`setupRequestAuth`, `getBearerToken`).
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, both empty for none."""

    username: str = ""
    password: str = field(default="", repr=False)


class RegistryLogin:
    """The login of one pull.

    Attributes:
        header: What is sent as `Authorization`; empty for nothing.
    """

    def __init__(self, repository: str, credentials: Credentials) -> None:
        self.header = ""
        self._repository = repository
        self._credentials = credentials
        self._bearer: Mapping[str, str] = {}

    def challenge(self, challenge: str) -> None:
        """Take what the registry wants; an empty text means nothing."""
        scheme, _, rest = challenge.partition(" ")
        self.header, self._bearer = "", {}
        if scheme.lower() == "basic":
            self.header = self._basic()
        elif scheme.lower() == "bearer":
            self._bearer = dict(_PARAMETER.findall(rest))

    @property
    def is_ready(self) -> bool:
        """Whether no token has to be fetched."""
        return bool(self.header) or not self._bearer

    @property
    def token_request(self) -> httpx.Request:
        """What the token server is asked."""
        scope = f"repository:{self._repository}:pull"
        query = {"service": self._bearer.get("service", ""), "scope": scope}
        headers = {"Authorization": self._basic()} if self._credentials.username else {}
        return httpx.Request("GET", self._bearer["realm"], params=query, headers=headers)

    def take_token(self, answer: Mapping[str, str]) -> None:
        """Use the token of a token server's answer."""
        self.header = f"Bearer {answer.get('token') or answer['access_token']}"

    def _basic(self) -> str:
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
