"""Says which file or which address an operator should look at when a TLS connection failed."""

from dataclasses import dataclass

from controller.tls_causes import TlsCause, tls_cause_of


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """The config keys that a TLS connection is made with.

    Attributes:
        address: Of the server.
        ca: Of the file with the authorities that are trusted.
        certificate: Of the file with the certificate that is presented.
    """

    address: str
    ca: str
    certificate: str


def tls_advice(error: BaseException, keys: TlsKeys) -> str | None:
    """Say what to do about a failed connection; None where TLS is not what failed."""
    cause = tls_cause_of(error)
    return None if cause is None else advice_on(cause, keys)


def advice_on(cause: TlsCause, keys: TlsKeys) -> str:
    """Say what to do about a cause."""
    match cause:
        case TlsCause.PEER_NOT_YET_VALID:
            return "the certificate of the server or of its authority is not valid yet: compare the clocks"
        case TlsCause.PEER_EXPIRED:
            return (
                f"renew the certificate of the server, or its authority's in {keys.ca}; "
                "or set this machine's clock"
            )
        case TlsCause.PEER_HAS_OTHER_NAME:
            return (
                f"write a name into {keys.address} that the server's certificate has, "
                "or issue the certificate with this name"
            )
        case TlsCause.PEER_NOT_TRUSTED:
            return f"put the authority that signed the server's certificate into {keys.ca}"
        case TlsCause.CERTIFICATE_REFUSED:
            return (
                f"check {keys.certificate}: the server wants a certificate that it trusts and that is valid"
            )
        case TlsCause.NO_TLS:
            return f"check {keys.address}: what answers there does not speak TLS"
        case TlsCause.BAD_FILE:
            return f"check {keys.ca} and {keys.certificate}: one of these files is not in the right format"
