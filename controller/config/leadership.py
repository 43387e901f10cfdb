"""The config keys of the election of the active instance."""

from typing import Self

from pydantic import Field, model_validator

from controller.config.sections import Section
from controller.config.values import Address, Duration
from reconcile.lease import LeaseTimes


class LeadershipConfig(Section):
    """How several instances agree on which of them is active, and how they say so."""

    uuid: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}$")
    """ID of this instance, which no other one has, such as BOSH's `spec.id`. When it is absent, it is the
    name of the host."""
    lock_ttl: Duration = Field(default=15.0, le=3600.0)
    """Time after the last renewal of its lock from which another instance may become active. An instance acts
    for four fifths of it, counted from when it asked for the renewal."""
    lock_retry_interval: Duration = 5.0
    """Time between two renewals of the lock, or two attempts to take it, and the longest that one may take.
    The first renewal that fails ends the process. Two of these times must fit into four fifths of
    `lock_ttl`."""
    healthcheck_address: Address | None = None
    """Address at which /ping answers as long as the process lives, and /ready while it is the active
    instance, "host:port". When it is absent, neither is served."""

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if not self.lease_times.can_be_kept:
            raise ValueError(
                f"lock_retry_interval: twice {self.lock_retry_interval:g}s must be less than four fifths of "
                f"lock_ttl ({self.lock_ttl:g}s)"
            )
        return self

    @property
    def lease_times(self) -> LeaseTimes:
        """The times of the lock."""
        return LeaseTimes(self.lock_ttl, self.lock_retry_interval)
