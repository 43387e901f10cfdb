"""Asks registries as the daemon does: the private one is pushed to and pulled from, sources are greeted.

Each request is made once and under short limits, so that what is said is what has just happened.
"""

from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from controller.config import Config, RegistryConfig
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
from controller.doctor.probe import Probe, make_probe
from controller.doctor.threads import in_own_thread
from controller.doctor.tls import TlsKeys, tls_advice
from controller.registry.http.request import Request
from controller.registry.http.settings import Retries, Timeouts
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.repository import Repository
from controller.registry.oci.session import Session
from controller.threads import Cancellation, Stopped
from controller.wiring import open_cells_view, open_registries
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable
from reconcile.images import DOCKER_HUB, CacheGuid, ImageReference, parse_image_reference

CACHE_REGISTRY = "cache-registry"
SOURCES = "sources"

ONCE = Retries(attempts=1)
TIMEOUTS = Timeouts(connect=4.0, idle=4.0, total=8.0, grace=8.0)

_REACHABLE = frozenset({200, 401})


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """The config keys of one registry, as advice names them.

    Attributes:
        login: Of user name and password.
    """

    tls: TlsKeys
    login: str


def keys_of(config: Config, registry: RegistryConfig) -> RegistryKeys:
    """Name the config keys of a registry that stands in the config, or might."""
    prefix = (
        "cache_registry"
        if registry is config.cache_registry
        else f"registries[{without_login(registry.address)}]"
    )
    login = f"{prefix}.username and {prefix}.password_file"
    if registry.username is None and config.registry_auth_file is not None:
        login = f"registry_auth_file, or set {login}"
    tls = TlsKeys(f"{prefix}.address", ca=f"{prefix}.ca_cert_file", certificate=f"{prefix}.client_cert_file")
    return RegistryKeys(tls, login)


def registry_advice(error: DockerCacheError, keys: RegistryKeys) -> str:
    """Say what to do about a request to a registry that failed."""
    by_tls = tls_advice(error, keys.tls)
    if by_tls is not None:
        return by_tls
    match error:
        case Invalid(code=ErrorCode.BAD_REGISTRY_ADDRESS) | Invalid(system="image"):
            return f"write {keys.tls.address} as images name it: host, and port if not 443, or docker.io"
        case Invalid(code=ErrorCode.BAD_AUTH_FILE):
            return "put registry_auth_file right"
        case Invalid(code=ErrorCode.ADDRESS_REFUSED):
            return "add its network to allowed_source_networks, if images may be copied from there"
        case Denied(code=ErrorCode.REALM_REFUSED):
            return "let the registry name a token server on its own host, over https"
        case Denied():
            return f"look at {keys.login}"
        case RateLimited():
            return f"wait until its limit allows requests again, or log in: {keys.login}"
        case Unavailable(code=ErrorCode.UNKNOWN_HOST):
            return f"see that the name in {keys.tls.address} is right, and that it resolves on this machine"
        case Unavailable():
            return f"see that it runs, that {keys.tls.address} is right, and that this machine may reach it"
        case _:
            return f"see that {keys.tls.address} and plain_http beside it are right; its log says more"


# The private registry


async def check_cache_registry(config: Config) -> Findings:
    """Push a tiny image to the private registry, pull it back as a cell does, and delete it."""
    try:
        findings = await in_own_thread(partial(_round_trip, config))
    except DockerCacheError as error:
        advice = registry_advice(error, keys_of(config, config.cache_registry))
        if isinstance(error, NotFound):
            advice = (
                "see that cache_registry.address is a registry; where it makes no repository on push, make "
                'one and name it in cache_repository_template, such as "docker-cache:{guid}"'
            )
        yield problem(CACHE_REGISTRY, f"pushing a test image: {error}", advice)
    else:
        for finding in findings:
            yield finding


