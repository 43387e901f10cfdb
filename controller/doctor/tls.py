"""Advises an operator which file or address to check after a TLS connection has failed."""

from dataclasses import dataclass

from controller.tls_causes import TlsCause, tls_cause_of


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """Names of the config keys of a TLS connection.

    Attributes:
        address: Key of the server's address.
        ca: Key of the file with the CA certificates that are trusted.
        certificate: Key of the file with the client certificate.
    """

    address: str
    ca: str
    certificate: str


def tls_advice(error: BaseException, keys: TlsKeys) -> str | None:
    """Advise what to do about a failed connection; None when the failure has nothing to do with TLS."""
    cause = tls_cause_of(error)
    return None if cause is None else advice_on(cause, keys)


def advice_on(cause: TlsCause, keys: TlsKeys) -> str:
    """Advise what to do about one cause."""
    match cause:
        case TlsCause.PEER_NOT_YET_VALID:
            return "the certificate of the server or of its CA is not valid yet: compare the machines' clocks"
        case TlsCause.PEER_EXPIRED:
            return (
                f"renew the certificate of the server or the CA certificate in {keys.ca}, "
                "or correct this machine's clock"
            )
        case TlsCause.PEER_HAS_OTHER_NAME:
            return (
                f"use a name in {keys.address} that the server's certificate contains, "
                "or issue the certificate for the present name"
            )
        case TlsCause.PEER_NOT_TRUSTED:
            return f"add the CA certificate that signed the server's certificate to {keys.ca}"
        case TlsCause.CERTIFICATE_REFUSED:
            return f"check {keys.certificate}: the server refuses it, or requires a client certificate"
        case TlsCause.NO_TLS:
            return f"check {keys.address}: the server at this address does not speak TLS"
        case TlsCause.BAD_FILE:
            return (
                f"check {keys.ca} and {keys.certificate}: one of these files is not valid PEM, "
                "or the private key does not match the certificate"
            )
