"""What registries challenge at the base of their API: asked seldom, by one thread, and not kept for ever."""

import pytest

from controller.registry.auth.challenges import BasicChallenge, Challenge
from controller.registry.auth.hidden_challenges import HiddenChallenges
from controller.registry.http.urls import Url, parse_url
from reconcile.errors import Unavailable


class Base:
    """The base of a registry's API, and a clock."""

    def __init__(self, answer: Challenge | Exception | None) -> None:
        self.answer, self.now, self.asked = answer, 0.0, 0
        self.challenges = HiddenChallenges(lambda: self.now)

    def ask(self) -> Challenge | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def find(self, url: Url | None = None) -> Challenge | None:
        return self.challenges.find(url or parse_url("https://r.example/v2/"), self.ask)


@pytest.mark.parametrize("answer", [None, BasicChallenge()])
def test_an_answer_counts_for_ten_minutes(answer: Challenge | None) -> None:
    base = Base(answer)

    assert [base.find(), base.find()] == [answer, answer]
    assert base.asked == 1
    base.now += 601.0
    base.find()

    assert base.asked == 2


def test_a_failure_counts_for_half_a_minute() -> None:
    base = Base(Unavailable("registry", "timeout", "r.example"))

    assert [base.find(), base.find()] == [None, None]
    assert base.asked == 1
    base.answer, base.now = BasicChallenge(), 31.0

    assert base.find() == BasicChallenge()


def test_the_registries_that_are_remembered_are_bounded() -> None:
    base = Base(None)

    for n in range(3000):
        base.find(parse_url(f"https://r{n}.example/v2/"))

    assert len(base.challenges._known) <= 1000
