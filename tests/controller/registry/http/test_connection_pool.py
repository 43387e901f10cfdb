"""Requests over kept and new connections: that none gets another's answer, and that files do not run out."""

import contextlib
import os
import resource
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.registry.http.addresses import AddressRules
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.home import Home
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.settings import TlsFiles
from controller.registry.http.urls import Url, parse_url
from controller.threads import Cancellation
from reconcile.errors import Unavailable
from tests.controller.registry.conftest import PATIENT
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.certificates import Authority
from tests.simulators.registry import Raw, RegistrySimulator
from tests.simulators.registry.store import StoredManifest

pytestmark = pytest.mark.usefixtures("servers")

SAMPLE = images.image([images.layer(1000, 1)])
Served = tuple[RegistrySimulator, Callable[..., tuple[int, bytes]]]
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.fixture(params=["http", "https"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A registry that holds one manifest, and what asks it over kept connections."""
    authority, context = Authority(tmp_path), None
    if request.param == "https":
        pair = authority.server("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
    with registries.serve(tls=context) as registry:
        store_manifest(registry)
        pool = ConnectionPool({}, PATIENT)
        yield registry, lambda url, method="GET": get(pool, url, method, TlsFiles(authority.certificate))
        pool.close()


def store_manifest(registry: RegistrySimulator) -> None:
    manifest = StoredManifest(SAMPLE.manifest.media_type, SAMPLE.manifest.content)
    registry.store.add_manifest("team/app", "1", manifest)


def context(url: Url, files: TlsFiles = TlsFiles()) -> RequestContext:  # noqa: B008 - a frozen value
    return RequestContext(
        Home("r.example", url.origin, files), AddressRules(any_address=True), Cancellation()
    )


def get(
    pool: ConnectionPool,
    text: str,
    method: str = "GET",
    files: TlsFiles = TlsFiles(),  # noqa: B008 - a frozen value
) -> tuple[int, bytes]:
    url, headers = parse_url(text), {"Accept": SAMPLE.manifest.media_type}
    with pool.send(Request(method, url, headers), context(url, files)) as response:
        return response.status, response.read(100_000)


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("GET", b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", (404, b"gone")),
        ("GET", b"HTTP/1.1 404 Not Found\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, (404, b"x" * 5000)),
        (
            "GET",
            b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n",
            (404, b"gone"),
        ),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n", (404, b"")),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    ],
)
def test_what_follows_an_answer_never_answers_the_next_request(
    served: Served, method: str, answer: bytes, expected: tuple[int, bytes]
) -> None:
    registry, ask = served
    url = f"{registry.url}/v2/team/app/manifests/1"
    registry.fail(method, "/manifests/", Raw(answer + FORGED, keeps=True))

    assert ask(url, method) == expected
    assert ask(url) == (200, SAMPLE.manifest.content)
    assert registry.connections == 2


def test_a_connection_with_nothing_behind_the_answer_is_used_again(
    served: Served,
) -> None:
    registry, ask = served
    url = f"{registry.url}/v2/team/app/manifests/1"
    registry.fail("GET", "/manifests/", Raw(FORGED.replace(b"forged", b"itself"), keeps=True))

    assert ask(url) == (200, b"itself")
    for _ in range(3):
        assert ask(url) == (200, SAMPLE.manifest.content)
    assert registry.connections == 1


def test_the_time_limit_of_a_request_holds_while_it_is_connected(silent_port: int) -> None:
    pool = ConnectionPool({}, PATIENT)
    url = parse_url(f"http://127.0.0.1:{silent_port}/v2/")

    with pytest.raises(Unavailable) as refused:
        pool.send(Request("GET", url, total=0.2), context(url))

    assert refused.value.code == "timeout"
    pool.close()


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let no more files be opened than there are."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    opened = list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_idle_connections_give_way_where_no_more_files_can_be_opened() -> None:
    with registries.serve("0.0.0.0") as registry:
        store_manifest(registry)
        port = registry.address.partition(":")[2]
        hosts = [f"127.0.0.{n}:{port}" for n in range(1, 20)]
        pool, other = ConnectionPool({}, PATIENT), ConnectionPool({}, PATIENT)
        for host in hosts[:-1]:
            assert get(pool, f"http://{host}/v2/team/app/manifests/1")[0] == 200

        # First, since the registry closes its ends of connections that have given way at any time.
        with no_more_files(), pytest.raises(Unavailable, match="Too many open files"):
            get(other, f"http://{hosts[0]}/v2/team/app/manifests/1")  # it has no idle ones
        with no_more_files():
            assert get(pool, f"http://{hosts[-1]}/v2/team/app/manifests/1")[0] == 200
        pool.close()
        other.close()
