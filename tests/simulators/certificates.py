"""Makes certificate authorities, and certificates of servers and clients, for mutual TLS on loopback.

Leaves it to the caller where the files lie and how long they live.
Source: the TLS rules of the BBS, bbs cmd/bbs/main.go (TLS 1.2 and 1.3, client certificate required, no ALPN).
"""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "bbs.service.cf.internal")
DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, each a PEM file."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose certificates are written into one directory.

    Args:
        directory: Where the files go.
        name: Of the authority's own file.
        has_key_identifiers: Whether its certificates name its key, as those of many private authorities do not.
    """

    def __init__(self, directory: Path, name: str = "ca", *, has_key_identifiers: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._has_key_identifiers = directory, has_key_identifiers
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(f"{name} of the simulators")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            self._builder(self._subject, self._key.public_key(), days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = directory / f"{name}.crt"
        self.certificate.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, *names: str, file: str = "server", days: int = 3650) -> Pair:
        """Sign a server certificate for DNS names and addresses; negative `days` make an expired one."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue(file, ExtendedKeyUsageOID.SERVER_AUTH, days, alternatives)

    def client(
        self,
        common_name: str,
        *,
        file: str = "client",
        days: int = 3650,
        not_before: dt.datetime | None = None,
    ) -> Pair:
        """Sign a client certificate; negative `days` make an expired one, `not_before` one of the future."""
        alternatives = x509.SubjectAlternativeName([x509.DNSName(common_name)])
        return self._issue(file, ExtendedKeyUsageOID.CLIENT_AUTH, days, alternatives, not_before)

    def _issue(
        self,
        file: str,
        purpose: x509.ObjectIdentifier,
        days: int,
        names: x509.SubjectAlternativeName,
        not_before: dt.datetime | None = None,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_name(file), key.public_key(), days=days, not_before=not_before)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._directory / f"{file}.crt", self._directory / f"{file}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pair.key.chmod(0o600)
        return pair

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        days: int,
        not_before: dt.datetime | None = None,
    ) -> x509.CertificateBuilder:
        end = dt.datetime.now(dt.UTC) + days * DAY
        start = min(end - DAY, dt.datetime.now(dt.UTC) - DAY) if not_before is None else not_before
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )
        if not self._has_key_identifiers:
            return builder
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), critical=False
        ).add_extension(issuer, critical=False)


@dataclass(frozen=True, slots=True)
class Certificates:
    """All that a test of mutual TLS needs.

    Attributes:
        authority: Signs what is not here.
        ca: That of the authority, which the server and its good clients trust.
        foreign_ca: An authority that nobody trusts; it signed `foreign_client`.
    """

    authority: Authority
    ca: Path
    server: Pair
    client: Pair
    expired_server: Pair
    expired_client: Pair
    foreign_ca: Path
    foreign_client: Pair


def make_certificates(directory: Path, *names: str) -> Certificates:
    """Write a full set of certificates; the server's are for loopback and the further names."""
    authority = Authority(directory)
    foreign = Authority(directory, "foreign-ca")
    server_names = dict.fromkeys((*LOOPBACK_NAMES, *names))
    return Certificates(
        authority=authority,
        ca=authority.certificate,
        server=authority.server(*server_names),
        client=authority.client("diego-docker-cache"),
        expired_server=authority.server(*server_names, file="expired-server", days=-1),
        expired_client=authority.client("diego-docker-cache", file="expired-client", days=-1),
        foreign_ca=foreign.certificate,
        foreign_client=foreign.client("diego-docker-cache", file="foreign-client"),
    )


def server_context(ca: Path, pair: Pair) -> ssl.SSLContext:
    """Make the TLS settings of a server that requires a client certificate of `ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def client_context(ca: Path, pair: Pair | None = None) -> ssl.SSLContext:
    """Make the TLS settings of a client that trusts `ca`; without a pair it shows no certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
