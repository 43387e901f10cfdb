"""What is sent to a registry, and on whose behalf."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.registry.addresses import AddressRules
from controller.registry.cancellation import Cancellation
from controller.registry.urls import Url

Body = bytes | Iterable[memoryview]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        headers: Without `Host`; hold `Content-Length` when the body is made of pieces.
        body: Pieces are sent as they come and cannot be sent twice.
        total: Seconds until the answer must have been read; None takes the limit of small requests.
        is_urgent: Does not wait for a free connection: somebody who holds one waits for the answer.
    """

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    total: float | None = None
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """On whose behalf a request is sent: what may be reached, and what stops it."""

    rules: AddressRules
    cancellation: Cancellation
