from pathlib import Path

import pytest

from controller.capi.client import CloudController
from tests.controller.capi.api import Api, Seen, Tenure, Time, client_of


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def tenure() -> Tenure:
    return Tenure()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@pytest.fixture
def capi(api: Api, secret_file: Path, time: Time, seen: Seen, tenure: Tenure) -> CloudController:
    return client_of(api, secret_file, time=time, observer=seen, tenure=tenure)
