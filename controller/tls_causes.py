"""Finds out from a failed connection what went wrong with TLS.

Source: verification codes of OpenSSL's x509_vfy.h; alerts of RFC 8446 section 6.2 under OpenSSL's names.
"""

import ssl
from collections.abc import Iterator
from enum import StrEnum

NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for a failed handshake with a server that does not speak TLS."""

_REFUSALS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
"""Parts of the names of the alerts by which a server refuses our certificate or, with TLS 1.2, the lack of
one."""

_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAME = frozenset({62, 64})
_BAD_FILE = frozenset({"X509", "PEM"})


class TlsCause(StrEnum):
    """What went wrong with TLS."""

    PEER_NOT_YET_VALID = "peer-not-yet-valid"
    PEER_EXPIRED = "peer-expired"
    PEER_HAS_OTHER_NAME = "peer-has-other-name"
    PEER_NOT_TRUSTED = "peer-not-trusted"
    """The peer's certificate was not signed by an authority that we trust."""
    CERTIFICATE_REFUSED = "certificate-refused"
    """The peer refused our certificate."""
    NO_TLS = "no-tls"
    """The peer does not speak TLS."""
    BAD_FILE = "bad-file"
    """One of our own files holds no certificate or no key."""

    @property
    def is_refusal(self) -> bool:
        """Whether one side refused the other's certificate, so that somebody must change one."""
        return self not in {TlsCause.NO_TLS, TlsCause.BAD_FILE}


def tls_cause_of(error: BaseException) -> TlsCause | None:
    """Find the TLS error behind an error; None where there is none, or it does not say what went wrong."""
    for cause in causes_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _of_verification(getattr(cause, "verify_code", 0))
        found = _of_handshake(cause) if isinstance(cause, ssl.SSLError) else None
        if found is not None:
            return found
    return None


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, from the last to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_verification(code: int) -> TlsCause:
    if code == _NOT_YET_VALID:
        return TlsCause.PEER_NOT_YET_VALID
    if code == _EXPIRED:
        return TlsCause.PEER_EXPIRED
    return TlsCause.PEER_HAS_OTHER_NAME if code in _OTHER_NAME else TlsCause.PEER_NOT_TRUSTED


def _of_handshake(error: ssl.SSLError) -> TlsCause | None:
    # An error that Python itself raises has neither a reason nor a library. With TLS 1.3 the server's refusal
    # arrives only after the handshake.
    reason = str(getattr(error, "reason", ""))
    if "_ALERT_" in reason and any(word in reason for word in _REFUSALS):
        return TlsCause.CERTIFICATE_REFUSED
    if reason in NO_TLS:
        return TlsCause.NO_TLS
    return TlsCause.BAD_FILE if getattr(error, "library", "") in _BAD_FILE else None
