"""Defines who is told how the requests to registries end."""

from typing import Protocol

from reconcile.health import Exchange, Failure


class RequestObserver(Protocol):
    """Is told how requests end, from whatever thread has sent them; it never waits."""

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Note a response that is no error.

        Args:
            exchange: What the request was about.
            stored: Bytes that the registry has stored; None when the request was not to store any.
        """

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Note a request that was refused or got no response."""

    def stated(self, exchange: Exchange, left: int) -> None:
        """Note how many requests are left in the rate limit of a registry, as it says."""


class NullRequestObserver:
    """The observer of requests whose outcomes nobody keeps."""

    def answered(self, exchange: Exchange, stored: int | None) -> None:
        """Do nothing."""

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """Do nothing."""

    def stated(self, exchange: Exchange, left: int) -> None:
        """Do nothing."""
