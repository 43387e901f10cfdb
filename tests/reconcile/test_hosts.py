"""One host has one form, however it is spelled, and everything that compares hosts compares these."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import Invalid
from reconcile.hosts import canonical_host
from reconcile.policy import Policy, refusal_of
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, CacheRepositories, parse_image_reference
from reconcile.staging import OwnerChoice

GUID = CacheGuid("9f0a1b2c-3d4e-4f5a-8b6c-7d8e9f0a1b2c")

FORMS = [
    ("registry.example", "registry.example"),
    ("Registry.EXAMPLE", "registry.example"),
    ("registry.example.", "registry.example"),
    ("registry.example:443", "registry.example"),
    ("registry.example.:443", "registry.example"),
    ("registry.example:0443", "registry.example"),
    ("registry.example:000000443", "registry.example"),
    ("registry.example:05000", "registry.example:5000"),
    ("registry.example:0", "registry.example:0"),
    ("registry.example:80", "registry.example:80"),
    ("registry.example:4430", "registry.example:4430"),
    ("docker.io", "docker.io"),
    ("docker.io:443", "docker.io"),
    ("DOCKER.IO:0443", "docker.io"),
    ("index.docker.io", "docker.io"),
    ("registry-1.docker.io", "docker.io"),
    ("registry-1.docker.io.:443", "docker.io"),
    ("registry.hub.docker.com", "docker.io"),
    ("docker.io:5000", "docker.io:5000"),
    ("hub.docker.com", "hub.docker.com"),
    ("localhost", "localhost"),
    ("localhost:443", "localhost"),
    ("registry:443", "registry:443"),  # without its port, a namespace of Docker Hub
    ("registry:0443", "registry:443"),
    ("REGISTRY:5000", "registry:5000"),
    ("10.0.0.1", "10.0.0.1"),
    ("10.1:5000", "10.0.0.1:5000"),
    ("0xa.0.0.1", "10.0.0.1"),
    ("012.0.0.1:443", "10.0.0.1"),
    ("0x0a000001:5000", "10.0.0.1:5000"),
    ("167772161:5000", "10.0.0.1:5000"),
    ("1.2.3.256", "1.2.3.256"),
    ("1.2.3.4.5", "1.2.3.4.5"),
    ("089.1", "089.1"),
    ("[::1]", "[::1]"),
    ("[::1]:443", "[::1]"),
    ("[0:0::1]:5000", "[::1]:5000"),
    ("[2001:DB8::0001]:0443", "[2001:db8::1]"),
    ("[odd]:1", "[odd]:1"),
    ("", "docker.io"),
]


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_every_spelling_of_a_host_has_the_same_form(text: str, form: str) -> None:
    assert canonical_host(text) == form


@given(st.text(alphabet="aA0179x.:[]-\u00e9\u0130", max_size=40))
def test_a_form_has_no_other_form(text: str) -> None:
    form = canonical_host(text)

    assert canonical_host(form) == form


def test_what_is_too_long_for_a_host_is_not_kept() -> None:
    assert canonical_host("A" * 100_000) == "a" * 100_000


# Policy

EVIL = [
    "registry.example/evil/x",
    "registry.example:443/evil/x",
    "registry.example:0443/evil/x",
    "registry.example:00000000443/evil/x:2",
    "REGISTRY.example/evil/x",
    "Registry.Example:443/evil/x",
]


def refusal(image: str, policy: Policy, cache: str = "cache.example:8080") -> Reason | None:
    return refusal_of(
        policy,
        image=parse_image_reference(image),
        owner_choice=OwnerChoice.NONE,
        cache=CacheRepositories(cache),
    )


@pytest.mark.parametrize("image", EVIL)
@pytest.mark.parametrize(
    "pattern", ["registry.example/evil/*", "registry.example:443/evil/*", "*:443/evil/*", "*.example/evil/*"]
)
def test_a_denied_host_is_denied_in_every_spelling(image: str, pattern: str) -> None:
    assert refusal(image, Policy(deny=(pattern,))) is Reason.DENIED


@pytest.mark.parametrize(
    "image",
    [
        "evil/x",
        "docker.io/evil/x",
        "docker.io:443/evil/x",
        "Docker.IO:0443/evil/x",
        "index.docker.io/evil/x",
        "registry-1.docker.io/evil/x",
        "registry-1.docker.io:443/evil/x",
        "registry.hub.docker.com/evil/x",
    ],
)
def test_docker_hub_is_denied_under_each_of_its_names(image: str) -> None:
    assert refusal(image, Policy(deny=("docker.io/evil/*",))) is Reason.DENIED
    assert refusal(image, Policy(allow=("docker.io/good/*",))) is Reason.NOT_ALLOWED
    assert refusal(image, Policy(allow=("docker.io/evil/*",))) is None


def test_an_official_image_is_one_under_each_name_of_docker_hub() -> None:
    assert refusal("docker.io:443/nginx", Policy(deny=("docker.io/library/*",))) is Reason.DENIED
    assert refusal("registry.hub.docker.com/nginx", Policy(deny=("docker.io/library/*",))) is Reason.DENIED


@pytest.mark.parametrize("image", ["10.1/x/y", "0xa.0.0.1/x/y", "012.0.0.1:443/x/y"])
def test_an_address_is_denied_in_every_spelling(image: str) -> None:
    assert refusal(image, Policy(deny=("10.0.0.1/*",))) is Reason.DENIED


def test_another_port_is_another_registry() -> None:
    assert refusal("registry.example:5000/evil/x", Policy(deny=("registry.example/evil/*",))) is None
    assert refusal("registry.example/evil/x", Policy(deny=("registry.example:5000/evil/*",))) is None


def test_a_pattern_for_a_host_that_no_image_has_is_still_refused() -> None:
    for pattern in ("index.docker.io/*", "Registry.example/*", "registry.example:0443/*"):
        with pytest.raises(Invalid, match="matches nothing"):
            Policy(deny=(pattern,))


# The private registry


@pytest.mark.parametrize(
    ("address", "image"),
    [
        ("cache.example", f"cache.example:443/{GUID}"),
        ("cache.example", f"Cache.Example:0443/{GUID}"),
        ("cache.example:443", f"cache.example/{GUID}"),
        ("cache.example:8080", f"cache.example:08080/{GUID}"),
        ("CACHE.example:8080", f"cache.example:8080/{GUID}"),
        ("10.0.0.1:8080", f"10.1:8080/{GUID}"),
    ],
)
def test_the_private_registry_is_ours_in_every_spelling(address: str, image: str) -> None:
    cache, reference = CacheRepositories(address), parse_image_reference(image)

    assert cache.owns(reference)
    assert cache.guid_of(reference) == GUID
    assert refusal(image, Policy(), address) is Reason.ALREADY_CACHED


def test_a_former_private_registry_is_ours_in_every_spelling() -> None:
    old = CacheRepositories("old.example")
    cache = CacheRepositories("cache.example:8080", former=(old,))

    assert cache.former_of(parse_image_reference(f"old.example:443/{GUID}")) == old
    assert cache.of_registry("OLD.example:0443") == old


def test_a_copy_keeps_the_spelling_that_cells_know() -> None:
    assert (
        str(CacheRepositories("cache.example:443").rootfs(GUID))
        == f"docker://cache.example:443/{GUID}#latest"
    )


@pytest.mark.parametrize("address", ["docker.io:443", "registry.hub.docker.com", "registry-1.docker.io:0443"])
def test_docker_hub_is_no_private_registry_under_any_name(address: str) -> None:
    with pytest.raises(Invalid, match="not read as a private registry"):
        CacheRepositories(address)


def test_references_to_one_image_are_equal_in_every_spelling() -> None:
    found = {parse_image_reference(text).canonical() for text in EVIL if text.endswith("x")}

    assert found == {parse_image_reference("registry.example/evil/x:latest")}
    # What a record holds of it is read as the same image again.
    assert parse_image_reference(str(found.pop())).repository == "registry.example/evil/x"
    assert parse_image_reference(str(parse_image_reference("host:443/a").canonical())).domain == "host:443"
