"""The image of a canary: a program that really runs, in a layer that nobody holds."""

import platform
import signal
import subprocess
from pathlib import Path

import pytest

from controller.canary_image import make_canary_image
from controller.canary_program import exiting_program, pausing_program
from controller.registry.oci.manifests import parse_document
from controller.registry.oci.platforms import Platform
from reconcile.pull_proof import CanaryKind

runs_here = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the program is for Linux on x86-64",
)


def executable(directory: Path, content: bytes) -> str:
    path = directory / "canary"
    path.write_bytes(content)
    path.chmod(0o755)
    return str(path)


@runs_here
def test_the_program_of_a_task_ends_at_once_without_an_error(servers: None, tmp_path: Path) -> None:
    program = exiting_program()

    assert subprocess.run([executable(tmp_path, program)], check=False, timeout=5).returncode == 0
    assert len(program) == 132


@runs_here
def test_the_program_of_an_lrp_waits_until_it_is_asked_to_end(servers: None, tmp_path: Path) -> None:
    with subprocess.Popen([executable(tmp_path, pausing_program())]) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


def test_no_two_images_share_a_layer() -> None:
    """A cell that holds a layer does not fetch it, and would prove nothing."""
    layers = {make_canary_image(CanaryKind.TASK).manifest.layers[0].digest for _ in range(10)}
    assert len(layers) == 10


@pytest.mark.parametrize("kind", list(CanaryKind))
def test_it_is_an_image_of_a_few_hundred_bytes_that_registries_accept(kind: CanaryKind) -> None:
    image = make_canary_image(kind)

    parsed = parse_document(image.manifest.raw, image.manifest.media_type, "canary")

    assert parsed == image.manifest
    assert {blob.digest for blob in image.blobs} == {blob.digest for blob in image.manifest.blobs()}
    assert sum(map(len, image.blobs.values())) < 1000


def test_it_says_that_it_is_for_the_platform_of_the_cells() -> None:
    image = make_canary_image(CanaryKind.TASK, Platform("linux", "arm64"))
    assert b'"architecture": "arm64"' in image.blobs[image.manifest.config]
