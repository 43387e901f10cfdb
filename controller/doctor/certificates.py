"""Checks every certificate file that the config names: how long it is valid, and whether its key fits.

The checks of the peers find out which peer trusts which certificate.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from controller.certificate_files import RENEW_WITHIN, CertificateFile, certificate_files
from controller.config import Config
from controller.doctor.findings import Finding, Findings, Level, finding_of, problem

CERTIFICATES = "certificates"

_RENEW = "renew it in time"


async def check_certificates(config: Config) -> Findings:
    """Check each file, in the order of the config's keys."""
    for file in certificate_files(config):
        for finding in await asyncio.to_thread(look_at_file, file, datetime.now(UTC)):
            yield finding


def look_at_file(file: CertificateFile, now: datetime) -> tuple[Finding, ...]:
    """Check the worst certificate of a file, and its key; blocks."""
    name = f"{file.name} {file.path}"
    try:
        certificates = x509.load_pem_x509_certificates(file.path.read_bytes())
        by_end = sorted(certificates, key=lambda each: each.not_valid_after_utc)
        judged = [_judge(each, now) for each in by_end]
    except OSError as error:
        return (_unreadable(file, name, error),)
    except (ValueError, x509.InvalidVersion):
        advice = "put one or more certificates in PEM into it"
        return (problem(CERTIFICATES, f"{name} cannot be read as certificates", advice),)
    level, text, advice = max(judged, key=lambda found: _SEVERITY[found[0]])
    others = f" (the worst of {len(certificates)} certificates)" if len(certificates) > 1 else ""
    about_file = finding_of(CERTIFICATES, level, f"{name}: {text}{others}", advice)
    return (about_file, *_look_at_key(file, certificates[0]))


def _unreadable(file: CertificateFile, name: str, error: OSError) -> Finding:
    who = "whoever runs commands" if file.is_for_commands else "the daemon's user"
    level = Level.WARNING if file.is_for_commands else Level.PROBLEM
    text = f"{name} cannot be read by this user: {error.strerror}"
    return finding_of(CERTIFICATES, level, text, f"give {who} read access to it")


_SEVERITY = {Level.OK: 0, Level.WARNING: 1, Level.PROBLEM: 2}


def _judge(certificate: x509.Certificate, now: datetime) -> tuple[Level, str, str]:
    subject = certificate.subject.rfc4514_string() or "a certificate without a subject"
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        return Level.PROBLEM, f"{subject} expired on {end:%Y-%m-%d %H:%M} UTC", "renew it"
    if begin > now:
        advice = "correct this machine's clock, or wait until then"
        return Level.PROBLEM, f"{subject} is not valid before {begin:%Y-%m-%d %H:%M} UTC", advice
    text = f"{subject}, {(end - now).days} days left"
    return (Level.WARNING, text, _RENEW) if end - now < RENEW_WITHIN else (Level.OK, text, "")


def _look_at_key(file: CertificateFile, certificate: x509.Certificate) -> Iterator[Finding]:
    path, name = file.key_path, f"{file.key_name} {file.key_path}"
    if path is None:
        return
    advice = f"put the key of the first certificate in {file.name} into it, in PEM and not encrypted"
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
        belongs = _public_bytes(private.public_key()) == _public_bytes(certificate.public_key())
    except OSError as error:
        yield _unreadable(file, name, error)
    except TypeError:  # cryptography raises it for an encrypted key
        yield problem(CERTIFICATES, f"{name} is encrypted", advice)
    except (ValueError, UnsupportedAlgorithm):
        yield problem(CERTIFICATES, f"{name} cannot be read as a key", advice)
    else:
        if not belongs:
            yield problem(CERTIFICATES, f"{name} does not belong to {file.name} {file.path}", advice)


def _public_bytes(key: CertificatePublicKeyTypes | PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
