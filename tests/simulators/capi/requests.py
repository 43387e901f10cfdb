"""One request to the API: who asks, what for, and over which database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulators.bbs.connections import Answer, Call
from tests.simulators.capi.app import App
from tests.simulators.capi.bodies import Bodies
from tests.simulators.capi.errors import JSON, unreadable_body
from tests.simulators.capi.uaa import (
    ADMIN,
    ADMIN_READ_ONLY,
    GLOBAL_AUDITOR,
    READ,
    UPDATE_BUILD_STATE,
    WRITE,
    Token,
)

if TYPE_CHECKING:
    from tests.simulators.cloud_controller import CloudController


@dataclass(frozen=True, slots=True)
class Access:
    """What a token's scopes allow; no client has a role in a space."""

    token: Token

    @property
    def reads(self) -> bool:
        """Whether it passes the gate for GET."""
        return self.reads_everything or READ in self.token.scopes

    @property
    def reads_everything(self) -> bool:
        """Whether it sees all spaces."""
        return bool(self.token.scopes & {ADMIN, ADMIN_READ_ONLY, GLOBAL_AUDITOR})

    @property
    def writes(self) -> bool:
        """Whether it passes the gate for all other methods."""
        return bool(self.token.scopes & {ADMIN, WRITE})

    @property
    def updates_build_state(self) -> bool:
        """Whether it may change the images of droplets, in all spaces."""
        return bool(self.token.scopes & {ADMIN, UPDATE_BUILD_STATE})

    @property
    def manages(self) -> bool:
        """Whether it may change apps."""
        return ADMIN in self.token.scopes


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that has passed the gates.

    Attributes:
        parts: What the path's pattern found: GUIDs, mostly.
    """

    cloud: "CloudController"
    access: Access
    call: Call
    parts: Mapping[str, str]
    bodies: Bodies
    url: str

    @property
    def list_url(self) -> str:
        """Where the list is that is asked for."""
        return f"{self.url}{self.call.path}"

    @property
    def apps(self) -> tuple[App, ...]:
        """All apps that the caller sees."""
        return tuple(self.cloud.apps.values()) if self.access.reads_everything else ()

    def body(self) -> dict[str, object]:
        """Read the body; one that does not say that it is JSON is as good as none.

        Raises:
            ApiError: It is no JSON object.
        """
        if not self.call.headers.get("content-type", "").startswith("application/json"):
            return {}
        try:
            value = json.loads(self.call.body)
        except ValueError as problem:
            raise unreadable_body() from problem
        if not isinstance(value, dict):
            raise unreadable_body()
        return value


def ok(body: Mapping[str, object], status: int = 200) -> Answer:
    """Answer with JSON."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), (JSON,))
