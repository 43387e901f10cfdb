import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hack.wheels import build_own
from tests.contracts.distribution import free_port
from tests.deploy.properties import Pems, Tree, least, merged
from tests.deploy.source import Source
from tests.simulators.certificates import make_certificates


@pytest.fixture(scope="session", autouse=True)
def ruby() -> None:
    """Need the language of BOSH's templates; without it CI fails and a developer's run skips."""
    if shutil.which("ruby") is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("ruby is not installed")
        pytest.skip("ruby is not installed (Debian package ruby)")


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Pems:
    """Real certificates: `config check` reads them."""
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    return Pems(made.ca.read_text(), made.client.certificate.read_text(), made.client.key.read_text())


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the project's own wheel."""
    directory = tmp_path_factory.mktemp("wheels")
    build_own(directory)
    return directory


@pytest.fixture(scope="session")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH in which the wheel is installed; what it needs is here already."""
    directory = tmp_path_factory.mktemp("installed") / "lib"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    (wheel,) = wheels.iterdir()
    subprocess.run([*command, "--target", directory, wheel], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A copy of the source in which the image was built from packages that were downloaded, once for a run."""
    copied = Source.copied(tmp_path_factory.mktemp("source") / "diego-docker-cache")
    return copied.built()


@pytest.fixture
def own(pems: Pems) -> Tree:
    """Properties of a daemon that needs no other system to live, and has addresses of its own."""
    return merged(
        least(pems),
        {
            "bbs": {"api_location": f"127.0.0.1:{free_port()}"},
            "admin": {"address": f"127.0.0.1:{free_port()}"},
            "healthcheck_address": f"127.0.0.1:{free_port()}",
            "debug_addr": f"127.0.0.1:{free_port()}",
            "drain_timeout_in_seconds": 1,
        },
    )


@pytest.fixture
def vcap(tmp_path: Path) -> Path:
    """A directory in place of /var/vcap."""
    return tmp_path / "vcap"
