"""Calls the daemon's admin API as a command would, with the certificate of the commands."""

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

from controller.admin.rows import Row
from controller.admin.unhealthy_text import describe_outage, describe_unhealthy
from controller.config import Config
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.doctor.handshake import ClosedInHandshakeError, grpc_tls, hangs_up, split_address
from controller.doctor.tls import TlsKeys, tls_advice
from reconcile.errors import DockerCacheError, ErrorCode, Invalid

if TYPE_CHECKING:
    from controller.admin.admin_client import ClientTls

ADMIN = "admin"

TIMEOUT = 4.0
"""Seconds for the connection, and again for the call."""

_KEYS = TlsKeys(
    "admin_address or admin_server_name", ca="admin_ca_cert_file", certificate="admin_client_cert_file"
)
_NO_CLIENT = (
    "name a certificate and its key in admin_client_cert_file and admin_client_key_file, "
    "or leave it so if no command is to run on this machine"
)
_ON_HANG_UP = f"check {_KEYS.certificate}: a daemon that does not trust it may hang up without a word"
_ON_CLOSED = (
    "check that the daemon runs: a proxy before one that is gone, at admin_address, closes connections so"
)
_NO_DAEMON = "start it, or check that admin_address is right"


async def check_admin(config: Config) -> Findings:
    """Call the daemon if there is an admin address; it is no problem that no daemon runs."""
    address = config.admin_address
    if address is None:
        return
    if (reason := await _reason_not_reached(address)) is not None:
        yield warning(ADMIN, f"no daemon listens at {address}: {reason}", _NO_DAEMON)
        return
    from controller.admin.admin_client import open_client  # noqa: PLC0415 - gRPC costs a tenth of a second

    tls = _client_files(config)
    if tls is None and not config.admin_without_tls:
        text = f"a daemon listens at {address}, and was not called: there is no admin_client_cert_file"
        yield warning(ADMIN, text, _NO_CLIENT)
        return
    try:
        context = None if tls is None else await asyncio.to_thread(grpc_tls, tls)
    except Invalid as error:
        yield _about_files(error, address)
        return
    try:
        async with asyncio.timeout(TIMEOUT), open_client(address, tls) as client:
            status = await client.status()
    except TimeoutError:
        advice = "check that the daemon is not overloaded: its log says what it does"
        yield problem(ADMIN, f"{address} did not answer a call within {TIMEOUT:g} s", advice)
    except DockerCacheError as error:
        found = None if context is None else await _tls_problem(address, context, config.admin_server_name)
        advice = "check that admin_address leads to this program's daemon, and that it has this version"
        yield found or problem(ADMIN, str(error), advice)
    else:
        obstacle = f": {status['obstacle']}" if status["obstacle"] else ""
        yield ok(ADMIN, f"the daemon at {address} answers a call{obstacle}")
        if status["database_outage"] is not None:
            yield _about_database(status["database_outage"])
        for row in status["unhealthy_registries"]:
            yield _about_registry(row)


def _about_database(row: Row) -> Finding:
    """Pass on that the daemon's database is away: it may be so from its machine alone."""
    text = f"the daemon says: its database is {describe_outage(row, _since(row))}"
    advice = (
        "follow what database says above; where that finds nothing, look between the daemon and the server"
    )
    return problem(ADMIN, text, advice)


def _about_registry(row: Row) -> Finding:
    """Pass on what the daemon knows of a registry that is unhealthy."""
    name, text = describe_unhealthy(row, _since(row))
    if row["private"]:
        return problem(ADMIN, f"the daemon says: {name}: {text}", "follow what cache-registry says above")
    advice = "ask whoever runs it; the daemon tries again by itself"
    return warning(ADMIN, f"the daemon says: {name}: {text}", advice)


def _since(row: Row) -> str:
    return time.strftime("since %Y-%m-%d %H:%M:%S UTC", time.gmtime(row["since"] or 0.0))


def _client_files(config: Config) -> "ClientTls | None":
    """Name the files that commands call with; None where there are none."""
    from controller.admin.admin_client import ClientTls  # noqa: PLC0415

    ca, cert, key = config.admin_ca_cert_file, config.admin_client_cert_file, config.admin_client_key_file
    if config.admin_without_tls or ca is None or cert is None or key is None:
        return None
    return ClientTls(ca, cert, key, config.admin_server_name)


async def _reason_not_reached(address: str) -> str | None:
    """Open a connection and close it; say what failed, None where nothing did."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return "the connection was refused"
    except TimeoutError:
        return f"no connection within {TIMEOUT:g} s"
    except (OSError, OverflowError, UnicodeError) as error:
        return str(error)
    writer.transport.abort()
    return None


def _about_files(error: Invalid, address: str) -> Finding:
    if error.code == ErrorCode.UNREADABLE_FILE:
        advice = "check that whoever runs commands can read it, and run doctor as that user"
        return warning(ADMIN, f"{address} was not called: {error.detail}", advice)
    return problem(ADMIN, str(error), f"check {_KEYS.ca}, {_KEYS.certificate} and admin_client_key_file")


async def _tls_problem(address: str, context: ssl.SSLContext, server_name: str | None) -> Finding | None:
    """Shake hands with the daemon once more, since gRPC does not say which certificate was at fault.

    Returns:
        What was at fault; None where TLS was not.
    """
    try:
        hung_up = await hangs_up(address, context, limit=TIMEOUT, server_name=server_name)
    except TimeoutError:
        return None
    except ClosedInHandshakeError:
        return problem(ADMIN, f"{address} closed the connection during the TLS handshake", _ON_CLOSED)
    except OSError as error:
        advice = tls_advice(error, _KEYS) or _ON_HANG_UP
        return problem(ADMIN, f"the TLS handshake with {address} failed: {error}", advice)
    return problem(ADMIN, f"{address} broke the connection off", _ON_HANG_UP) if hung_up else None
