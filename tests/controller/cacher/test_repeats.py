"""How long an LRP waits that asks for the same copy again and again."""

from dataclasses import dataclass, replace

import pytest

from controller.cacher.repeats import FORGET_AFTER, REMEMBERED, RepeatedRequests
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import CacheRequest
from reconcile.references import parse_image_reference

OF_LRP = CacheRequest(
    AppGuid("app-1"),
    parse_image_reference("team/app:1").canonical(),
    "lrp:p",
    staged_at=0,
    reason=Reason.COPY_VANISHED,
)
OF_DROPLET = replace(OF_LRP, requester="droplet:d")
OF_TASK = replace(OF_LRP, requester="task:t", reason=Reason.STAGING_TASK)
ORDERED = replace(OF_LRP, is_ordered=True)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def pauses(repeats: RepeatedRequests, *requests: CacheRequest) -> list[float]:
    return [repeats.pause(each) for each in requests]


@pytest.mark.parametrize("request_of_pass", [OF_LRP, OF_DROPLET])
def test_the_first_request_does_not_wait_and_each_further_one_waits_longer(
    request_of_pass: CacheRequest,
) -> None:
    first, second, third, *others = pauses(RepeatedRequests(Clock()), *[request_of_pass] * 12)

    assert first == 0.0
    assert 1.0 <= second <= 2.0
    assert 2.0 <= third <= 4.0
    assert 150.0 <= others[-1] <= 300.0


@pytest.mark.parametrize("news", [OF_TASK, ORDERED])
def test_news_never_waits_and_begins_the_count_anew(news: CacheRequest) -> None:
    assert pauses(RepeatedRequests(Clock()), OF_LRP, OF_LRP, news, news, OF_LRP)[2:] == [0.0, 0.0, 0.0]


def test_other_apps_and_other_images_do_not_wait_for_it() -> None:
    other_app = replace(OF_LRP, app_guid=AppGuid("app-2"))
    other_image = replace(OF_LRP, source=parse_image_reference("team/app:2").canonical())

    assert pauses(RepeatedRequests(Clock()), OF_LRP, other_app, other_image) == [0.0, 0.0, 0.0]


def test_a_request_after_a_long_time_counts_as_the_first() -> None:
    clock = Clock()
    repeats = RepeatedRequests(clock)
    repeats.pause(OF_LRP)
    clock.now += FORGET_AFTER + 1.0

    assert repeats.pause(OF_LRP) == 0.0


def test_no_more_requests_are_remembered_than_needed() -> None:
    repeats = RepeatedRequests(Clock())
    for number in range(REMEMBERED + 1):
        repeats.pause(replace(OF_LRP, app_guid=AppGuid(f"app-{number}")))

    assert repeats.pause(replace(OF_LRP, app_guid=AppGuid("app-0"))) == 0.0
