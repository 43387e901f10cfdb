"""The address of the BBS: which are accepted, and that the HTTP client can open those."""

import httpx
import pytest
from hypothesis import example, given
from hypothesis.strategies import from_regex

from controller.bbs.address import check_address
from reconcile.errors import Invalid


def is_accepted(address: str) -> bool:
    try:
        check_address(address)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("https://bbs.service.cf.internal:8889", "bbs.service.cf.internal", 8889),
        ("https://bbs.service.cf.internal:8889/", "bbs.service.cf.internal", 8889),
        ("https://bbs.service.cf.internal.", "bbs.service.cf.internal.", None),
        ("https://BBS_0-a:1", "bbs_0-a", 1),
        ("https://127.0.0.1:65535", "127.0.0.1", 65535),
        ("https://1.2.3.4.example", "1.2.3.4.example", None),
        ("https://1-2-3-4", "1-2-3-4", None),
        ("https://[::1]:8889", "::1", 8889),
        ("https://[::ffff:127.0.0.1]", "::ffff:127.0.0.1", None),
        ("https://bbs.xn--bcher-kva.example:8889", "bbs.xn--bcher-kva.example", 8889),
    ],
)
def test_a_host_is_a_name_or_an_ip_address(address: str, host: str, port: int | None) -> None:
    assert is_accepted(address)
    assert (httpx.URL(address).host, httpx.URL(address).port) == (host, port)


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_is_one_that_can_be_dialled(port: int) -> None:
    assert not is_accepted(f"https://bbs.example:{port}")


@given(from_regex(r"https://(\[[0-9a-f:.%]+\]|[0-9xn\-.]+|\w+)(:[0-9]+)?/?", fullmatch=True))
@example("https://xN--a.example")
@example("https://1.2.3.004")
@example("https://[fe80::1%eth0]:8889")
def test_the_http_client_can_open_what_is_accepted(address: str) -> None:
    if not is_accepted(address):
        return
    url = httpx.URL(address)

    assert (url.scheme, url.path, url.userinfo, url.query) == ("https", "/", b"", b"")
    assert url.host.encode("idna"), "as the resolver is asked"
