"""When certificates end, for the metric, for `status` and for the log."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from controller.certificate_ends import LOOK_INTERVAL, SAY_INTERVAL, CertificateEnds
from controller.certificate_files import CertificateFile
from controller.process import Process
from tests.simulators.certificates import Authority, Pair

pytestmark = pytest.mark.looptime

NOW = time.time()
METRIC = "docker_cache_certificate_end_timestamp_seconds"


class Scene:
    """Certificates that are watched, with the time of the loop on top of the real one."""

    def __init__(self, now: float, *files: CertificateFile) -> None:
        self.set_back = 0.0
        self.process = Process("run", clock=lambda: now - self.set_back + asyncio.get_running_loop().time())
        self.ends = CertificateEnds(files, process=self.process)
        self._task = asyncio.create_task(self.ends.run())

    def end_of(self, file: CertificateFile) -> float | None:
        return self.process.metrics.registry.get_sample_value(METRIC, {"file": file.name})

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def certificate(pair: Pair, name: str = "bbs_client_cert_file") -> CertificateFile:
    return CertificateFile(name, pair.certificate, "key", pair.key)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return [
        line["data"]["detail"] for line in lines if line["message"].endswith("found-certificate-near-its-end")
    ]


async def test_a_certificate_with_time_left_is_a_metric_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = certificate(Authority(tmp_path).client("x", days=90))
    scene = Scene(NOW, file)
    await asyncio.sleep(1)

    end = scene.end_of(file)
    assert end is not None
    assert 89 < (end - NOW) / 86400 < 91
    assert scene.ends.warnings == ()
    assert said(capsys) == []
    await scene.stop()


async def test_of_several_authorities_the_last_end_counts_and_of_a_chain_the_first(tmp_path: Path) -> None:
    """An authority's successor is put beside it, and then it may end."""
    soon = Authority(tmp_path / "old").client("x", days=3)
    late = Authority(tmp_path / "new").client("x", days=90)
    both = tmp_path / "both.crt"
    both.write_bytes(late.certificate.read_bytes() + soon.certificate.read_bytes())
    authorities, chain = CertificateFile("bbs_ca_cert_file", both), certificate(Pair(both, late.key))
    scene = Scene(NOW, authorities, chain)
    await asyncio.sleep(1)

    last, first = scene.end_of(authorities), scene.end_of(chain)
    assert last is not None
    assert first is not None
    assert 89 < (last - NOW) / 86400 < 91
    assert 2 < (first - NOW) / 86400 < 4
    await scene.stop()


async def test_one_that_ends_soon_is_told_once_a_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(NOW, certificate(Authority(tmp_path).client("x", days=10)))
    await asyncio.sleep(SAY_INTERVAL - LOOK_INTERVAL)

    (warning,) = scene.ends.warnings
    assert warning.startswith("bbs_client_cert_file: 9 days left, ends on ")
    assert len(said(capsys)) == 1

    await asyncio.sleep(2 * LOOK_INTERVAL)
    assert len(said(capsys)) == 1
    await scene.stop()


async def test_one_is_told_of_again_after_the_clock_was_set_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(NOW, certificate(Authority(tmp_path).client("x", days=-1)))
    await asyncio.sleep(1)
    assert len(said(capsys)) == 1

    scene.set_back = 2 * LOOK_INTERVAL
    await asyncio.sleep(LOOK_INTERVAL)

    assert len(said(capsys)) == 1
    await scene.stop()


async def test_one_that_has_ended_says_so(tmp_path: Path) -> None:
    scene = Scene(NOW, certificate(Authority(tmp_path).client("x", days=-1)))
    await asyncio.sleep(1)

    (warning,) = scene.ends.warnings
    assert warning.startswith("bbs_client_cert_file: expired on ")
    await scene.stop()


async def test_one_that_is_replaced_in_time_is_told_of_no_longer(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    file = certificate(authority.client("x", days=10))
    scene = Scene(NOW, file)
    await asyncio.sleep(1)
    before = scene.ends.warnings
    await asyncio.to_thread(authority.client, "x", days=400)
    await asyncio.sleep(LOOK_INTERVAL)

    assert len(before) == 1
    assert scene.ends.warnings == ()
    end = scene.end_of(file)
    assert end is not None
    assert (end - NOW) / 86400 > 390
    await scene.stop()


async def test_a_file_that_cannot_be_read_keeps_what_was_known(tmp_path: Path) -> None:
    pair = Authority(tmp_path).client("x", days=10)
    scene = Scene(NOW, certificate(pair))
    await asyncio.sleep(1)
    await asyncio.to_thread(pair.certificate.write_text, "nothing")
    await asyncio.sleep(LOOK_INTERVAL)

    assert len(scene.ends.warnings) == 1
    await scene.stop()


async def test_what_only_commands_read_is_not_watched(tmp_path: Path) -> None:
    pair = Authority(tmp_path).client("x", days=10)
    scene = Scene(NOW, CertificateFile("admin_client_cert_file", pair.certificate, is_for_commands=True))
    await asyncio.sleep(1)

    assert scene.ends.warnings == ()
    await scene.stop()
