"""Registries in memory and a client of them; calls block, so these tests have no event loop."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.oci.repository import Repository
from controller.registry.registries import Registries
from controller.threads import Cancellation
from reconcile.lrps import Credentials, Secret
from reconcile.references import parse_image_reference
from tests.simulators import registry as registries
from tests.simulators.registry import RegistrySimulator

AT_ONCE = Retries(attempts=3, first_wait=0.0, longest_wait=0.0)
PATIENT = Timeouts(connect=60.0, idle=60.0)
MARKER = Credentials("alice", Secret("marker-password"))

OpenRepository = Callable[..., Repository]


@pytest.fixture
def registry(servers: None) -> Iterator[RegistrySimulator]:
    with registries.serve() as simulator:
        yield simulator


@pytest.fixture
def other(servers: None) -> Iterator[RegistrySimulator]:
    """Another origin."""
    with registries.serve() as simulator:
        yield simulator


@pytest.fixture
def client(registry: RegistrySimulator) -> Iterator[Registries]:
    opened = Registries(
        {registry.address: RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),))},
        timeouts=PATIENT,
        retries=AT_ONCE,
    )
    yield opened
    opened.close()


@pytest.fixture
def cancellation() -> Cancellation:
    return Cancellation()


@pytest.fixture
def open_repository(
    client: Registries, registry: RegistrySimulator, cancellation: Cancellation
) -> OpenRepository:
    def opened(name: str = "team/app:1", credentials: Credentials | None = None) -> Repository:
        image = parse_image_reference(f"{registry.address}/{name}")
        return client.repository(image, credentials, cancellation)

    return opened
