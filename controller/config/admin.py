"""The config keys of the admin API, as the daemon validates them."""

from typing import Self

from pydantic import Field, model_validator

from controller.config.sections import Section
from controller.config.values import Address, FilePath, ReadableFile
from controller.config_file import TLS_KEYS, check_without_tls


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
    """Name that the daemon's certificate must contain. When it is absent, that is the host of
    `admin_address`."""
    admin_without_tls: bool = False
    """Whether the admin API is served without TLS. Every user of the machine may then call it, and the host
    of `admin_address` must be a loopback address."""

    @model_validator(mode="after")
    def _check_admin_keys(self) -> Self:
        given = _given_tls_keys(self)
        if self.admin_address is None:
            if self.admin_without_tls:
                given.append("admin_without_tls")
            if given:
                raise ValueError(
                    f"{', '.join(given)}: only the admin API uses these keys, and admin_address is missing"
                )
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
            raise ValueError("admin_client_cert_file and admin_client_key_file must be given together")
        return self


def _given_tls_keys(config: Section) -> list[str]:
    """List the keys in the config that only TLS needs."""
    return [key for key in TLS_KEYS if getattr(config, key, None) is not None]
