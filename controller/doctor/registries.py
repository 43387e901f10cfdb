"""Checks the registries: pushes to the private one and pulls from it, and asks sources for their API version.

Each request has one attempt and short time limits.
"""

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from controller.config import Config, RegistryConfig, SourceRegistryConfig
from controller.doctor.droplet_pulls import pull_for_droplets
from controller.doctor.findings import (
    Finding,
    Findings,
    Level,
    finding_of,
    ok,
    problem,
    warning,
    without_login,
)
from controller.doctor.probe import ProbeImage, make_probe_image, read_probe
from controller.doctor.request_limits import ONCE, TIMEOUTS
from controller.doctor.threads import in_own_thread
from controller.doctor.tls import TlsKeys, tls_advice
from controller.registry.http.request import Request
from controller.registry.oci.repository import Repository
from controller.registry.oci.session import Session
from controller.threads import Cancellation, Stopped
from controller.wiring import open_cells_view, open_registries
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable
from reconcile.hosts import DOCKER_HUB, canonical_host
from reconcile.references import CacheGuid, ImageReference, parse_image_reference

CACHE_REGISTRY = "cache-registry"
SOURCES = "sources"

_REACHABLE = frozenset({200, 401})

_MAKE_ROOM = "give its storage more room, or evict copies and run its garbage collection"
_ADVICE_BY_CODE: Mapping[str, str] = {
    ErrorCode.DISK_FULL: _MAKE_ROOM,
    ErrorCode.NO_ECR_EXCHANGE: "install the extra ecr of this program, or name a credential helper",
    ErrorCode.QUOTA_EXCEEDED: _MAKE_ROOM,
    ErrorCode.READ_ONLY: "end its read-only maintenance, or name a registry that is no pull-through cache",
    ErrorCode.STORAGE_FAILED: "check the disk of the registry, and that it may write to its storage",
}


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """The config keys of one registry, as advice names them.

    Attributes:
        tls: Keys of its address and its certificates.
        login: Keys of user name and password.
        prefix: What stands before each of its keys.
    """

    tls: TlsKeys
    login: str
    prefix: str


def keys_of(config: Config, registry: RegistryConfig) -> RegistryKeys:
    """Name the config keys of a registry, whether the config has it or not."""
    prefix = (
        "cache_registry"
        if registry is config.cache_registry
        else f"registries[{without_login(registry.address)}]"
    )
    login = f"{prefix}.username and {prefix}.password_file"
    if registry.username is None and config.registry_auth_file is not None:
        login = f"registry_auth_file, or set {login}"
    tls = TlsKeys(f"{prefix}.address", ca=f"{prefix}.ca_cert_file", certificate=f"{prefix}.client_cert_file")
    return RegistryKeys(tls, login, prefix)


def registry_advice(error: DockerCacheError, keys: RegistryKeys) -> str:
    """Say what to do about a failed request to a registry."""
    by_code = tls_advice(error, keys.tls) or _ADVICE_BY_CODE.get(error.code) or _host_advice(error, keys)
    if by_code is not None:
        return by_code
    match error:
        case Invalid(code=ErrorCode.BAD_REGISTRY_ADDRESS) | Invalid(system="image"):
            return f"write {keys.tls.address} as image references do: host, and port if not 443, or docker.io"
        case Invalid(code=ErrorCode.BAD_AUTH_FILE):
            return "correct registry_auth_file"
        case Denied():
            return f"check {keys.login}"
        case RateLimited():
            return f"wait until its rate limit allows requests again, or set a login: {keys.login}"
        case Unavailable(code=ErrorCode.UNKNOWN_HOST):
            return f"check the name in {keys.tls.address}, and that it resolves on this machine"
        case Unavailable():
            return f"check that it runs, that {keys.tls.address} is right, and that this machine can reach it"
        case _:
            return f"check {keys.tls.address} and plain_http beside it; the log of the registry says more"


def _host_advice(error: DockerCacheError, keys: RegistryKeys) -> str | None:
    """Say what to do about a host that a registry is at, or leads to, and that may not be asked."""
    match error.code:
        case ErrorCode.ADDRESS_REFUSED:
            return f"add its network to {keys.prefix}.allowed_networks, if images may be copied from it"
        case ErrorCode.ORIGIN_REFUSED:
            return f"name the host in {keys.prefix}.other_hosts, if it belongs to this registry"
        case ErrorCode.REALM_REFUSED:
            return (
                "let the registry name a token server with https, on its own host or on one that "
                f"{keys.prefix}.other_hosts names"
            )
        case _:
            return None


# The private registry


async def check_cache_registry(config: Config) -> Findings:
    """Push a small image to the private registry, pull it as a cell does, and delete it."""
    try:
        findings = await in_own_thread(partial(_round_trip, config))
    except DockerCacheError as error:
        advice = registry_advice(error, keys_of(config, config.cache_registry))
        if isinstance(error, NotFound):
            advice = (
                "check that cache_registry.address is a registry; if it makes no repository on push, create "
                'one and name it in cache_repository_template, such as "docker-cache:{guid}"'
            )
        yield problem(CACHE_REGISTRY, f"pushing a test image: {error}", advice)
    else:
        for finding in findings:
            yield finding


