"""Who may share content: trust domains, and what is known in them."""

import pytest

from reconcile.lrps import Credentials, Secret
from reconcile.references import ImageReference, parse_image_reference
from reconcile.trust import (
    NO_LOGIN,
    UNKNOWN_LOGIN,
    ContentStanding,
    Reader,
    ShareContent,
    Sharing,
    TrustDomain,
    may_join,
    standing_of,
)

KEY, NEW_KEY = b"k" * 32, b"n" * 32
LOGIN = Credentials("robot", Secret("marker-password"))
HUB = parse_image_reference("library/ubuntu:1").canonical()
SAME_HOST = parse_image_reference("bitnami/redis:7").canonical()
ELSEWHERE = parse_image_reference("evil.example/library/ubuntu:1").canonical()


def reader(
    source: ImageReference = HUB,
    organization: str = "org-1",
    credentials: Credentials | None = None,
    *,
    share: ShareContent = ShareContent.REGISTRY,
) -> Reader:
    return Sharing(share, (KEY,)).reader(source, organization, credentials)


@pytest.mark.parametrize(
    ("share", "same_host", "same_organization", "neither"),
    [
        (ShareContent.REGISTRY, True, False, False),
        (ShareContent.ORGANIZATION, False, True, False),
        (ShareContent.ALL, True, True, True),
    ],
)
def test_a_trust_domain_is_a_registry_an_organization_or_the_platform(
    share: ShareContent,
    same_host: bool,  # noqa: FBT001 - parameters of pytest
    same_organization: bool,  # noqa: FBT001
    neither: bool,  # noqa: FBT001
) -> None:
    first = reader(share=share)

    assert (reader(SAME_HOST, "org-2", share=share).domain == first.domain) is same_host
    assert (reader(ELSEWHERE, "org-1", share=share).domain == first.domain) is same_organization
    assert (reader(ELSEWHERE, "org-2", share=share).domain == first.domain) is neither


@pytest.mark.parametrize(
    ("login", "logins", "standing"),
    [
        ("mine", {NO_LOGIN}, ContentStanding.PROVEN),
        ("mine", {"mine"}, ContentStanding.PROVEN),
        ("mine", {"theirs", NO_LOGIN}, ContentStanding.PROVEN),
        (NO_LOGIN, {NO_LOGIN}, ContentStanding.PROVEN),
        ("mine", {"theirs"}, ContentStanding.SHARED),
        (NO_LOGIN, {"theirs"}, ContentStanding.SHARED),
        (NO_LOGIN, {UNKNOWN_LOGIN}, ContentStanding.SHARED),
        ("mine", set(), ContentStanding.FOREIGN),
        (NO_LOGIN, set(), ContentStanding.FOREIGN),
    ],
)
def test_what_was_read_without_a_login_is_public_in_its_domain_and_the_rest_is_each_logins_own(
    login: str, logins: set[str], standing: ContentStanding
) -> None:
    assert standing_of(Reader(TrustDomain("registry docker.io"), (login,)), logins) is standing


def test_a_copy_that_was_made_from_a_registry_is_shared_in_it_although_nobody_noted_a_login() -> None:
    assert standing_of(reader(), (), is_of_host=True) is ContentStanding.SHARED
    assert (
        standing_of(reader(share=ShareContent.ORGANIZATION), (), is_of_host=True) is ContentStanding.FOREIGN
    )


def test_where_everybody_trusts_everybody_an_answer_of_the_source_is_always_enough() -> None:
    assert standing_of(reader(ELSEWHERE, "org-2", share=ShareContent.ALL), ()) is ContentStanding.SHARED


def test_a_login_is_kept_as_a_hash_that_only_its_key_its_host_and_its_parts_give() -> None:
    hashed = reader(credentials=LOGIN)

    assert hashed == reader(SAME_HOST, "org-2", credentials=LOGIN)
    others = [
        reader(ELSEWHERE, credentials=LOGIN),
        reader(credentials=Credentials("robot", Secret("other"))),
        reader(credentials=Credentials("robotmarker", Secret("-password"))),
        Sharing(ShareContent.REGISTRY, (NEW_KEY,)).reader(HUB, "", LOGIN),
        reader(),
    ]
    assert hashed.login not in {each.login for each in others}
    assert "marker-password" not in repr(hashed)
    assert len(hashed.login) == 64


def test_a_key_that_was_rotated_still_recognizes_what_was_read_before() -> None:
    before = reader(credentials=LOGIN)
    rotated = Sharing(ShareContent.REGISTRY, (NEW_KEY, KEY)).reader(HUB, "", LOGIN)

    assert rotated.login != before.login
    assert standing_of(rotated, {before.login}) is ContentStanding.PROVEN


def test_a_login_that_no_text_encoding_knows_is_hashed_too() -> None:
    assert len(reader(credentials=Credentials("\udcff", Secret("\ud800"))).login) == 64


def test_nobody_waits_for_a_transfer_of_another_domain_or_another_login() -> None:
    mine = reader(credentials=LOGIN)

    assert may_join(mine, reader(SAME_HOST, "org-2", credentials=LOGIN))
    assert not may_join(mine, reader())
    assert not may_join(reader(), reader(ELSEWHERE))


def test_keys_show_in_no_text() -> None:
    assert "kkkk" not in repr(Sharing(ShareContent.REGISTRY, (KEY,)))
