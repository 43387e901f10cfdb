"""The keys of the admin API, as the daemon reads them."""

from typing import Self

from pydantic import Field, model_validator

from controller.config.sections import Section
from controller.config.values import Address, FilePath, ReadableFile
from controller.config_file import TLS_KEYS, check_without_tls


class AdminConfig(Section):
    """Where the daemon answers operators, and how both prove who they are."""

    admin_address: Address | None = None
    """Where the admin API listens, "host:port"; none when absent."""
    admin_ca_cert_file: ReadableFile | None = None
    """CA certificates that the certificates of callers must chain to, and the daemon's, in PEM."""
    admin_server_cert_file: ReadableFile | None = None
    """Certificate that the daemon presents to callers, in PEM."""
    admin_server_key_file: ReadableFile | None = None
    """Key of that certificate, in PEM."""
    admin_client_cert_file: FilePath | None = None
    """Certificate that the commands present to the daemon, in PEM; the daemon does not read it."""
    admin_client_key_file: FilePath | None = None
    """Key of that certificate, in PEM; the daemon does not read it."""
    admin_server_name: str | None = Field(default=None, min_length=1)
    """Name that must stand in the daemon's certificate, when it is not the host of `admin_address`."""
    admin_without_tls: bool = False
    """Answer whoever reaches `admin_address`, without TLS; its host must be a loopback address."""

    @model_validator(mode="after")
    def _admin_keys(self) -> Self:
        given = _tls_keys(self)
        if self.admin_address is None:
            if self.admin_without_tls:
                given.append("admin_without_tls")
            if given:
                raise ValueError(f"{', '.join(given)}: meant for an admin API, and admin_address is missing")
            return self
        if self.admin_without_tls:
            check_without_tls(self.admin_address, given)
            return self
        needed = ("admin_ca_cert_file", "admin_server_cert_file", "admin_server_key_file")
        if missing := [key for key in needed if key not in given]:
            raise ValueError(
                f"admin_address: needs {', '.join(missing)}, or admin_without_tls on a loopback address"
            )
        if (self.admin_client_cert_file is None) != (self.admin_client_key_file is None):
            raise ValueError("admin_client_cert_file and admin_client_key_file belong together")
        return self


def _tls_keys(config: Section) -> list[str]:
    """List the keys that are given of those that only TLS needs."""
    return [key for key in TLS_KEYS if getattr(config, key, None) is not None]
