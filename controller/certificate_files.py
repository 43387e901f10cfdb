"""Lists the certificate files that the config names, and reads when their certificates end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from controller.config import Config, LoggregatorConfig, RegistryConfig

RENEW_WITHIN = timedelta(days=30)
"""Time before the end of a certificate in which it is warned of."""


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file with certificates in PEM.

    Attributes:
        name: Config key that holds its path.
        key_name: Config key that holds the path of the private key of its first certificate.
        key_path: Path of that private key; None for CA certificates.
        is_for_commands: Whether commands read it, and the daemon does not.
    """

    name: str
    path: Path
    key_name: str = ""
    key_path: Path | None = None
    is_for_commands: bool = False


def certificate_files(config: Config) -> tuple[CertificateFile, ...]:
    """List the certificate files of a config; one that several keys name is listed under the first."""
    listed = [
        _authorities("bbs_ca_cert_file", config.bbs_ca_cert_file),
        _pair("bbs_client", config.bbs_client_cert_file, config.bbs_client_key_file),
        _authorities("cloud_controller_ca_cert_file", config.cloud_controller_ca_cert_file),
        *_of_registry("cache_registry", config.cache_registry),
        *(
            file
            for each in config.registries
            for file in _of_registry(f"registries[{each.address.rpartition('@')[2]}]", each)
        ),
        _authorities("locket_ca_cert_file", config.locket_ca_cert_file),
        _pair("locket_client", config.locket_client_cert_file, config.locket_client_key_file),
        *_of_loggregator(config.loggregator),
        _authorities("admin_ca_cert_file", config.admin_ca_cert_file),
        _pair("admin_server", config.admin_server_cert_file, config.admin_server_key_file),
        _authorities("metrics_ca_cert_file", config.metrics_ca_cert_file),
        _pair("metrics_server", config.metrics_server_cert_file, config.metrics_server_key_file),
        _pair("admin_client", config.admin_client_cert_file, config.admin_client_key_file),
    ]
    first: dict[tuple[Path, Path | None], CertificateFile] = {}
    for file in listed:
        if file is not None:
            first.setdefault((file.path, file.key_path), file)
    return tuple(first.values())


def _of_registry(prefix: str, registry: RegistryConfig) -> tuple[CertificateFile | None, ...]:
    return (
        _authorities(f"{prefix}.ca_cert_file", registry.ca_cert_file),
        _pair(f"{prefix}.client", registry.client_cert_file, registry.client_key_file),
    )


def _of_loggregator(agent: LoggregatorConfig) -> tuple[CertificateFile | None, ...]:
    ca, certificate, key = (f"loggregator.loggregator_{name}_path" for name in ("ca", "cert", "key"))
    if not agent.loggregator_use_v2_api or agent.loggregator_cert_path is None:
        return ()
    return (
        _authorities(ca, agent.loggregator_ca_path),
        CertificateFile(certificate, agent.loggregator_cert_path, key, agent.loggregator_key_path),
    )


def _authorities(name: str, path: Path | None) -> CertificateFile | None:
    return None if path is None else CertificateFile(name, path)


def _pair(prefix: str, path: Path | None, key_path: Path | None) -> CertificateFile | None:
    if path is None:
        return None
    return CertificateFile(
        f"{prefix}_cert_file", path, f"{prefix}_key_file", key_path, prefix == "admin_client"
    )


def read_end(file: CertificateFile) -> datetime:
    """Read when a file is of no more use: with the first of a chain, or with the last of authorities; blocks.

    A new authority is put beside the old one before that ends, and a bundle of many may hold some that have.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no certificate.
    """
    try:
        certificates = x509.load_pem_x509_certificates(file.path.read_bytes())
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error
    ends = [each.not_valid_after_utc for each in certificates]
    return max(ends) if file.key_path is None else min(ends)
