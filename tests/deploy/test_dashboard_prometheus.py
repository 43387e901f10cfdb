"""The dashboard on a real Prometheus."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.alerts import JOB, RULES
from hack.grafana.description import read_description
from hack.grafana.document import grafana_document
from hack.grafana.prometheus import Prometheus, QueryFailed, is_installed, run_prometheus
from hack.grafana.text import PanelQueries, show
from tests.contracts.distribution import free_port
from tests.documents import ROOT, blocks_run_by

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """Have one that scrapes an instance that does not answer."""
    if not is_installed():
        assert os.environ.get("CI") != "true", "prometheus is not installed"
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    with run_prometheus(tmp_path, {"first": f"127.0.0.1:{free_port()}"}, job=JOB, rules=RULES) as running:
        yield running


def test_it_evaluates_every_query_and_says_that_nobody_answers(prometheus: Prometheus) -> None:
    end = time.monotonic() + 60.0
    while not prometheus.ask("up == 0", time.time()):
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(QueryFailed, match="parse error"):
        prometheus.ask("up{", time.time())

    text = show(grafana_document(read_description()), PanelQueries(prometheus, JOB, time.time(), 20.0))

    assert "Are they safe?: [purple] Nobody knows" in text
    assert "[red] critical  No instance of the daemon" in text
    assert "█|  No instance of the daemon answers" in text
    assert "  first     [red] no" in text


def test_it_is_shown_without_grafana_as_the_page_says(prometheus: Prometheus) -> None:
    ((words,),) = ([shlex.split(line) for line in block.commands] for block in blocks_run_by(__file__))
    typed = [prometheus.url if word.startswith("http://") else word for word in words]

    shown = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)

    assert shown.returncode == 0, shown.stderr
    assert words[-1] in shown.stdout
