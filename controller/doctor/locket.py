"""Asks Locket who holds the lock, with the certificate of the daemon; the lock is not touched."""

import asyncio
import ssl

from controller.config import Config
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.doctor.handshake import ClosedInHandshakeError, grpc_tls, hangs_up
from controller.doctor.tls import TlsKeys, tls_advice
from controller.leadership.ports import Holder
from controller.mutual_tls import MutualTls
from reconcile.errors import DockerCacheError, Invalid

LOCKET = "locket"

TIMEOUT = 4.0
"""Seconds for the connection, and again for the call."""

_KEYS = TlsKeys("locket_address", ca="locket_ca_cert_file", certificate="locket_client_cert_file")
_NO_LOCKET = "check locket_address, that Locket runs there, and that this machine can reach it"
_ON_HANG_UP = f"check {_KEYS.certificate}: a Locket that does not trust it may hang up without a word"
_ON_CLOSED = (
    "check that Locket runs: a proxy before one that is gone, at locket_address, closes connections so"
)
_NO_ANSWER = "check that Locket and its database are not overloaded: the log of Locket says more"


async def check_locket(config: Config) -> Findings:
    """Look up who holds the lock, if the config names a Locket."""
    address = config.locket_address
    tls = None if address is None else _files_of(config)
    if address is None or tls is None:
        return
    try:
        context = await asyncio.to_thread(grpc_tls, tls)
    except Invalid as error:
        yield problem(LOCKET, str(error), f"check {_KEYS.ca}, {_KEYS.certificate} and locket_client_key_file")
        return
    if (found := await _connection_problem(address, context)) is not None:
        yield found
        return
    try:
        holder = await _find_holder(config, address, tls)
    except DockerCacheError as error:
        yield problem(LOCKET, str(error), _NO_ANSWER)
    else:
        yield judge_holder(address, holder, config.uuid)


def judge_holder(address: str, holder: Holder | None, instance_id: str | None) -> Finding:
    """Report who holds the lock."""
    if holder is None:
        return ok(LOCKET, f"{address} answers; nobody holds the lock, so no instance is active")
    if holder.note is None:
        advice = "find out which program this is: while it holds the lock, no instance becomes active"
        return warning(LOCKET, f"{address} answers; another program holds the lock: {holder.owner}", advice)
    whose = " (this one)" if holder.note.instance_id == instance_id else ""
    return ok(LOCKET, f"{address} answers; {holder} holds the lock{whose}")


def _files_of(config: Config) -> MutualTls | None:
    ca, cert = config.locket_ca_cert_file, config.locket_client_cert_file
    key = config.locket_client_key_file
    return None if ca is None or cert is None or key is None else MutualTls(ca, cert, key)


async def _find_holder(config: Config, address: str, tls: MutualTls) -> Holder | None:
    from controller.locket.client import open_locket  # noqa: PLC0415 - gRPC costs a tenth of a second
    from controller.locket.connections import KeepAlive  # noqa: PLC0415
    from controller.locket.lock import LocketLock  # noqa: PLC0415

    keep_alive = KeepAlive(config.locket_client_keepalive_time, config.locket_client_keepalive_timeout)
    async with open_locket(address, tls, keep_alive) as client:
        return await LocketLock(client, ttl=int(config.lock_ttl), retry_interval=TIMEOUT).find_holder()


async def _connection_problem(address: str, context: ssl.SSLContext) -> Finding | None:
    """Shake hands with Locket.

    Returns:
        What is at fault; None where nothing is.
    """
    try:
        hung_up = await hangs_up(address, context, limit=TIMEOUT)
    except TimeoutError:
        return problem(LOCKET, f"{address} did not answer a connection within {TIMEOUT:g} s", _NO_LOCKET)
    except ClosedInHandshakeError:
        return problem(LOCKET, f"{address} closed the connection during the TLS handshake", _ON_CLOSED)
    except (OSError, OverflowError, UnicodeError) as error:
        advice = tls_advice(error, _KEYS)
        if advice is None and isinstance(error, ssl.SSLError):
            advice = _ON_HANG_UP
        what = "cannot be reached" if advice is None else "broke the TLS handshake off"
        return problem(LOCKET, f"{address} {what}: {error}", advice or _NO_LOCKET)
    return problem(LOCKET, f"{address} broke the connection off", _ON_HANG_UP) if hung_up else None
