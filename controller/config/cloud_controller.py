"""The config keys of Cloud Controller's API, and of the UAA client with which the daemon asks it."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from controller.config.sections import Section
from controller.config.values import Duration, ReadableFile, SecretFile

_ONLY_WITH_API = ("cloud_controller_ca_cert_file", "uaa_client_id", "uaa_client_secret_file")
_NEEDED = ("uaa_client_id", "uaa_client_secret_file")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class CloudControllerConfig(Section):
    """Where Cloud Controller is, who the daemon is there, and how much it may ask."""

    cloud_controller_api_url: str | None = Field(default=None, pattern=r"^https?://[^/\s?#@]+/?$")
    """URL of the platform's API, such as "https://api.sys.example.com". With it the daemon writes the cached
    URL of each copy into the app's droplet, so that Cloud Controller itself desires LRPs and tasks from the
    copy. UAA is found through it. When it is absent, Cloud Controller and UAA are not asked anything."""
    cloud_controller_ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that the certificates of the API and of UAA must chain to. When it is absent,
    the system's CA certificates are used."""
    uaa_client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,255}$")
    """Name of the UAA client of the daemon. It needs the grant type client_credentials and the authorities
    cloud_controller.write, cloud_controller.update_build_state and cloud_controller.global_auditor."""
    uaa_client_secret_file: SecretFile | None = None
    """File that holds the secret of that client. It is read again when it changes."""
    update_droplets: bool = True
    """Whether cached URLs are written into droplets. With false Cloud Controller is only read, and droplets
    that were changed before stay as they are."""
    cloud_controller_requests_per_hour: int = Field(default=2000, ge=60)
    """Number of requests to Cloud Controller in an hour that the daemon keeps to where the API names no limit
    of its own in its answers."""
    cloud_controller_background_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the limit that requests may use which nobody waits for: those of listings, and of the droplets
    of apps that were staged before."""
    droplet_sync_interval: Duration = 600.0
    """Time between two listings of the droplets, which find what no event reported."""

    @field_validator("cloud_controller_api_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        return None if value is None else value.rstrip("/")

    @field_validator("uaa_client_id")
    @classmethod
    def _check_client_id(cls, value: str | None) -> str | None:
        # Source: cloud_controller_ng lib/cloud_controller/security/security_context_configurer.rb
        if value is not None and _UUID.fullmatch(value):
            raise ValueError("Cloud Controller may refuse a client whose name looks like the GUID of a user")
        return value

    @model_validator(mode="after")
    def _check_cloud_controller_keys(self) -> Self:
        if self.cloud_controller_api_url is None:
            if given := [key for key in _ONLY_WITH_API if getattr(self, key) is not None]:
                raise ValueError(
                    f"{', '.join(given)}: only Cloud Controller's API uses these keys, and "
                    "cloud_controller_api_url is missing"
                )
        elif missing := [key for key in _NEEDED if getattr(self, key) is None]:
            raise ValueError(f"cloud_controller_api_url: needs {', '.join(missing)}")
        return self

    @property
    def cloud_controller_warnings(self) -> tuple[str, ...]:
        """Warnings about these keys."""
        url = self.cloud_controller_api_url
        if url is None or not url.startswith("http://"):
            return ()
        unprotected = "the UAA client's secret and its tokens cross the network unprotected: write https://"
        found = [f"cloud_controller_api_url: {unprotected}"]
        if self.cloud_controller_ca_cert_file is not None:
            found.append("cloud_controller_ca_cert_file: only https uses it, and the API's URL is http")
        return tuple(found)
