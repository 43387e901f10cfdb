"""The keys of the admin API, as the daemon reads them and as a command that calls it does."""

from typing import Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from controller.config.sections import Section
from controller.config.values import Address, FilePath, ReadableFile, is_loopback

_TLS_KEYS = (
    "admin_ca_cert_file",
    "admin_server_cert_file",
    "admin_server_key_file",
    "admin_client_cert_file",
    "admin_client_key_file",
    "admin_server_name",
)


class AdminConfig(Section):
    """The address of the admin API, and the certificates of the daemon and of the commands."""

    admin_address: Address | None = None
    """Address at which the daemon serves the admin API, "host:port". When it is absent, there is no admin
    API."""
    admin_ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that the certificates of the commands and of the daemon must chain to."""
    admin_server_cert_file: ReadableFile | None = None
    """Certificate in PEM that the daemon presents to the commands."""
    admin_server_key_file: ReadableFile | None = None
    """Private key of that certificate, in PEM and not encrypted."""
    admin_client_cert_file: FilePath | None = None
    """Certificate in PEM that the commands present to the daemon. The daemon does not read it."""
    admin_client_key_file: FilePath | None = None
    """Private key of that certificate, in PEM and not encrypted. The daemon does not read it."""
    admin_server_name: str | None = Field(default=None, min_length=1)
    """Name that the daemon's certificate must hold, where it is not the host of `admin_address`."""
    admin_without_tls: bool = False
    """Whether the admin API is served without TLS, to everybody who reaches `admin_address`. The host must
    then be a loopback address."""

    @model_validator(mode="after")
    def _admin_keys(self) -> Self:
        given = _tls_keys(self)
        if self.admin_address is None:
            if self.admin_without_tls:
                given.append("admin_without_tls")
            if given:
                raise ValueError(
                    f"{', '.join(given)}: used by the admin API only, and admin_address is missing"
                )
            return self
        if self.admin_without_tls:
            _check_without_tls(self.admin_address, given)
            return self
        needed = ("admin_ca_cert_file", "admin_server_cert_file", "admin_server_key_file")
        if missing := [key for key in needed if key not in given]:
            raise ValueError(
                f"admin_address: needs {', '.join(missing)}, or admin_without_tls on a loopback address"
            )
        if (self.admin_client_cert_file is None) != (self.admin_client_key_file is None):
            raise ValueError("admin_client_cert_file and admin_client_key_file belong together")
        return self


class AdminClientConfig(Section):
    """How a command calls the daemon; the file's other keys may be anything, and are not looked at."""

    model_config = ConfigDict(extra="ignore")

    admin_address: Address = Field(default="", validate_default=True)
    """Where the daemon's admin API listens, "host:port"."""
    admin_ca_cert_file: ReadableFile | None = None
    """CA certificates that the daemon's certificate must chain to, in PEM."""
    admin_client_cert_file: ReadableFile | None = None
    """Certificate to present to the daemon, in PEM."""
    admin_client_key_file: ReadableFile | None = None
    """Key of that certificate, in PEM."""
    admin_server_name: str | None = Field(default=None, min_length=1)
    """Name that must stand in the daemon's certificate, when it is not the host of `admin_address`."""
    admin_without_tls: bool = False
    """Speak without TLS; then there are no files and no name, else all three files."""

    @field_validator("admin_address", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        if not value:
            raise ValueError(
                "missing: the daemon has no admin API without it; --direct works without a daemon"
            )
        return value

    @model_validator(mode="after")
    def _admin_keys(self) -> Self:
        given = _tls_keys(self)
        if self.admin_without_tls:
            _check_without_tls(self.admin_address, given)
            return self
        needed = ("admin_ca_cert_file", "admin_client_cert_file", "admin_client_key_file")
        if missing := [key for key in needed if key not in given]:
            raise ValueError(f"{', '.join(missing)}: missing: a command and the daemon prove who they are")
        return self


def _tls_keys(config: Section) -> list[str]:
    """List the keys that are given of those that only TLS needs."""
    return [key for key in _TLS_KEYS if getattr(config, key, None) is not None]


def _check_without_tls(address: str, tls_keys: list[str]) -> None:
    if not is_loopback(address):
        raise ValueError(f"admin_without_tls: the host of admin_address, {address}, is no loopback address")
    if tls_keys:
        raise ValueError(f"admin_without_tls: goes without {', '.join(tls_keys)}")
