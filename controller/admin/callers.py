"""Names the caller of the admin API by the subject of its verified certificate."""

from typing import Any

import grpc.aio
from cryptography import x509


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Name the caller by its certificate, or by its address where there is no TLS."""
    certificates = context.auth_context().get("x509_pem_cert") or []
    for content in certificates:
        subject = x509.load_pem_x509_certificate(content).subject.rfc4514_string()
        return subject or "a certificate without a subject"
    return f"without TLS, {context.peer()}"
