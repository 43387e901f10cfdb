import http.client
import json
from collections.abc import Callable

import pytest

from controller.health_server import HealthAnswers, serve_health
from controller.metrics.instance import SelfCheck
from controller.self_checks import Unwell
from reconcile.errors import Invalid

pytestmark = pytest.mark.usefixtures("servers")


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_standby_lives_and_is_not_ready() -> None:
    with serve_health("127.0.0.1:0", HealthAnswers(lambda: "it stands by: instance a is active")) as port:
        assert ask(port, "/ping") == (200, "alive\n")
        assert ask(port, "/ready") == (503, "it stands by: instance a is active\n")


def test_the_active_instance_is_ready() -> None:
    with serve_health("127.0.0.1:0", HealthAnswers(str)) as port:
        assert ask(port, "/ready?from=check") == (200, "active\n")
        assert ask(port, "/ready", "HEAD") == (200, "")


def test_other_paths_and_methods_are_refused() -> None:
    with serve_health("127.0.0.1:0", HealthAnswers(str)) as port:
        assert ask(port, "/")[0] == 404
        assert ask(port, "/ready", "POST")[0] == 501


def test_readiness_is_asked_for_at_each_check() -> None:
    answers = iter(["it is starting", ""])
    obstacle: Callable[[], str] = lambda: next(answers)  # noqa: E731 - a stub
    with serve_health("127.0.0.1:0", HealthAnswers(obstacle)) as port:
        assert [ask(port, "/ready")[0] for _ in range(2)] == [503, 200]


def test_an_address_in_use_is_refused() -> None:
    with (
        serve_health("127.0.0.1:0", HealthAnswers(str)) as port,
        pytest.raises(Invalid, match="healthcheck_address: cannot listen on"),
        serve_health(f"127.0.0.1:{port}", HealthAnswers(str)),
    ):
        pass


def test_what_is_unwell_is_listed_with_reasons() -> None:
    found = [Unwell(SelfCheck.BBS, 1_700_000_000.5, "its events are not followed")]
    with serve_health("127.0.0.1:0", HealthAnswers(str, lambda: found)) as port:
        status, text = ask(port, "/health")

        assert (status, json.loads(text)) == (
            503,
            {
                "unwell": [
                    {"check": "bbs", "since": "2023-11-14T22:13:20Z", "reason": "its events are not followed"}
                ]
            },
        )
        assert ask(port, "/ping")[0] == ask(port, "/ready")[0] == 200, "a restart mends nothing"

        found.clear()

        assert ask(port, "/health") == (200, '{"unwell": []}\n')
