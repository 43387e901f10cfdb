"""Runs the documented commands that install the program, and those that collect what the BOSH release installs."""

from pathlib import Path

import pytest

from controller import __version__
from tests.deploy.source import Source
from tests.documents import Block, blocks_run_by

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("servers"), pytest.mark.timeout(600)]

PACKAGES, PROGRAMS = "/var/vcap/packages/", "/usr/local/bin/"
INSTALLING = {
    block.text: block for block in blocks_run_by(__file__) if "/bin/pip wheel" in block.text
}.values()
"""Those that say the same are one."""


def test_all_are_run_here() -> None:
    (others,) = (
        block for block in blocks_run_by(__file__) if block.text not in {each.text for each in INSTALLING}
    )

    assert others.commands == ("hack/bosh-packages",)
    assert len(INSTALLING) > 1  # one installs, one upgrades


@pytest.fixture
def clone(tmp_path: Path) -> Source:
    return Source.copied(tmp_path / "clone")


@pytest.mark.parametrize("block", INSTALLING, ids=lambda block: block.where)
def test_the_program_is_installed(block: Block, clone: Source, tmp_path: Path) -> None:
    packages, programs = tmp_path / "packages", tmp_path / "bin"
    programs.mkdir()

    for command in block.commands:
        clone.type(command.replace(PACKAGES, f"{packages}/").replace(PROGRAMS, f"{programs}/"))

    (program,) = programs.iterdir()
    assert clone.type(f"{program} --version") == f"diego-docker-cache, version {__version__}\n"
    assert program.resolve().is_relative_to(packages)


def test_the_packages_of_the_bosh_release_are_collected(clone: Source) -> None:
    assert "wheels for Python" in clone.type("hack/bosh-packages")

    collected = clone.directory / "deploy" / "bosh" / "src" / "docker_cache"
    lines = (collected / "requirements.txt").read_text().splitlines()
    assert len(lines) == len([*(collected / "wheels").iterdir()])
    assert f"diego-docker-cache=={__version__}" in {
        line.partition(" ")[0].replace("_", "-") for line in lines
    }