def _round_trip(config: Config, cancellation: Cancellation) -> tuple[Finding, ...]:
    """Push, pull and delete.

    Raises:
        DockerCacheError: It could not be pushed; nothing is left of it as far as that can be.
    """
    probe = make_probe(config.cache_repositories)
    with closing(open_registries(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        repository = registries.repository(probe.image, None, cancellation)
        # Not to be cancelled: it cleans up behind what was.
        cleaner = registries.repository(probe.image, None, Cancellation())
        for blob, content in probe.blobs.items():
            repository.upload_blob(repository.start_upload(blob.digest), blob, [memoryview(content)])
        try:
            repository.push_manifest(probe.manifest, probe.image.version)
            pulled = _pull(config, probe, cancellation)
        except (DockerCacheError, Stopped):
            with suppress(DockerCacheError):
                cleaner.delete_manifest(probe.manifest.digest)
            raise
        return pulled, _delete(config, probe, cleaner)


def _pull(config: Config, probe: Probe, cancellation: Cancellation) -> Finding:
    keys = keys_of(config, config.cache_registry)
    with closing(open_cells_view(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        repository = registries.repository(probe.image, None, cancellation)
        try:
            pulled = repository.fetch_manifest(probe.image.version)
            for blob in probe.blobs:
                with read_blob(repository, blob, memoryview(bytearray(65536))) as reader:
                    for _ in reader.pieces():
                        pass  # the reader compares their digest
        except DockerCacheError as error:
            return problem(
                CACHE_REGISTRY,
                f"pulling the test image back as a cell does: {error}",
                _pull_advice(error, config, keys),
            )
    if pulled.raw != probe.manifest.raw:
        return problem(
            CACHE_REGISTRY,
            f"{probe.image} is not what was pushed: {pulled.digest} instead of {probe.manifest.digest}",
            "see what lies between this machine and the registry: it serves something else",
        )
    return ok(CACHE_REGISTRY, f"{probe.image} was pushed, and pulled back as a cell does")


def _pull_advice(error: DockerCacheError, config: Config, keys: RegistryKeys) -> str:
    if isinstance(error, Denied | NotFound):
        if config.cache_pull_username is None:
            return "set cache_pull_username and cache_pull_password_file: cells have no login without them"
        return "look at cache_pull_username and cache_pull_password_file"
    if isinstance(error, Invalid):
        return "see what lies between this machine and the registry: it changes what passes"
    return registry_advice(error, keys)


def _delete(config: Config, probe: Probe, repository: Repository) -> Finding:
    try:
        repository.delete_manifest(probe.manifest.digest)
    except DockerCacheError as error:
        text = f"{probe.image} was pushed for a test and stays: {error}"
        return warning(CACHE_REGISTRY, text, _deletion_advice(error, keys_of(config, config.cache_registry)))
    return ok(CACHE_REGISTRY, f"{probe.image} was deleted again")


def _deletion_advice(error: DockerCacheError, keys: RegistryKeys) -> str:
    match error:
        case Invalid(code=ErrorCode.UNSUPPORTED):
            return "evict needs deletion enabled in the registry (REGISTRY_STORAGE_DELETE_ENABLED=true)"
        case Denied():
            return f"evict needs a login that may delete: look at {keys.login}"
        case _:
            return f"evict needs deletion: {registry_advice(error, keys)}"


async def fetch_cache_date(config: Config) -> str | None:
    """Read what time the private registry says it is, as HTTP writes it; None when it says nothing of it."""
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
    """List the registries that images are copied from, each with what it means when it is out of reach.

    Docker Hub is one of them without being configured, and may well be out of reach on purpose.
    """
    configured = tuple((each, Level.PROBLEM) for each in config.registries)
    if any(each.address.lower() == DOCKER_HUB for each in config.registries):
        return configured
    return ((RegistryConfig(address=DOCKER_HUB), Level.WARNING), *configured)


async def check_source(config: Config, registry: RegistryConfig, level: Level) -> Findings:
    """Greet one registry that images are copied from, with the operator's login if there is one."""
    name = without_login(registry.address)
    try:
        image = _image_of(registry)
        answered = await in_own_thread(partial(_greet, config, image))
    except DockerCacheError as error:
        advice = registry_advice(error, keys_of(config, registry))
        if level is Level.WARNING:
            advice = f"{advice}; or leave it so, if no image is to come from {name}"
        yield finding_of(SOURCES, level, f"{name}: {error}", advice)
    else:
        yield ok(SOURCES, f"{name} {answered}")


def _image_of(registry: RegistryConfig) -> ImageReference:
    """Name an image of a registry.

    Raises:
        Invalid: No image reference names the registry like this, so its settings would never be used.
    """
    image = parse_image_reference(f"{registry.address}/doctor").canonical()
    if image.domain.lower() != registry.address.lower():
        detail = f"image references name this {image.domain}, and so these settings are never used"
        raise Invalid("config", ErrorCode.BAD_REGISTRY_ADDRESS, detail)
    return image


def _greet(config: Config, image: ImageReference, cancellation: Cancellation) -> str:
    """Ask a registry for its version, and say how it answered.

    Raises:
        DockerCacheError: It did not, or it refused the operator's login.
    """
    with closing(open_registries(config, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        session = registries.repository(image, None, cancellation).session
        try:
            with session.send(Request("GET", session.base), frozenset(), image.domain) as answer:
                if answer.status not in _REACHABLE or (answer.status == 401 and _has_login(session)):
                    raise session.error(answer, f"{session.base} (greeting)")
                answer.drain()
        except Denied as error:
            if _has_login(session) or error.code == ErrorCode.REALM_REFUSED:
                raise
            return "answers, and wants a login"  # its token server gives nothing to strangers
        return "answers, and wants a login" if answer.status == 401 else "answers"


def _has_login(session: Session) -> bool:
    return session.identity("").credentials is not None
