"""Checks Cloud Controller and UAA with the calls that the daemon makes; no droplet is changed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

from controller.capi.client import CloudController
from controller.capi.scopes import ADMIN, claims_of, missing_scopes, needed_scopes
from controller.capi.uaa import UaaToken
from controller.capi_wiring import capi_settings, open_configured
from controller.config import Config
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.doctor.tls import TlsKeys, tls_advice
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, RateLimited
from reconcile.request_budget import StatedLimit

API = "cf-api"
UAA = "uaa"

TIMEOUT = 4.0
"""Seconds for one request, of which a check makes three or four."""

_AUDIENCE = "cloud_controller"
_KEYS = TlsKeys("cloud_controller_api_url", ca="cloud_controller_ca_cert_file", certificate="uaa_client_id")


@asynccontextmanager
async def open_api(config: Config) -> AsyncIterator[CloudController | None]:
    """Open a client of the API with the settings of the config; None where it names none.

    Raises:
        Invalid: A file of the config cannot be used.
    """
    settings = await asyncio.to_thread(capi_settings, config)
    if settings is None:
        yield None
        return
    limited = replace(settings, timeout=min(settings.timeout, TIMEOUT))
    async with open_configured(config, limited) as api:
        yield api


async def check_cloud_controller(config: Config) -> Findings:
    """Read the root of the API, get a token, look at its scopes, and read droplets with it."""
    try:
        async with open_api(config) as api:
            if api is None:
                return
            async for finding in _look_at(api, config):
                yield finding
    except DockerCacheError as error:
        yield problem(UAA if error.system == UAA else API, str(error), capi_advice(error))


async def _look_at(api: CloudController, config: Config) -> Findings:
    root = await api.fetch_root()
    version = f", version {root.version}" if root.version else ""
    yield ok(API, f"{config.cloud_controller_api_url} answers{version}")
    token = await api.fetch_token()
    yield ok(UAA, f"{root.uaa_url} gives a token to the client {config.uaa_client_id}")
    for finding in judge_token(token, updates=config.update_droplets):
        yield finding
    seen = await api.count_droplets()
    yield ok(API, f"the client can read droplets: {seen} staged ones are there")
    yield judge_limit(api.calls.gate.stated, config.cloud_controller_requests_per_hour)
    if not config.update_droplets:
        advice = "set it to true when Cloud Controller itself should start apps from their copies"
        yield warning(API, "update_droplets is false: no droplet is changed", advice)


def judge_token(token: UaaToken, *, updates: bool) -> Iterator[Finding]:
    """Report each scope that the daemon needs, and what is wrong with a token."""
    missing = missing_scopes(token.scopes, updates=updates)
    for scope in needed_scopes(updates=updates):
        if scope in missing:
            advice = f"add {scope} to the authorities of the client in UAA; its next token has it"
            yield problem(UAA, f"the token lacks {scope}", advice)
        else:
            yield ok(
                UAA, f"the token has {scope}" if scope in token.scopes else f"the token can do as {scope}"
            )
    audience = claims_of(token.text).get("aud")
    if audience is None:
        advice = "let UAA give tokens of the format jwt to this client: Cloud Controller reads no other"
        yield problem(UAA, "the token is no JWT with an audience", advice)
    elif _AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
        advice = f"give the client an authority that begins with {_AUDIENCE}."
        yield problem(UAA, f"the token is not meant for {_AUDIENCE}", advice)
    if ADMIN in token.scopes:
        advice = f"remove {ADMIN} from its authorities: {', '.join(needed_scopes(updates=updates))} will do"
        yield warning(UAA, "the client may do everything in Cloud Controller", advice)


def judge_limit(stated: StatedLimit | None, configured: int) -> Finding:
    """Report the limit of requests, and whether little of it is left."""
    if stated is None:
        text = f"the API states no limit of requests: {configured} an hour are kept to"
        return ok(API, text)
    text = f"the API allows the client {stated.limit} requests in an interval; {stated.remaining} are left"
    if stated.remaining == 0:
        advice = "use a UAA client that nothing else uses, or raise the limit of Cloud Controller"
        return warning(API, text, advice)
    return ok(API, text)


def capi_advice(error: DockerCacheError) -> str:
    """Say what to do about a failed request to Cloud Controller or UAA."""
    by_tls = tls_advice(error, _KEYS)
    if by_tls is not None:
        return by_tls
    match error:
        case Invalid(system="config"):
            return "correct the file or the address that is named here"
        case Denied(code=ErrorCode.UAA_CLIENT_REFUSED):
            return (
                "compare uaa_client_id and the secret with the client in UAA, and let it have the grant type "
                "client_credentials"
            )
        case Denied(code=ErrorCode.CLOUD_CONTROLLER_SCOPE_MISSING):
            return "add what is missing to the authorities of the client in UAA"
        case Denied(code=ErrorCode.CLOUD_CONTROLLER_TOKEN_REFUSED):
            return "check that the API uses this UAA, and compare the machines' clocks"
        case Invalid(code=ErrorCode.CLOUD_CONTROLLER_LINK_REFUSED):
            return "correct the address of UAA in Cloud Controller's own config"
        case Invalid(code=ErrorCode.CLOUD_CONTROLLER_QUERY_REFUSED):
            return "let Cloud Controller show more of its lists (cc.renderer.max_total_results)"
        case RateLimited():
            return "wait for the time that is named; use a UAA client that nothing else uses"
        case Invalid():
            return "check that cloud_controller_api_url is that of `cf api`"
        case _:
            return (
                "check that it is up and that this machine can reach it; copies and migrations go on without"
            )