def _round_trip(config: Config, cancellation: Cancellation) -> tuple[Finding, ...]:
    """Push, pull and delete.

    Raises:
        DockerCacheError: It could not be pushed; it was deleted again as far as possible.
    """
    probe = make_probe_image(config.cache_repositories)
    with closing(open_registries(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        repository = registries.repository(probe.reference, None, cancellation)
        # It cannot be cancelled: it deletes what a cancelled check pushed.
        cleaner = registries.repository(probe.reference, None, Cancellation())
        for blob, content in probe.blobs.items():
            repository.uploads.push(blob, content)
        try:
            repository.push_manifest(probe.manifest, probe.reference.tag_or_digest)
            pulled = (_pull(config, probe, cancellation), *pull_for_droplets(config, probe, cancellation))
        except (DockerCacheError, Stopped):
            with suppress(DockerCacheError):
                cleaner.delete_manifest(probe.manifest.digest)
            raise
        return *pulled, _delete(config, probe, cleaner)


def _pull(config: Config, probe: ProbeImage, cancellation: Cancellation) -> Finding:
    keys = keys_of(config, config.cache_registry)
    with closing(open_cells_view(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        repository = registries.repository(probe.reference, None, cancellation)
        try:
            pulled = read_probe(repository, probe)
        except DockerCacheError as error:
            return problem(
                CACHE_REGISTRY,
                f"pulling the test image as a cell does: {error}",
                _pull_advice(error, config, keys),
            )
    if pulled.raw != probe.manifest.raw:
        return problem(
            CACHE_REGISTRY,
            f"{probe.reference} is not what was pushed: {pulled.digest} instead of {probe.manifest.digest}",
            "check the proxies between this machine and the registry: one serves other content",
        )
    return ok(CACHE_REGISTRY, f"{probe.reference} was pushed, and pulled as a cell does")


def _pull_advice(error: DockerCacheError, config: Config, keys: RegistryKeys) -> str:
    if isinstance(error, Denied | NotFound):
        if config.cache_pull_username is None:
            return "set cache_pull_username and cache_pull_password_file: cells have no login without them"
        return "check cache_pull_username and cache_pull_password_file"
    if isinstance(error, Invalid):
        return "check the proxies between this machine and the registry: one changes content"
    return registry_advice(error, keys)


def _delete(config: Config, probe: ProbeImage, repository: Repository) -> Finding:
    try:
        repository.delete_manifest(probe.manifest.digest)
    except DockerCacheError as error:
        text = f"{probe.reference} was pushed for a test and could not be deleted: {error}"
        return warning(CACHE_REGISTRY, text, _deletion_advice(error, keys_of(config, config.cache_registry)))
    return ok(CACHE_REGISTRY, f"{probe.reference} was deleted again")


def _deletion_advice(error: DockerCacheError, keys: RegistryKeys) -> str:
    match error:
        case Invalid(code=ErrorCode.UNSUPPORTED):
            return "evict needs deletion enabled in the registry (REGISTRY_STORAGE_DELETE_ENABLED=true)"
        case Denied():
            return f"evict needs a login that may delete: check {keys.login}"
        case _:
            return f"evict needs to delete copies: {registry_advice(error, keys)}"


async def fetch_cache_date(config: Config) -> str | None:
    """Fetch the Date header of a response of the private registry; None where there is none."""
    return await in_own_thread(partial(_read_date, config))


def _read_date(config: Config, cancellation: Cancellation) -> str | None:
    image = config.cache_repositories.image(CacheGuid("00000000-0000-4000-8000-000000000000"))
    with closing(open_registries(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        session = registries.repository(image, None, cancellation).session
        with session.send_once(Request("GET", session.base), None) as answer:
            answer.drain()
            return answer.headers.get("Date")


# Sources


def sources_of(config: Config) -> tuple[tuple[RegistryConfig, Level], ...]:
    """List the source registries, each with the level of the finding that it cannot be reached.

    Docker Hub is one of them without being configured, and may be blocked on purpose.
    """
    configured = tuple((each, Level.PROBLEM) for each in config.registries)
    if any(canonical_host(each.address) == DOCKER_HUB for each in config.registries):
        return configured
    return ((SourceRegistryConfig(address=DOCKER_HUB), Level.WARNING), *configured)


async def check_source(config: Config, registry: RegistryConfig, level: Level) -> Findings:
    """Ask one source registry for its API version, with the operator's login if there is one."""
    name = without_login(registry.address)
    try:
        image = _image_of(registry)
        answered = await in_own_thread(partial(_greet, config, image))
    except DockerCacheError as error:
        advice = registry_advice(error, keys_of(config, registry))
        if level is Level.WARNING:
            advice = f"{advice}; or ignore this, if no image is copied from {name}"
        yield finding_of(SOURCES, level, f"{name}: {error}", advice)
    else:
        yield ok(SOURCES, f"{name} {answered}")


def _image_of(registry: RegistryConfig) -> ImageReference:
    """Make the reference of an image in a registry.

    Raises:
        Invalid: No image reference names the registry by this address, so its settings are never used.
    """
    image = parse_image_reference(f"{registry.address}/doctor").canonical()
    if canonical_host(image.domain) != canonical_host(registry.address):
        detail = f"image references name this registry {image.domain}, so these settings are never used"
        raise Invalid("config", ErrorCode.BAD_REGISTRY_ADDRESS, detail)
    return image


def _greet(config: Config, image: ImageReference, cancellation: Cancellation) -> str:
    """Ask a registry for its API version, and describe the response.

    Raises:
        DockerCacheError: It did not respond, or it refused the operator's login.
    """
    with closing(open_registries(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        session = registries.repository(image, None, cancellation).session
        try:
            with session.send(Request("GET", session.base), frozenset(), image.domain) as answer:
                if answer.status not in _REACHABLE or (answer.status == 401 and _has_login(session)):
                    raise session.error(answer, f"{session.base} (API version)")
                answer.drain()
        except Denied as error:
            if _has_login(session) or error.code == ErrorCode.REALM_REFUSED:
                raise
            return "answers, and requires a login"  # its token server gives no token without a login
        return "answers, and requires a login" if answer.status == 401 else "answers"


def _has_login(session: Session) -> bool:
    return session.identity("").credentials is not None
