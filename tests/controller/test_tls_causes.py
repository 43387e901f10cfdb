import ssl

import pytest

from controller.tls_causes import TlsCause, causes_of, tls_cause_of


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def handshake(library: str, reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.library, error.reason = library, reason
    return error


def behind(cause: BaseException) -> Exception:
    """Make an error as adapters raise it, with what happened as the cause of its cause."""
    error, between = RuntimeError("failed"), OSError("in between")
    error.__cause__, between.__context__ = between, cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (verification(9), TlsCause.PEER_NOT_YET_VALID),
        (verification(10), TlsCause.PEER_EXPIRED),
        (verification(18), TlsCause.PEER_NOT_TRUSTED),
        (verification(20), TlsCause.PEER_NOT_TRUSTED),
        (verification(62), TlsCause.PEER_HAS_OTHER_NAME),
        (verification(64), TlsCause.PEER_HAS_OTHER_NAME),
        (handshake("SSL", "TLSV1_ALERT_UNKNOWN_CA"), TlsCause.CERTIFICATE_REFUSED),
        (handshake("SSL", "TLSV13_ALERT_CERTIFICATE_REQUIRED"), TlsCause.CERTIFICATE_REFUSED),
        (handshake("SSL", "SSLV3_ALERT_HANDSHAKE_FAILURE"), TlsCause.CERTIFICATE_REFUSED),
        (handshake("SSL", "WRONG_VERSION_NUMBER"), TlsCause.NO_TLS),
        (handshake("X509", "KEY_VALUES_MISMATCH"), TlsCause.BAD_FILE),
        (handshake("PEM", "NO_START_LINE"), TlsCause.BAD_FILE),
        (handshake("SSL", "TLSV1_ALERT_INTERNAL_ERROR"), None),
        (ssl.SSLError(1, "odd"), None),
        (ssl.SSLEOFError(8, "EOF"), None),
        (ConnectionRefusedError(), None),
    ],
)
def test_the_cause_is_found_wherever_it_is_in_the_chain(error: OSError, cause: TlsCause | None) -> None:
    assert tls_cause_of(error) is cause
    assert tls_cause_of(behind(error)) is cause


def test_an_error_that_says_nothing_does_not_hide_its_own_cause() -> None:
    outer = ssl.SSLError(1, "odd")
    outer.__cause__ = verification(10)

    assert tls_cause_of(outer) is TlsCause.PEER_EXPIRED
    assert [type(each) for each in causes_of(outer)] == [ssl.SSLError, ssl.SSLCertVerificationError]


def test_only_certificates_are_refused() -> None:
    assert {cause for cause in TlsCause if not cause.is_refusal} == {TlsCause.NO_TLS, TlsCause.BAD_FILE}
