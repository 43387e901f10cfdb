"""Which image texts may be written into droplets, and what Cloud Controller would make of them.

The rows are those of the code of Cloud Controller, run on each text (lib/utils/uri_utils.rb and
lib/cloud_controller/diego/docker/docker_uri_converter.rb).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.droplet_texts import MAX_TEXT, check_text, image_of_text, text_of_copy
from reconcile.errors import Invalid
from reconcile.references import CacheGuid, CacheRepositories, parse_image_reference, rootfs_from_image_text

GUID = CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77")
HEX = "0123456789abcdef" * 4
SHA256, SHA512 = "f" * 64, "f" * 128

SAME_IMAGE = (
    "ubuntu:22.04",
    "library/ubuntu",
    "docker.io/library/ubuntu:22.04",
    "registry-1.docker.io/library/ubuntu",
    "library/foo/bar",
    "store/foo/bar",
    "test_com",
    "test.com:tag",
    "test.com/repo:tag",
    "test:5000/repo",
    f"test:5000/repo@sha256:{SHA256}",
    f"test:5000/repo:tag@sha256:{SHA256}",
    f"user/image:tag@sha256:{HEX}",
    f"ubuntu:22.04@sha256:{HEX}",
    "sub-dom1.foo.com/bar/baz/quux",
    "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
    "xn--n3h.com/myimage:xn--n3h.com",
)
OLD_HOST_OF_DOCKER_HUB = ("index.docker.io/library/ubuntu", "index.docker.io/fooo/bar")
NO_IMAGE = (
    "",
    ":justtag",
    f"@sha256:{SHA256}",
    "-foo.com/bar",
    "foo-.com/bar",
    "[2001:db8:3:4::192.0.2.33]:5000/debian",
    "[2001:db8::1.2.3.4]/repo",
    "-docker",
    "-docker/docker",
    "docker/",
    "/docker",
    "docker.io/",
    "docker.io/docker///docker",
    "dock___er/docker",
    "dock..er/docker",
    "dock-.er/docker",
    "docker-/docker",
    "_docker/_docker",
    "repo:.tag",
    "registry.example.com./app",
    "host:80a/app",
    "my_registry:5000/app",
)
"""Cloud Controller makes a rootfs of each, and no registry can have such an image."""
REFUSED_ALTHOUGH_IMAGES = (
    f"repo@sha512:{SHA512}",
    "Docker/docker",
    "DOCKER/docker",
    "LOCALDOMAIN/debian",
    "a.b/c",
)
REFUSED = (
    "   ",
    f"validname@invaliddigest:{SHA256}",
    f"repo@sha512:{SHA256}",
    "Uppercase:tag",
    "docker://busybox",
    "https://registry.example/team/app",
    "busybox:",
    "busybox@sha256:abc",
    "registry.example.com/Team/app",
    "registry.example.com/a",
)


@pytest.mark.parametrize("text", SAME_IMAGE)
def test_a_text_that_both_read_alike_may_be_written(text: str) -> None:
    check_text(text)

    assert image_of_text(text) == parse_image_reference(text).canonical()


@pytest.mark.parametrize("text", OLD_HOST_OF_DOCKER_HUB)
def test_the_old_host_of_docker_hub_names_the_same_image_though_another_rootfs(text: str) -> None:
    check_text(text)

    assert image_of_text(text) == parse_image_reference(text).canonical()


@pytest.mark.parametrize("text", NO_IMAGE)
def test_a_text_that_cloud_controller_takes_and_no_registry_knows_is_not_written(text: str) -> None:
    assert rootfs_from_image_text(text).is_docker

    with pytest.raises(Invalid):
        check_text(text)
    assert image_of_text(text) is None


@pytest.mark.parametrize("text", [*REFUSED, *REFUSED_ALTHOUGH_IMAGES])
def test_a_text_of_which_cloud_controller_makes_no_rootfs_is_never_written(text: str) -> None:
    """Trap 8: one droplet with such a text keeps the whole domain from being fresh."""
    with pytest.raises(Invalid):
        check_text(text)
    assert image_of_text(text) is None


def test_an_at_sign_before_a_tag_is_read_as_cloud_controller_reads_it() -> None:
    """It takes what follows the sign for a tag, although Docker knows digests alone there."""
    for text in ("repo@tag", "repo@sha256"):
        check_text(text)
        assert image_of_text(text) == parse_image_reference(f"library/repo:{text[5:]}").canonical()


def test_what_follows_a_tag_with_a_slash_is_thrown_away() -> None:
    named = image_of_text("registry.example.com/p/a:v1/x")

    assert named == parse_image_reference("registry.example.com/p/a:latest").canonical()


@pytest.mark.parametrize("text", [None, "x" * (MAX_TEXT + 1)])
def test_no_text_and_an_endless_one_name_nothing(text: str | None) -> None:
    assert image_of_text(text) is None


def test_a_text_fits_the_column_of_cloud_controller() -> None:
    """Trap 7: MySQL would cut it, or refuse it."""
    host = "registry.example.com/"
    check_text(host + "a" * (MAX_TEXT - len(host)))

    with pytest.raises(Invalid, match="256 characters: at most 255"):
        check_text(host + "a" * (MAX_TEXT - len(host) + 1))


@pytest.mark.parametrize("template", ["{guid}:latest", "docker-cache:{guid}", "{guid}", "library/{guid}:v1"])
@pytest.mark.parametrize(
    "address", ["10.0.16.7:8080", "image-cache.service.cf.internal:8080", "localhost:5000"]
)
def test_the_name_of_a_copy_may_be_written_and_leads_back_to_it(address: str, template: str) -> None:
    """Trap 7: UUIDs satisfy the path rule of Cloud Controller."""
    cache = CacheRepositories(address, template)

    text = text_of_copy(cache, GUID)

    named = image_of_text(text)
    assert named is not None
    assert cache.guid_of(named) == GUID


def test_the_name_of_a_copy_that_is_too_long_is_not_written() -> None:
    cache = CacheRepositories("registry.example.com:5000", "a/" * 100 + "{guid}:latest")

    with pytest.raises(Invalid, match="at most 255"):
        text_of_copy(cache, GUID)


@pytest.mark.parametrize("scheme", ["", "https://"])
def test_a_text_with_a_login_is_refused_without_showing_it(scheme: str) -> None:
    text = f"{scheme}robot:marker-password@registry.example/team/app"
    with pytest.raises(Invalid) as caught:
        check_text(text)

    assert "marker-password" not in str(caught.value)
    assert image_of_text(text) is None


@given(st.text(alphabet="aZ/:@.-_#?% \n0f\x00é", max_size=40) | st.text(max_size=300))
def test_whatever_the_text_it_is_read_or_refused(text: str) -> None:
    try:
        check_text(text)
    except Invalid:
        assert image_of_text(text) is None
    else:
        image = image_of_text(text)
        assert image is not None
        assert image == image.canonical()
