"""Defines a request to a registry, and the context that it is sent in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from controller.registry.http.addresses import AddressRules
from controller.registry.http.home import Home
from controller.registry.http.urls import Url
from controller.threads import Cancellation
from reconcile.answers import Side

Body = bytes | Iterable[memoryview]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        headers: Without `Host`; with `Content-Length` when the body is made of pieces.
        body: The body; one that is made of pieces can be sent only once.
        total: Seconds until the response must have been read; None means the limit of small requests.
        is_urgent: Whether it does not wait for a free connection, because its sender already uses one.
        is_blob: Whether the response is a blob: behind its head, a minimum rate takes the place of `total`.
        may_leave: Whether another origin than the registry's own may answer it, as for a blob whose digest
            is known.
    """

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    total: float | None = None
    is_urgent: bool = False
    is_blob: bool = False
    may_leave: bool = False

    @property
    def length(self) -> int:
        """Bytes of the body; 0 when there is none."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return 0 if self.body is None else int(self.headers["Content-Length"])


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The registry that the requests of one piece of work are for, and the cancellation of that work.

    Attributes:
        home: The registry; it owns certificates and limits.
        rules: The addresses that may be reached.
        side: Which registry it is.
    """

    home: Home
    rules: AddressRules
    cancellation: Cancellation
    side: Side = Side.SOURCE

    def of_led(self) -> Self:
        """Return the context of requests that another host has led somewhere."""
        return replace(self, home=self.home.anonymous())

    def for_foreign_host(self) -> Self:
        """Return the context of requests that get nothing of the registry, and reach public hosts alone."""
        return replace(self, home=self.home.foreign(), rules=AddressRules(denied=self.rules.denied))
