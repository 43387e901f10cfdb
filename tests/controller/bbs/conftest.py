import ssl

import pytest

from controller.transport import client_tls
from tests.simulators.certificates import Certificates, make_certificates, server_context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server_tls(certificates: Certificates) -> ssl.SSLContext:
    return server_context(certificates.ca, certificates.server)


@pytest.fixture(scope="session")
def tls(certificates: Certificates) -> ssl.SSLContext:
    pair = certificates.client
    return client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)
