"""What OpenSSL's words lead to; real handshakes are in the tests of each peer."""

import ssl

import pytest

from controller.doctor.tls import TlsKeys, tls_advice
from reconcile.errors import Unavailable

KEYS = TlsKeys("x.address", ca="x.ca_cert_file", certificate="x.client_cert_file")


def failed(cause: BaseException) -> Unavailable:
    """Fail as adapters do, with what happened as the cause of a cause."""
    error, between = Unavailable("registry", "connection", "https://x/"), OSError("in between")
    error.__cause__, between.__context__ = between, cause
    return error


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (9, "compare the machines' clocks"),
        (10, "renew the certificate of the server or the CA certificate in x.ca_cert_file"),
        (18, "to x.ca_cert_file"),
        (20, "to x.ca_cert_file"),
        (62, "use a name in x.address"),
        (64, "use a name in x.address"),
    ],
)
def test_a_certificate_that_is_not_believed(code: int, told: str) -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_code = code

    assert told in (tls_advice(failed(cause), KEYS) or "")


@pytest.mark.parametrize(
    ("library", "reason", "told"),
    [
        ("SSL", "TLSV1_ALERT_UNKNOWN_CA", "check x.client_cert_file"),
        ("SSL", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "check x.client_cert_file"),
        ("SSL", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "check x.client_cert_file"),
        ("SSL", "SSLV3_ALERT_HANDSHAKE_FAILURE", "check x.client_cert_file"),
        ("SSL", "WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("X509", "KEY_VALUES_MISMATCH", "check x.ca_cert_file and x.client_cert_file"),
        ("PEM", "NO_START_LINE", "check x.ca_cert_file and x.client_cert_file"),
    ],
)
def test_a_handshake_that_fails(library: str, reason: str, told: str) -> None:
    cause = ssl.SSLError(1, reason)
    cause.library, cause.reason = library, reason

    assert told in (tls_advice(failed(cause), KEYS) or "")


@pytest.mark.parametrize(
    "cause", [ConnectionRefusedError(), ssl.SSLError(1, "odd"), ssl.SSLEOFError(8, "EOF")]
)
def test_what_says_nothing_of_files_is_left_to_others(cause: OSError) -> None:
    assert tls_advice(failed(cause), KEYS) is None
