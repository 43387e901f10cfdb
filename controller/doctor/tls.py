"""Tells from a failed TLS connection which file or which address to look at.

Source: verification codes of OpenSSL's x509_vfy.h; alerts of RFC 8446 section 6.2 under OpenSSL's names.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from controller.registry.http.response import NO_TLS

_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAME = frozenset({62, 64})

_REFUSALS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
_BAD_FILE = frozenset({"X509", "PEM"})


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """The config keys that a TLS connection is made with.

    Attributes:
        address: Of the server.
        ca: Of the file with the authorities that are trusted.
        certificate: Of the file with the certificate that is shown.
    """

    address: str
    ca: str
    certificate: str


def tls_advice(error: BaseException, keys: TlsKeys) -> str | None:
    """Say what to do about a failure; None when it is none of TLS."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _on_verification(getattr(cause, "verify_code", 0), keys)
        if isinstance(cause, ssl.SSLError):
            return _on_handshake(cause, keys)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _on_verification(code: int, keys: TlsKeys) -> str:
    if code == _NOT_YET_VALID:
        return "the certificate of the server or of its authority is not valid yet: compare the clocks"
    if code == _EXPIRED:
        return f"renew the certificate of the server, or its authority's in {keys.ca}; or set this clock"
    if code in _OTHER_NAME:
        return (
            f"write a name into {keys.address} that the server's certificate has, or issue it with this one"
        )
    return f"put the authority that signed the server's certificate into {keys.ca}"


def _on_handshake(error: ssl.SSLError, keys: TlsKeys) -> str | None:
    reason = str(getattr(error, "reason", ""))  # what Python itself raises has neither
    if "_ALERT_" in reason and any(word in reason for word in _REFUSALS):
        return f"look at {keys.certificate}: the server wants a certificate that it trusts and that is valid"
    if reason in NO_TLS:
        return f"look at {keys.address}: what answers there does not speak TLS"
    if getattr(error, "library", "") in _BAD_FILE:
        return f"look at {keys.ca} and {keys.certificate}: one of these files is not what it should be"
    return None
