"""Opens HTTP clients for the control plane, with mutual TLS, connection limits and timeouts.

Calls and event streams have separate connection pools, so that streams, which stay open for weeks, never
take a connection from a call.
"""

import os
import socket
import ssl
from pathlib import Path

import httpx

from reconcile.errors import ErrorCode, Invalid

CONNECT_TIMEOUT = 5.0  # seconds, for all addresses of a name together
IDLE_CONNECTIONS = 32  # as many as may be open: a handshake costs more than the call
IDLE_EXPIRY = 90.0  # seconds
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""An event stream may be silent forever; keep-alive finds out within a minute that its peer is gone."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "diego-docker-cache"}


def client_tls(ca_file: str | Path, *, cert_file: str | Path, key_file: str | Path) -> ssl.SSLContext:
    """Make a context that trusts one authority, presents one certificate and checks the peer's name.

    Raises:
        Invalid: A file is missing, unreadable or not in the right format; the detail names it.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.hostname_checks_common_name = False
    try:
        tls.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise Invalid("config", "bad-certificate", f"{ca_file}: it holds no CA certificate") from error
    except OSError as error:
        raise _unreadable(error, ca_file) from error
    try:
        tls.load_cert_chain(cert_file, key_file, password="")  # an encrypted key fails instead of asking
    except ssl.SSLError as error:
        detail = f"{cert_file} and {key_file}: not a certificate and its unencrypted key"
        raise Invalid("config", "bad-certificate", detail) from error
    except OSError as error:
        raise _unreadable(error, cert_file, key_file) from error
    return tls


def open_calls(base_url: str, *, tls: ssl.SSLContext, timeout: float) -> httpx.AsyncClient:
    """Open a client for calls.

    The timeout, in seconds, starts again with each piece that is sent or received; the caller limits the
    total time of a call. The client tries every address of the host name in turn.
    """
    limits = httpx.Limits(
        max_connections=32, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=IDLE_EXPIRY
    )
    timeouts = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
    return _client(base_url, tls=tls, limits=limits, timeouts=timeouts)


def open_streams(base_url: str, *, tls: ssl.SSLContext) -> httpx.AsyncClient:
    """Open a client for event streams, which may be silent forever once they are open."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return _client(base_url, tls=tls, limits=limits, timeouts=httpx.Timeout(CONNECT_TIMEOUT, read=None))


def _client(
    base_url: str, *, tls: ssl.SSLContext, limits: httpx.Limits, timeouts: httpx.Timeout
) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        verify=tls, limits=limits, trust_env=False, socket_options=KEEP_ALIVE
    )
    return httpx.AsyncClient(
        base_url=base_url,
        transport=transport,
        timeout=timeouts,
        headers=_HEADERS,
        follow_redirects=False,
        trust_env=False,
    )


def _unreadable(error: OSError, *files: str | Path) -> Invalid:
    # OpenSSL does not say which file it could not open.
    at_fault = [str(file) for file in files if not os.access(file, os.R_OK)] or map(str, files)
    return Invalid("config", ErrorCode.UNREADABLE_FILE, f"{', '.join(at_fault)}: {error.strerror}")
