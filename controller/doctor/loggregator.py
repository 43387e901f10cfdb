"""Asks the Loggregator agent of this machine to take an empty batch, with the certificate of the daemon."""

import asyncio
import ssl

from controller.config import Config, LoggregatorConfig
from controller.doctor.findings import Finding, Findings, ok, warning
from controller.doctor.handshake import ClosedInHandshakeError, grpc_tls, hangs_up
from controller.doctor.tls import TlsKeys, tls_advice
from controller.mutual_tls import MutualTls
from reconcile.errors import DockerCacheError, Invalid

LOGGREGATOR = "loggregator"

TIMEOUT = 4.0
"""Seconds for the connection."""

_KEYS = TlsKeys("loggregator_api_port", ca="loggregator_ca_path", certificate="loggregator_cert_path")
_NO_AGENT = (
    "check that loggr-forwarder-agent runs on this machine, and loggregator_api_port: until then app "
    "developers read nothing of their images in `cf logs`, and nothing else is missing"
)
_ON_HANG_UP = f"check {_KEYS.certificate}: an agent that does not trust it may hang up without a word"


async def check_loggregator(config: Config) -> Findings:
    """Say whether the agent takes what the daemon sends, if it is to be told anything."""
    tls = _files_of(config.loggregator)
    if tls is None:
        return
    address = config.loggregator.address
    try:
        context = await asyncio.to_thread(grpc_tls, tls)
    except Invalid as error:
        keys = f"{_KEYS.ca}, {_KEYS.certificate} and loggregator_key_path"
        yield warning(LOGGREGATOR, str(error), f"check {keys}")
        return
    if (found := await _connection_problem(address, context)) is not None:
        yield found
        return
    try:
        await _send_nothing(address, tls)
    except DockerCacheError as error:
        yield warning(LOGGREGATOR, str(error), _NO_AGENT)
    else:
        yield ok(LOGGREGATOR, f"the agent at {address} takes log lines")


async def _send_nothing(address: str, tls: MutualTls) -> None:
    from controller.loggregator import Component, open_agent  # noqa: PLC0415 - gRPC costs a tenth of a second

    async with open_agent(address, tls, Component("doctor", "doctor", "")) as agent:
        await agent.send([])


def _files_of(agent: LoggregatorConfig) -> MutualTls | None:
    ca, cert, key = agent.loggregator_ca_path, agent.loggregator_cert_path, agent.loggregator_key_path
    if not agent.loggregator_use_v2_api or ca is None or cert is None or key is None:
        return None
    return MutualTls(ca, cert, key)


async def _connection_problem(address: str, context: ssl.SSLContext) -> Finding | None:
    """Shake hands with the agent.

    Returns:
        What is at fault; None where nothing is.
    """
    from controller.loggregator.connection import SERVER_NAME  # noqa: PLC0415 - as above

    try:
        hung_up = await hangs_up(address, context, limit=TIMEOUT, server_name=SERVER_NAME)
    except TimeoutError:
        text = f"{address} did not answer a connection within {TIMEOUT:g} s"
        return warning(LOGGREGATOR, text, _NO_AGENT)
    except ClosedInHandshakeError:
        text = f"{address} closed the connection during the TLS handshake"
        return warning(LOGGREGATOR, text, _NO_AGENT)
    except OSError as error:
        advice = tls_advice(error, _KEYS)
        if advice is None and isinstance(error, ssl.SSLError):
            advice = _ON_HANG_UP
        what = "cannot be reached" if advice is None else "broke the TLS handshake off"
        return warning(LOGGREGATOR, f"{address} {what}: {error}", advice or _NO_AGENT)
    return warning(LOGGREGATOR, f"{address} broke the connection off", _ON_HANG_UP) if hung_up else None
