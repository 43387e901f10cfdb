"""The config keys of the metrics, as the daemon validates them."""

from typing import Self

from pydantic import model_validator

from controller.config.sections import Section
from controller.config.values import Address, ReadableFile


class MetricsConfig(Section):
    """Where the metrics are served, and the certificates by which scraper and daemon know each other."""

    metrics_address: Address | None = None
    """Address at which a scraper reads metrics at /metrics, "host:port". When it is absent, no metrics are
    served. Without the three files below, whoever reaches the address can read them."""
    metrics_ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that the scraper's certificate must chain to."""
    metrics_server_cert_file: ReadableFile | None = None
    """Certificate in PEM that the daemon presents to the scraper. The scraper checks its name."""
    metrics_server_key_file: ReadableFile | None = None
    """Private key of that certificate, in PEM and not encrypted."""

    @model_validator(mode="after")
    def _check_metrics_keys(self) -> Self:
        files = ("metrics_ca_cert_file", "metrics_server_cert_file", "metrics_server_key_file")
        given = [key for key in files if getattr(self, key) is not None]
        if given and self.metrics_address is None:
            raise ValueError(f"{', '.join(given)}: without metrics_address nothing uses this")
        if given and len(given) < len(files):
            missing = ", ".join(key for key in files if key not in given)
            raise ValueError(f"{', '.join(given)}: TLS needs {missing} as well")
        return self
