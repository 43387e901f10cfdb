import os
import shutil
from pathlib import Path

import pytest

from tests.deploy.properties import Pems
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


@pytest.fixture
def vcap(tmp_path: Path) -> Path:
    """A directory in place of /var/vcap."""
    return tmp_path / "vcap"
