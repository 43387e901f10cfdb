# ruff: noqa: N802 - names carry the numbers of known bugs
"""What a host says about its limits is heard by all who ask as the same one; virtual time."""

from email.message import Message
from ipaddress import ip_network

import pytest

from controller.registry.http.backoff_state import BackoffState, BackoffStates, RequiredDelay
from controller.registry.http.refusals import parse_remaining
from controller.registry.http.settings import RegistrySettings, Retries
from controller.registry.oci.request_observer import NullRequestObserver
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation
from reconcile.errors import RateLimited, Unavailable
from reconcile.health import Exchange
from reconcile.references import parse_image_reference
from tests.controller.registry.conftest import MARKER, PATIENT, OpenRepository
from tests.controller.registry.http.test_rate_limiter import Clock
from tests.simulators import images
from tests.simulators.registry import Refuse, RegistrySimulator, WithHeaders
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backoff(clock: Clock) -> BackoffState:
    return BackoffState(10, clock)


@pytest.fixture(autouse=True)
def stored(registry: RegistrySimulator) -> None:
    registry.store.add_manifest(
        "team/app", "1", StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    )


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("status", "given", "seconds", "reason"),
    [
        (429, {"Retry_After": "60"}, 60.0, "limited"),
        (429, {"Retry_After": "21600"}, 21600.0, "limited"),
        (429, {"Retry_After": "999999"}, 86400.0, "limited"),
        (429, {"Retry_After": "soon"}, 5.0, "limited"),
        (429, {"Retry_After": "-5"}, 5.0, "limited"),
        (429, {"Retry_After": "1.5"}, 5.0, "limited"),
        (429, {}, 5.0, "limited"),
        (503, {"Retry_After": "7"}, 7.0, "unavailable"),
        (503, {}, 0.0, ""),
        (500, {"Retry_After": "7"}, 0.0, ""),
        (200, {"Retry_After": "7"}, 0.0, ""),
        (429, {"Retry_After": "0"}, 5.0, "limited"),
        (429, {"Retry_After": "Mon, 01 Jan 2024 00:00:00 GMT"}, 5.0, "limited"),
        (503, {"Retry_After": "0"}, 0.0, ""),
    ],
)
def test_E2_a_host_is_left_alone_for_as_long_as_it_asks(
    backoff: BackoffState, clock: Clock, status: int, given: dict[str, str], seconds: float, reason: str
) -> None:
    backoff.observe(status, headers(**given))

    assert backoff.delay(is_pull=False) == RequiredDelay(seconds, reason)
    clock.now += seconds
    assert backoff.delay(is_pull=False) == RequiredDelay()


def test_E8_a_host_that_names_no_time_is_left_alone_for_longer_each_time(
    backoff: BackoffState, clock: Clock
) -> None:
    waits = []
    for _ in range(9):
        backoff.observe(429, headers())
        waits.append(backoff.delay(is_pull=False).seconds)
        clock.now += waits[-1]

    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    backoff.observe(200, headers())
    backoff.observe(429, headers())
    assert backoff.delay(is_pull=False).seconds == 5.0


def test_a_host_that_names_a_second_for_ever_is_asked_ever_more_seldom(
    backoff: BackoffState, clock: Clock
) -> None:
    waits = []
    for _ in range(8):
        backoff.observe(429, headers(Retry_After="1"))
        waits.append(backoff.delay(is_pull=False).seconds)
        clock.now += waits[-1]

    assert waits == [1.0, 1.0, 1.0, 5.0, 10.0, 20.0, 40.0, 80.0]


def test_many_requests_that_are_refused_at_once_are_one_refusal(backoff: BackoffState) -> None:
    for _ in range(8):
        backoff.observe(429, headers())

    assert backoff.delay(is_pull=False).seconds == 5.0


@pytest.mark.parametrize("left", ["0;w=21600", "-472;w=21600", "0"])
def test_E5_nothing_left_stops_planned_pulls(backoff: BackoffState, left: str) -> None:
    """216 seconds are what 100 pulls in six hours come to."""
    backoff.observe(200, headers(RateLimit_Limit="100;w=21600", RateLimit_Remaining=left))

    assert backoff.delay(is_pull=True) == RequiredDelay(216.0, "few-pulls-left")
    assert backoff.delay(is_pull=False) == RequiredDelay()


@pytest.mark.parametrize(
    ("text", "left"),
    [("-472;w=21600", 0), ("0;w=1", 0), ("76;w=21600", 76), ("x", None), ("", None), (None, None)],
)
def test_E5_a_negative_rest_is_none(text: str | None, left: int | None) -> None:
    assert parse_remaining(text) == left


