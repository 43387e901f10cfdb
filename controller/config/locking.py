"""The config keys of the lock that makes one of several instances the active one."""

from typing import Self

from pydantic import Field, model_validator

from controller.config.sections import Section
from controller.config.values import Address, Duration, ReadableFile, format_duration
from reconcile.lease import LeaseTimes

_FILES = ("locket_ca_cert_file", "locket_client_cert_file", "locket_client_key_file")


class LockConfig(Section):
    """Where the lock is, who this instance is, and how long the lock lasts."""

    uuid: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """ID of this instance, which no other instance has, and which is the same after a restart; in a BOSH job
    `spec.id`. It is needed where several instances may run."""
    locket_address: Address | None = None
    """Address of Diego's Locket, "host:port". Of several instances only that is active which holds the lock
    "diego-docker-cache" there; the others stand by. When it is absent, there is no lock in Locket."""
    locket_ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that Locket's certificate must chain to. The host of `locket_address` must be a
    name in that certificate."""
    locket_client_cert_file: ReadableFile | None = None
    """Certificate in PEM that the daemon presents to Locket. That for the BBS serves here too."""
    locket_client_key_file: ReadableFile | None = None
    """Private key of that certificate, in PEM and not encrypted."""
    locket_client_keepalive_time: int = Field(default=10, ge=0)
    """Seconds of silence after which a connection to Locket is tested while a call is under way: 10 at least,
    or 0 for no test."""
    locket_client_keepalive_timeout: int = Field(default=22, ge=0)
    """Seconds after which a test without an answer closes the connection."""
    lock_ttl: Duration = 15.0
    """Time after its last renewal for which the lock is kept for an instance, in whole seconds. Another
    instance waits so long after the active one has crashed."""
    lock_retry_interval: Duration = 5.0
    """Time between two renewals of the lock, and between two attempts to take it. A renewal that takes longer
    has failed, and ends the active instance. Two of them must fit into four fifths of `lock_ttl`."""

    @model_validator(mode="after")
    def _check_lock_keys(self) -> Self:
        given = [key for key in _FILES if getattr(self, key) is not None]
        if self.locket_address is None:
            if given:
                raise ValueError(
                    f"{', '.join(given)}: only Locket uses these keys, and locket_address is missing"
                )
        elif missing := [key for key in ("uuid", *_FILES) if getattr(self, key) is None]:
            raise ValueError(f"locket_address: needs {', '.join(missing)}")
        if self.locket_client_keepalive_time > self.locket_client_keepalive_timeout:
            raise ValueError(
                "locket_client_keepalive_time must not be longer than locket_client_keepalive_timeout"
            )
        if not self.lock_ttl.is_integer():
            raise ValueError("lock_ttl: Locket counts in whole seconds")
        times = self.lease_times
        if not times.can_be_kept:
            raise ValueError(
                f"lock_retry_interval: a lock of {format_duration(self.lock_ttl)} cannot be kept by renewals "
                f"every {format_duration(self.lock_retry_interval)}: two of them must take less than "
                f"{format_duration(times.length)}"
            )
        return self

    @property
    def lease_times(self) -> LeaseTimes:
        """The times of the lock."""
        return LeaseTimes(self.lock_ttl, self.lock_retry_interval)
