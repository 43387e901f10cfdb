"""Requests to registries are counted once each, by registry and by how they ended."""

import pytest

from controller.counted_requests import CountedRequests
from controller.health import HealthStates
from controller.metrics import Metrics
from reconcile.errors import Denied, DockerCacheError, NotFound, RateLimited, Unavailable
from reconcile.health import Exchange, Failure, RegistryUse

CACHE, HUB = "cache.example:8080", "docker.io"


class Scene:
    """Requests, their counts, and the health that they show."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.metrics.registries.configure(CACHE, [HUB])
        self.health = HealthStates(CACHE, [HUB])
        self.requests = CountedRequests(self.health, self.metrics.registries)

    def count(self, name: str, registry: str, **labels: str) -> float | None:
        side = "private" if registry == CACHE else "source"
        return self.metrics.registry.get_sample_value(
            f"docker_cache_registry_{name}_total", {"registry": registry, "side": side, **labels}
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def exchange(registry: str, use: RegistryUse = RegistryUse.PULL) -> Exchange:
    return Exchange(registry, "team/web", use)


def test_a_request_that_went_well_counts_and_is_no_error(scene: Scene) -> None:
    scene.requests.answered(exchange(CACHE, RegistryUse.PUSH), 5)
    scene.requests.answered(exchange(HUB), None)

    assert scene.count("requests", CACHE, use="push") == 1
    assert scene.count("requests", HUB, use="pull") == 1
    assert scene.count("errors", HUB, kind="timeout") == 0
    assert scene.health.sources[HUB].is_served


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Unavailable("registry", "timeout", "no answer"), 0, "timeout"),
        (Unavailable("registry", "HTTP 503", "sorry"), 503, "unavailable"),
        (Denied("registry", "DENIED", "no"), 403, "denied"),
    ],
)
def test_a_request_that_failed_counts_with_its_kind(
    scene: Scene, error: DockerCacheError, status: int, kind: str
) -> None:
    scene.requests.failed(exchange(CACHE), Failure(error, status=status))

    assert scene.count("requests", CACHE, use="pull") == 1
    assert scene.count("errors", CACHE, kind=kind) == 1
    assert scene.health.private.pull.is_suspect


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (NotFound("registry", "MANIFEST_UNKNOWN", "gone"), 404, "not-found"),
        (RateLimited("registry", "TOOMANYREQUESTS", "later"), 429, "rate-limited"),
    ],
)
def test_a_response_that_is_a_failure_only_to_its_reader_counts_as_one_request(
    scene: Scene, error: DockerCacheError, status: int, kind: str
) -> None:
    """The response is noted when it comes, and what it means when it is read."""
    scene.requests.answered(exchange(HUB), None)
    scene.requests.failed(exchange(HUB), Failure(error, status=status))

    assert scene.count("requests", HUB, use="pull") == 1
    assert scene.count("errors", HUB, kind=kind) == 1


def test_hosts_that_never_served_an_image_count_together(scene: Scene) -> None:
    for number in range(3):
        unknown = Unavailable("registry", "unknown-host", "no such host")
        scene.requests.failed(exchange(f"r{number}.example"), Failure(unknown))

    assert scene.count("requests", "other", use="pull") == 3
    assert scene.count("errors", "other", kind="unknown-host") == 3


def test_what_is_left_of_a_rate_limit_is_shown_as_it_was_stated_last(scene: Scene) -> None:
    scene.requests.stated(exchange(HUB), 100)
    scene.requests.stated(exchange(HUB), 99)
    scene.requests.stated(exchange("unheard.example"), 1)
    left = [
        (sample.labels["registry"], sample.value)
        for family in scene.metrics.registry.collect()
        if family.name == "docker_cache_registry_rate_limit_remaining"
        for sample in family.samples
    ]

    assert left == [(HUB, 99)]