def test_E4_few_pulls_left_are_spread(backoff: BackoffState, clock: Clock) -> None:
    began, limit = clock.now, "100;w=21600"
    backoff.observe(200, headers(RateLimit_Limit=limit, RateLimit_Remaining="11;w=21600"))
    assert backoff.delay(is_pull=True) == RequiredDelay()

    for left in range(10, 0, -1):
        backoff.observe(200, headers(RateLimit_Limit=limit, RateLimit_Remaining=f"{left};w=21600"))
        clock.now += backoff.delay(is_pull=True).seconds
        assert backoff.delay(is_pull=True) == RequiredDelay()

    assert clock.now - began == pytest.approx(10 * 216.0)
    backoff.observe(200, headers(RateLimit_Limit=limit, RateLimit_Remaining="90;w=21600"))
    assert backoff.delay(is_pull=True) == RequiredDelay()


def test_the_floor_of_a_small_limit_is_small(backoff: BackoffState) -> None:
    backoff.observe(200, headers(RateLimit_Limit="20;w=3600", RateLimit_Remaining="3;w=3600"))

    assert backoff.delay(is_pull=True) == RequiredDelay()


def test_each_identity_has_a_pace_of_its_own() -> None:
    states = BackoffStates()

    assert states.of(("r.example", None)) is states.of(("r.example", None))
    assert states.of(("r.example", None)) is not states.of(("r.example", MARKER))
    assert states.of(("r.example", None)) is not states.of(("s.example", None))


# Through the client


def test_E8_nobody_asks_a_host_that_wants_quiet(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Refuse(429, headers={"Retry-After": "21600"}))

    waits = []
    for name in ("team/app:1", "team/other:1", "team/app:1"):
        with pytest.raises(RateLimited) as limited:
            open_repository(name).fetch_manifest("1")
        waits.append(limited.value.retry_after)

    assert len(registry.requests) == 1
    assert waits == [pytest.approx(21600.0, abs=5.0)] * 3


@pytest.mark.parametrize("past", ["0", "Mon, 01 Jan 2024 00:00:00 GMT"])
def test_a_host_that_refuses_and_names_a_time_that_is_over_is_left_alone_all_the_same(
    registry: RegistrySimulator, open_repository: OpenRepository, past: str
) -> None:
    registry.fail("GET", "manifests", Refuse(429, headers={"Retry-After": past}), times=None)

    waits = []
    for _ in range(100):
        with pytest.raises(RateLimited) as limited:
            open_repository().fetch_manifest("1")
        waits.append(limited.value.retry_after or 0.0)

    assert len(registry.requests) <= 2
    assert min(waits[1:]) > 0.0
    assert max(waits[1:]) <= 10.0


def test_P17_the_date_of_a_503_is_honoured(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "manifests", Refuse(503, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}))

    for _ in range(2):
        with pytest.raises(Unavailable) as unavailable:
            open_repository().fetch_manifest("1")
        assert not isinstance(unavailable.value, RateLimited)
        assert unavailable.value.retry_after == pytest.approx(86400.0, abs=5.0)

    assert len(registry.requests) == 1


def test_P17_a_short_503_is_waited_for(registry: RegistrySimulator) -> None:
    registry.fail("GET", "manifests", Refuse(503, headers={"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}))
    client = Registries(
        {registry.address: RegistrySettings(plain_http=True, any_address=True)},
        timeouts=PATIENT,
        retries=Retries(first_wait=0.0),
    )
    image = parse_image_reference(f"{registry.address}/team/app:1")

    assert client.repository(image, None, Cancellation()).fetch_manifest("1").raw == SAMPLE.manifest.content

    assert len(registry.requests) == 2
    client.close()


class Rests(NullRequestObserver):
    """Notes what registries say of their rate limits."""

    def __init__(self) -> None:
        self.stated_rests = list[tuple[str, int]]()

    def stated(self, exchange: Exchange, left: int) -> None:
        self.stated_rests.append((exchange.registry, left))


def test_E4_a_rest_that_is_low_parks_the_next_pull_and_nothing_else(registry: RegistrySimulator) -> None:
    low = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "1;w=21600"}
    registry.fail("GET", "manifests", WithHeaders(low))
    client = Registries(
        {registry.address: RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),))},
        policy=ClientPolicy(rate_limit_floor=10, observer=(observer := Rests())),
    )
    repository = client.repository(
        parse_image_reference(f"{registry.address}/team/app:1"), None, Cancellation()
    )
    repository.fetch_manifest("1")
    assert observer.stated_rests == [(registry.address, 1)]

    with pytest.raises(RateLimited) as limited:
        repository.fetch_manifest("1")

    assert limited.value.retry_after == pytest.approx(216.0, abs=5.0)
    assert repository.head_manifest("1").digest is not None
    assert registry.count("GET") == 1
    client.close()
